//! One job of a coordinator, from its turn to its result.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fleet::queue::{Address, Message};
use futures::FutureExt;
use proto::follow::JobPhase;
use proto::id::JobId;
use proto::job::{CheckRequest, JobOutcome, Request, RestoreRequest, Submission};
use repository::locks::{LockRequest, remove_ended_locks};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::document::{Board, of_result};
use super::{ASK_AGAIN_AFTER, Desk, HANDED_OVER};
use crate::abandoned::Abandoned;
use crate::error::JobError;
use crate::found_record::FoundRecord;
use crate::heartbeat::{HEARTBEAT_EVERY, new_coordinator_id};
use crate::leadership::Leading;
use crate::plain_record::{self, PlainStart};
use crate::publish::close_doors;
use crate::record::{JobRecord, ResultRecord, has_ended};
use crate::summary::{CheckSummary, RestoreSummary};
use crate::waiting::called_off;
use crate::{backup, check, choose, restore, takeover};

/// A job whose takeover failed so often here fails: whoever tries again would fail as well.
const TAKEOVERS_MAX: u32 = 5;
/// Tasks of a restore that is begun again have been heard of, or have seen that their job has ended.
const SETTLED_AFTER: Duration = HEARTBEAT_EVERY.saturating_mul(2);
/// How long a submission that is handed over may take to be published.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);

/// A job that this coordinator leads from now on.
pub(super) struct Assignment {
    pub(super) submission: Submission,
    /// A backup that another coordinator led before.
    pub(super) inherited: Option<Abandoned>,
    /// It is done again in place of a job that was abandoned.
    pub(super) is_again: bool,
    /// Held while it is led.
    pub(super) leading: Leading,
    /// Held until it has ended.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Assignment {
    /// A job that nobody has begun.
    pub(super) fn new(submission: Submission, leading: Leading) -> Self {
        Self { submission, inherited: None, is_again: false, leading, room: None }
    }
}

/// Leaves a job to other coordinators that was not begun here.
pub(super) async fn leave(desk: &Desk, assignment: Assignment) {
    let Assignment { submission, leading, .. } = assignment;
    desk.hand_over(&submission, leading).await;
}

/// Does a job, and keeps its document meanwhile.
pub(super) async fn run(desk: Arc<Desk>, assignment: Assignment) {
    let Assignment { submission, inherited, is_again, leading, room } = assignment;
    let board = Board::new(&desk, &submission);
    let job = Job { desk: &desk, submission: &submission, inherited: inherited.as_ref(), is_again, board: &board };
    let ended = tokio::select! {
        biased;
        ended = job.wait_and_perform().boxed() => ended,
        never = board.publish() => match never {},
    };
    let last = desk.leadership.forget_successors(&submission.job);
    for job in [&submission.job].into_iter().filter(|job| **job != last) {
        let superseded = ResultRecord::bare(JobOutcome::Superseded { by: last.clone() });
        desk.put_last_document(&of_result(board.document(job.clone(), JobPhase::Superseded), superseded)).await;
    }
    let is_plain = !matches!(submission.request, Request::Backup(_));
    let submission = if last == submission.job { submission.clone() } else { submission.as_job(&last) };
    match ended {
        Ok(result) => {
            desk.forget_failures(&submission.job);
            if is_plain {
                close_doors(&desk.doors, &submission.job).await;
            }
            desk.put_last_document(&of_result(board.document(submission.job.clone(), JobPhase::Done), result)).await;
        }
        Err(JobError::HandedOver { .. }) => {
            desk.put_last_document(&board.document(submission.job.clone(), JobPhase::Queued)).await;
            desk.hand_over(&submission, leading).await;
        }
        Err(error) => {
            let settled = desk.settle(&submission.job, &error, inherited.is_some()).await;
            if is_plain && settled.is_some() {
                close_doors(&desk.doors, &submission.job).await;
            }
            if let Some(result) = settled {
                desk.put_last_document(&of_result(board.document(submission.job.clone(), JobPhase::Failed), result))
                    .await;
            }
        }
    }
    drop(room);
}

