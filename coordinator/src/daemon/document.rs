//! Keeps the document of a job for those who follow it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use fleet::state::{DOCUMENT_BYTES_MAX, StateError};
use proto::follow::{FailureClass, JobDocument, JobFailure, JobKind, JobPhase, JobProgress};
use proto::handles::UnixTime;
use proto::id::JobId;
use proto::job::{JobOutcome, Submission};
use tokio::sync::watch;

use super::Desk;
use crate::heartbeat::HEARTBEAT_EVERY;
use crate::job::Progress;
use crate::record::ResultRecord;

/// A document is written no more often.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// And at least so often: a job state that was lost has it again.
const WRITTEN_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Ends of jobs that are kept.
const ENDED_KEPT: usize = 32;

/// How often the end of a job is tried to be written.
const LAST_TRIES_MAX: usize = 10;

/// One job as others see it while it is led.
pub(super) struct Board<'a> {
    desk: &'a Desk,
    submission: &'a Submission,
    /// How far it is.
    pub(super) progress: watch::Sender<Progress>,
    is_running: AtomicBool,
    started_at: UnixTime,
}

impl<'a> Board<'a> {
    pub(super) fn new(desk: &'a Desk, submission: &'a Submission) -> Self {
        let started_at = desk.doors.clock.now();
        Self { desk, submission, progress: watch::Sender::default(), is_running: AtomicBool::new(false), started_at }
    }

    /// It has its turn.
    pub(super) fn begin(&self) {
        self.is_running.store(true, Ordering::Relaxed);
        self.progress.send_modify(|_| {}); // so that it is written soon
    }

    /// Writes the document again and again; also under the names under which the job goes on.
    pub(super) async fn publish(&self) -> Infallible {
        let (clock, mut progress) = (&self.desk.doors.clock, self.progress.subscribe());
        let mut job = self.submission.job.clone();
        loop {
            while let Some(by) = self.desk.leadership.successor(&job) {
                self.desk.put_document(&superseded(self.document(job, JobPhase::Superseded), by.clone())).await;
                self.desk.note_job(&by).await;
                job = by;
            }
            let phase = if self.is_running.load(Ordering::Relaxed) { JobPhase::Running } else { JobPhase::Queued };
            self.desk.put_document(&self.document(job.clone(), phase)).await;
            clock.sleep(WRITTEN_EVERY).await;
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                () = clock.sleep(WRITTEN_AGAIN_AFTER) => {}
            }
        }
    }

    /// The document now.
    pub(super) fn document(&self, job: JobId, state: JobPhase) -> JobDocument {
        let progress = self.progress.borrow();
        let is_running = self.is_running.load(Ordering::Relaxed);
        JobDocument {
            job,
            state,
            coordinator: Some(self.desk.leadership.coordinator().clone()),
            progress: JobProgress {
                started_at: is_running.then_some(self.started_at),
                entries: progress.entries,
                bytes_done: progress.bytes_done,
                bytes_total: progress.bytes_total,
                bytes_read: progress.bytes_read,
                bytes_stored: progress.bytes_stored,
                tasks_done: progress.tasks_done,
                tasks_open: progress.tasks_open,
            },
            ..JobDocument::queued(self.submission, self.desk.doors.clock.now())
        }
    }
}

fn superseded(document: JobDocument, by: JobId) -> JobDocument {
    JobDocument { state: JobPhase::Superseded, superseded_by: Some(by), ..document }
}

/// What is shown of a job that has ended.
pub(super) fn of_result(document: JobDocument, result: ResultRecord) -> JobDocument {
    let failed = |class, message| Some(JobFailure { class, message });
    match result.outcome {
        JobOutcome::Done { .. } | JobOutcome::Restored | JobOutcome::Checked => {
            JobDocument { state: JobPhase::Done, result: result.summary, ..document }
        }
        JobOutcome::Failed { reason } => {
            let failure = failed(result.class.unwrap_or(FailureClass::Failed), reason);
            JobDocument { state: JobPhase::Failed, failure, ..document }
        }
        JobOutcome::Cancelled => {
            let failure = failed(FailureClass::Cancelled, "the job was cancelled".to_owned());
            JobDocument { state: JobPhase::Cancelled, failure, ..document }
        }
        JobOutcome::Superseded { by } => superseded(document, by),
    }
}

/// What is shown of a submission that nobody will carry out.
pub(super) fn refused(submission: &Submission, why: String, now: UnixTime) -> JobDocument {
    let failure = Some(JobFailure { class: FailureClass::Usage, message: why });
    JobDocument { state: JobPhase::Failed, failure, ..JobDocument::queued(submission, now) }
}

/// The same of one that cannot even be read.
pub(super) fn refused_unread(job: JobId, why: String, now: UnixTime) -> JobDocument {
    JobDocument {
        job,
        kind: JobKind::Other,
        about: String::new(),
        pool: String::new(),
        submitted_at: now,
        updated_at: now,
        coordinator: None,
        state: JobPhase::Failed,
        progress: JobProgress::default(),
        superseded_by: None,
        result: None,
        failure: Some(JobFailure { class: FailureClass::Usage, message: why }),
    }
}