struct Job<'a> {
    desk: &'a Desk,
    submission: &'a Submission,
    inherited: Option<&'a Abandoned>,
    is_again: bool,
    board: &'a Board<'a>,
}

impl Job<'_> {
    /// Waits for the job's turn, and does it.
    async fn wait_and_perform(&self) -> Result<ResultRecord, JobError> {
        let desk = self.desk;
        let _place = tokio::select! {
            biased;
            error = called_off(&desk.doors, &self.submission.job, Some(&desk.leadership)) => return Err(error),
            place = desk.places.acquire() => place,
        };
        self.board.begin();
        desk.remove_ended_locks().await;
        tracing::info!(job = %self.submission.job, "begins");
        let ended = self.perform().await;
        desk.remove_ended_locks().await; // that of a job which this one goes on for
        match &ended {
            Ok(_) => tracing::info!(job = %self.submission.job, "ended"),
            Err(error) => tracing::info!(job = %self.submission.job, error = error.chain(), "ended without a result"),
        }
        ended
    }

    async fn perform(&self) -> Result<ResultRecord, JobError> {
        match &self.submission.request {
            Request::Backup(_) => self.back_up().boxed().await,
            Request::Restore(request) => self.restore(request).boxed().await,
            Request::Check(request) => self.check(request).boxed().await,
        }
    }

    fn lock(&self, exclusive: bool) -> LockRequest {
        LockRequest { exclusive, job: Some(self.submission.job.clone()), ..self.desk.settings.lock.clone() }
    }

    async fn back_up(&self) -> Result<ResultRecord, JobError> {
        let (doors, settings) = (&self.desk.doors, &self.desk.settings);
        let settings = backup::Settings {
            lock: self.lock(false),
            embedded: false,
            retry_lock: settings.retry_lock,
            wait_workers: settings.wait_workers,
            leadership: Some(self.desk.leadership.clone()),
        };
        let progress = &self.board.progress;
        let done = match self.inherited {
            Some(abandoned) => takeover::take_over(doors, abandoned, &settings, progress).await?,
            None => backup::run(doors, self.submission, &settings, progress).await?,
        };
        Ok(ResultRecord::of_backup(&done))
    }

    async fn restore(&self, request: &RestoreRequest) -> Result<ResultRecord, JobError> {
        let (doors, settings, job) = (&self.desk.doors, &self.desk.settings, &self.submission.job);
        let snapshot = match &request.choice {
            Some(choice) => choose::snapshot(&doors.repository, choice).await?,
            None => request.snapshot,
        };
        if self.is_again {
            doors.clock.sleep(SETTLED_AFTER).await;
        }
        self.begin_plain(PlainStart { leader: new_coordinator_id(doors), snapshot: Some(snapshot) }).await?;
        let request = RestoreRequest { snapshot, choice: None, ..request.clone() };
        let settings = restore::Settings {
            job: Some(job.clone()),
            pool: self.submission.pool.clone(),
            lock: (!request.no_lock).then(|| self.lock(false)),
            embedded: false,
            budget: Some(request.budget.clone().unwrap_or_default()),
            retry_lock: settings.retry_lock,
            wait_workers: settings.wait_workers,
            leadership: Some(self.desk.leadership.clone()),
        };
        let done = restore::run(doors, &request, &settings, &self.board.progress).await?;
        self.end_plain(result(JobOutcome::Restored, &RestoreSummary::bounded(&request, &done))?).await
    }

    async fn check(&self, request: &CheckRequest) -> Result<ResultRecord, JobError> {
        let (doors, settings, job) = (&self.desk.doors, &self.desk.settings, &self.submission.job);
        self.begin_plain(PlainStart { leader: new_coordinator_id(doors), snapshot: None }).await?;
        let settings = check::Settings {
            job: job.clone(),
            pool: self.submission.pool.clone(),
            lock: (!request.no_lock).then(|| self.lock(true)),
            retry_lock: settings.retry_lock,
            wait_workers: settings.wait_workers,
            leadership: Some(self.desk.leadership.clone()),
        };
        let report = check::run(doors, request, &settings, &self.board.progress).await?;
        self.end_plain(result(JobOutcome::Checked, &CheckSummary::bounded(&report))?).await
    }

    async fn begin_plain(&self, start: PlainStart) -> Result<(), JobError> {
        plain_record::begin(&self.desk.doors.repository, &self.submission.job, &start).await
    }

    async fn end_plain(&self, wanted: ResultRecord) -> Result<ResultRecord, JobError> {
        let (repository, job) = (&self.desk.doors.repository, &self.submission.job);
        let outcome = wanted.outcome.clone();
        let result = plain_record::end(repository, job, wanted).await?;
        if result.outcome != outcome {
            return Err(JobError::Fenced { job: job.clone() }); // it was begun again elsewhere
        }
        if let Err(error) = JobRecord::remove_payloads(repository, job).await {
            tracing::warn!(error = error.chain(), "payloads of a job were not removed");
        }
        Ok(result)
    }
}