/// The last documents of the jobs that ended last: a job state that was emptied gets them again.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<JobDocument>);

impl Ended {
    fn add(&mut self, document: JobDocument) {
        self.0.retain(|ended| ended.job != document.job);
        self.0.push_back(document);
        if self.0.len() > ENDED_KEPT {
            self.0.pop_front();
        }
    }
}

impl Desk {
    /// Looks again and again whether the job state still has the ends of jobs, and writes them again where it was emptied.
    pub(super) async fn keep_ends(&self) -> Infallible {
        loop {
            self.doors.clock.sleep(HEARTBEAT_EVERY).await;
            let ended = self.ended().0.clone();
            let Some(last) = ended.back() else { continue };
            if !matches!(self.doors.state.job_state(&last.job).await, Ok(None)) {
                continue;
            }
            tracing::info!(jobs = ended.len(), "the job state was emptied: the ends of jobs are written again");
            // The one that is looked for comes last: so all of them are there once it is.
            for document in ended.iter().filter(|document| !self.leadership.leads(&document.job)) {
                if matches!(self.doors.state.job_state(&document.job).await, Ok(None)) {
                    self.put_document(document).await;
                    self.note_job(&document.job).await;
                }
            }
        }
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        // Nothing panics while it is held.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a document. One that cannot be written is missed by those who follow, no more.
    pub(super) async fn put_document(&self, document: &JobDocument) {
        if let Err(error) = self.try_put_document(document).await {
            tracing::debug!(job = %document.job, %error, "the document of a job was not written");
        }
    }

    /// Writes the last document of a job: none follows that would make up for it.
    pub(super) async fn put_last_document(&self, document: &JobDocument) {
        if document.state.is_final() {
            self.ended().add(document.clone());
        }
        for _ in 0..LAST_TRIES_MAX {
            match self.try_put_document(document).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(job = %document.job, %error, "the end of a job was not written"),
            }
            self.doors.clock.sleep(WRITTEN_EVERY).await;
        }
        tracing::warn!(job = %document.job, "those who follow a job are not told of its end; its record has it");
    }

    async fn try_put_document(&self, document: &JobDocument) -> Result<(), StateError> {
        let mut bytes = serde_json::to_vec(document).unwrap_or_default();
        if bytes.len() > DOCUMENT_BYTES_MAX {
            // Summaries are cut to fit; what does not is a description of unheard-of length.
            let short = JobDocument { about: String::new(), result: None, ..document.clone() };
            bytes = serde_json::to_vec(&short).unwrap_or_default();
        }
        self.doors.state.put_job_state(&document.job, bytes.into()).await
    }

    /// Writes a document if there is none: nobody replaces that of another job by a refused submission.
    pub(super) async fn put_first_document(&self, document: &JobDocument) {
        let is_there = |bytes: bytes::Bytes| {
            let found = serde_json::from_slice::<JobDocument>(&bytes);
            // What the submitter wrote while it waits does not count.
            found.is_ok_and(|found| found.state != JobPhase::Queued || found.coordinator.is_some())
        };
        match self.doors.state.job_state(&document.job).await {
            Ok(Some(found)) if is_there(found.clone()) => {}
            Ok(_) => self.put_last_document(document).await,
            Err(error) => tracing::debug!(%error, "the document of a job was not written"),
        }
    }

    /// Remembers a job for those who list them.
    pub(super) async fn note_job(&self, job: &JobId) {
        if let Err(error) = self.doors.state.note_job(&self.doors.repository.id(), job).await {
            tracing::debug!(%error, "a job was not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::id::Id;
    use proto::job::{CheckRequest, Request};

    use super::*;

    fn document() -> JobDocument {
        let submission = Submission {
            job: JobId::new("j").unwrap(),
            repository: Id::of(b"r"),
            idempotency_key: None,
            pool: "default".to_owned(),
            submitted_at: UnixTime::default(),
            request: Request::Check(CheckRequest::default()),
        };
        JobDocument::queued(&submission, UnixTime::default())
    }

    #[test]
    fn a_result_becomes_the_end_of_a_document() {
        let by = JobId::new("k").unwrap();
        let shown = |outcome| {
            let summary = Some(serde_json::json!({"packs": 7}));
            of_result(document(), ResultRecord { outcome, summary, class: None })
        };
        let done = shown(JobOutcome::Done { snapshot: Id::of(b"s") });
        assert_eq!((done.state, done.result.unwrap()["packs"].as_u64()), (JobPhase::Done, Some(7)));
        assert_eq!(shown(JobOutcome::Restored).state, JobPhase::Done);
        let failed = shown(JobOutcome::Failed { reason: "why".to_owned() });
        assert_eq!(failed.failure, Some(JobFailure { class: FailureClass::Failed, message: "why".to_owned() }));
        assert_eq!(shown(JobOutcome::Cancelled).failure.unwrap().class, FailureClass::Cancelled);
        assert_eq!(shown(JobOutcome::Superseded { by: by.clone() }).superseded_by, Some(by));
    }
}