fn result(outcome: JobOutcome, summary: &impl Serialize) -> Result<ResultRecord, JobError> {
    let summary = serde_json::to_value(summary).map_err(|error| JobError::internal("a summary", &error))?;
    Ok(ResultRecord { outcome, summary: Some(summary), class: None })
}

impl Desk {
    /// Sees to it that a job that ended without a result has one on record; none if it is left to others.
    async fn settle(&self, job: &JobId, error: &JobError, was_inherited: bool) -> Option<ResultRecord> {
        let repository = &self.doors.repository;
        let settled = async {
            if let Some(result) = FoundRecord::read(repository, job).await?.result().await? {
                return Ok(Some(result));
            }
            let is_others = matches!(error, JobError::Fenced { .. } | JobError::Ended { .. });
            // The clock of another coordinator may be right.
            let is_elsewhere = was_inherited && matches!(error, JobError::ClockOff { .. });
            if is_others || is_elsewhere || (was_inherited && self.may_try_again(job)) {
                return Ok(None);
            }
            plain_record::end(repository, job, ResultRecord::of_error(error)).await.map(Some)
        };
        match settled.await {
            Ok(result) => result,
            Err(error) => {
                tracing::warn!(%job, error = error.chain(), "the end of a job is not on record: it is taken up again");
                None
            }
        }
    }

    fn may_try_again(&self, job: &JobId) -> bool {
        let mut failed = self.failed_takeovers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failed.entry(job.clone()).or_default();
        *count += 1;
        *count < TAKEOVERS_MAX
    }

    fn forget_failures(&self, job: &JobId) {
        self.failed_takeovers.lock().unwrap_or_else(PoisonError::into_inner).remove(job);
    }

    /// Publishes a submission again, so that another coordinator goes on at once.
    async fn hand_over(&self, submission: &Submission, leading: Leading) {
        drop(leading);
        self.leadership.beat(&self.doors).await;
        let Ok(body) = serde_json::to_vec(submission) else { return };
        let subject = submission.job.to_string();
        let message = Message { body: body.into(), attempt: 1, last_error: Some(HANDED_OVER.to_owned()), subject };
        let publishing = async {
            while let Err(error) = self.doors.queue.publish(&Address::Jobs, message.clone()).await {
                tracing::warn!(%error, "a submission cannot be published");
                self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
            }
        };
        tokio::select! {
            biased;
            () = publishing => {}
            // Its record is there: another coordinator finds it, a little later.
            () = self.doors.clock.sleep(PUBLISHED_WITHIN) => {}
        }
    }

    /// Removes the locks of jobs that have ended.
    async fn remove_ended_locks(&self) {
        let repository = &self.doors.repository;
        let ended = |job: String| async move {
            let Ok(job) = JobId::new(job) else { return false };
            has_ended(repository, &job).await
        };
        match remove_ended_locks(repository, ended).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(locks = removed.len(), "removed locks of jobs that have ended"),
            Err(error) => tracing::debug!(%error, "locks of jobs that have ended cannot be removed"),
        }
    }
}
