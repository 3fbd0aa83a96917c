//! A job's record: create-only objects under `longshore/jobs/<job>/` (DESIGN 3.7).
//!
//! # Create-only
//! Whoever finds a name taken reads it back: it may be one's own, written before an answer was lost.
//!
//! # Crash
//! `commit` holds the finished bytes of the snapshot file: whoever finds it puts exactly these. A record without `result`
//! is taken over by another coordinator (`takeover.rs`).

use proto::follow::FailureClass;
use proto::handles::UnixTime;
use proto::id::{CoordinatorId, Epoch, Id, JobId};
use proto::job::{JobOutcome, Submission};
use proto::names::{Record, job_prefix, job_record, stored};
use repository::repository::{FileKind, Repository, RepositoryError};
use repository::storage::StorageErrorKind;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::backup::BackupDone;
use crate::checkpoint::Checkpoint;
use crate::error::JobError;
use crate::job::Settings;
use crate::parent::Parent;
use crate::summary::BackupSummary;

/// What `start` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    /// The lock file that the job began under.
    pub(crate) lock: Id,
    /// What was indexed then, ascending: G.
    pub(crate) index_files: Vec<Id>,
    /// The parent snapshot.
    pub(crate) parent: Option<Parent>,
    /// The named time zone.
    pub(crate) zone: String,
    /// When the job began.
    pub(crate) started_at: UnixTime,
    /// What its decisions begin with.
    pub(crate) settings: Settings,
    /// The unfinished job whose work is used.
    pub(crate) resumed: Option<JobId>,
    /// Everything of the job is in one process, and goes with it: nobody takes it over.
    pub(crate) embedded: bool,
}

/// What `epoch-<n>` says: something that nobody else would write.
#[derive(Debug, Serialize, Deserialize)]
struct EpochRecord {
    leader: CoordinatorId,
}

/// What `commit` says: the first one wins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// The job has this snapshot.
    Snapshot(Box<Finished>),
    /// The job ends without one.
    Ended(JobOutcome),
}

/// A snapshot that was decided on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// The finished bytes of the snapshot file.
    pub(crate) file: Vec<u8>,
    /// What the job brought about, for whoever has to say so in the end; the snapshot follows from the file.
    pub(crate) done: BackupDone,
}

impl Finished {
    /// The name of the snapshot file.
    pub(crate) fn id(&self) -> Id {
        Id::of(&self.file)
    }

    /// What the job brought about.
    pub(crate) fn done(&self) -> BackupDone {
        BackupDone { snapshot: self.id(), ..self.done.clone() }
    }

    /// How the job ended, once the snapshot is there.
    fn result(&self) -> ResultRecord {
        ResultRecord::of_backup(&self.done())
    }
}

/// What `result` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResultRecord {
    /// How the job ended.
    #[serde(flatten)]
    pub(crate) outcome: JobOutcome,
    /// What it brought about, as the command prints it with `--json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<serde_json::Value>,
    /// Why there is nothing, by what somebody would do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<FailureClass>,
}

impl ResultRecord {
    /// An outcome and no more.
    pub(crate) fn bare(outcome: JobOutcome) -> Self {
        Self { outcome, summary: None, class: None }
    }

    /// A snapshot.
    pub(crate) fn of_backup(done: &BackupDone) -> Self {
        let summary = serde_json::to_value(BackupSummary::bounded(done)).ok();
        Self { outcome: JobOutcome::Done { snapshot: done.snapshot }, summary, class: None }
    }

    /// An end without a result.
    pub(crate) fn of_error(error: &JobError) -> Self {
        let outcome = match error {
            JobError::Cancelled => JobOutcome::Cancelled,
            error => JobOutcome::Failed { reason: error.chain() },
        };
        Self { outcome, summary: None, class: Some(error.class()) }
    }
}

/// Whether a job has ended, as far as the storage tells.
pub(crate) async fn has_ended(repository: &Repository, job: &JobId) -> bool {
    repository.storage().size(&stored(&job_record(job, Record::Result))).await.is_ok()
}

/// Puts how a job ended; returns what is there.
pub(crate) async fn put_result(
    repository: &Repository,
    job: &JobId,
    result: ResultRecord,
) -> Result<ResultRecord, JobError> {
    match repository.put_private(&job_record(job, Record::Result), &json(&result)?).await {
        Ok(()) => Ok(result),
        Err(RepositoryError::AlreadyThere { .. }) => {
            let found = repository.get_private(&job_record(job, Record::Result)).await?;
            let found = found.and_then(|found| serde_json::from_slice(&found).ok());
            Ok(found.unwrap_or(result))
        }
        Err(error) => Err(error.into()),
    }
}

/// Decides how a job ends; returns what was decided first.
pub(crate) async fn decide(repository: &Repository, job: &JobId, wanted: Decision) -> Result<Decision, JobError> {
    let encoded = rmp_serde::to_vec_named(&wanted).map_err(|error| JobError::internal("a commit record", &error))?;
    let name = job_record(job, Record::Commit);
    match repository.put_private(&name, &encoded).await {
        Ok(()) => Ok(wanted),
        Err(RepositoryError::AlreadyThere { .. }) => {
            decode_decision(&repository.get_private(&name).await?.unwrap_or(encoded))
        }
        Err(error) => Err(error.into()),
    }
}

/// Notes that a job was submitted. Says whether it was noted before.
pub(crate) async fn note_submitted(repository: &Repository, submission: &Submission) -> Result<bool, JobError> {
    match repository.put_private(&job_record(&submission.job, Record::Submitted), &json(submission)?).await {
        Ok(()) => Ok(false),
        Err(RepositoryError::AlreadyThere { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The record of one job that this coordinator leads.
pub(crate) struct JobRecord {
    repository: Repository,
    submission: Submission,
    start: StartRecord,
    epoch: Epoch,
    leader: CoordinatorId,
    written: Mutex<Written>,
}

/// What of the record exists.
#[derive(Default)]
struct Written {
    begun: bool,
    checkpoints: u64,
}

impl JobRecord {
    /// A record of which nothing exists yet: an embedded run writes it with its first checkpoint.
    pub(crate) fn new(
        repository: Repository,
        submission: Submission,
        start: StartRecord,
        leader: CoordinatorId,
    ) -> Self {
        Self { repository, submission, start, epoch: 1, leader, written: Mutex::default() }
    }

    /// The epoch under which this coordinator leads the job.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes a job over: the record is led by whoever created its highest epoch.
    ///
    /// # Errors
    /// `Fenced` if somebody else took it over first.
    pub(crate) async fn take(
        repository: Repository,
        submission: Submission,
        start: StartRecord,
        leader: CoordinatorId,
        epoch: Epoch,
    ) -> Result<Self, JobError> {
        let written = Mutex::new(Written { begun: true, checkpoints: 0 });
        let record = Self { repository, submission, start, epoch, leader, written };
        record.put_epoch().await?;
        record.check_epoch().await?;
        Ok(record)
    }

    fn job(&self) -> &JobId {
        &self.submission.job
    }

    /// What `start` says.
    pub(crate) fn start(&self) -> &StartRecord {
        &self.start
    }

    /// Writes `submitted`, `start` and `epoch`, if they are not there.
    pub(crate) async fn begin(&self) -> Result<(), JobError> {
        let mut written = self.written.lock().await;
        self.begin_locked(&mut written).await
    }

    async fn begin_locked(&self, written: &mut Written) -> Result<(), JobError> {
        if written.begun {
            return Ok(());
        }
        self.put(Record::Submitted, &json(&self.submission)?).await?;
        self.put(Record::Start, &json(&self.start)?).await?;
        self.put_epoch().await?;
        written.begun = true;
        Ok(())
    }

    async fn put_epoch(&self) -> Result<(), JobError> {
        self.put(Record::Epoch(self.epoch), &json(&EpochRecord { leader: self.leader.clone() })?).await
    }

    /// Whether anything of the record exists.
    pub(crate) async fn has_begun(&self) -> bool {
        self.written.lock().await.begun
    }

    /// Writes a checkpoint.
    pub(crate) async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), JobError> {
        let encoded = checkpoint.encode()?;
        let mut written = self.written.lock().await;
        self.begin_locked(&mut written).await?;
        written.checkpoints += 1;
        self.put(Record::Checkpoint(self.epoch, written.checkpoints), &encoded).await
    }

    /// Fails if another coordinator took the job over.
    pub(crate) async fn check_epoch(&self) -> Result<(), JobError> {
        if !self.has_begun().await {
            return Ok(());
        }
        let prefix = job_prefix(self.job());
        let own = job_record(self.job(), Record::Epoch(self.epoch));
        let names = self.repository.list_private(&prefix).await?;
        let epoch_prefix = format!("{prefix}epoch-");
        match names.iter().any(|name| name.starts_with(&epoch_prefix) && *name > own) {
            true => Err(self.fenced()),
            false => Ok(()),
        }
    }

    fn fenced(&self) -> JobError {
        JobError::Fenced { job: self.job().clone() }
    }

    /// Decides that the job ends with this snapshot. Returns the one that was decided on first.
    ///
    /// # Errors
    /// `Cancelled`, `Failed` if something else was decided before.
    pub(crate) async fn commit(&self, finished: Finished) -> Result<Finished, JobError> {
        if !self.has_begun().await {
            return Ok(finished);
        }
        match self.decide(Decision::Snapshot(Box::new(finished))).await? {
            Decision::Snapshot(finished) => Ok(*finished),
            Decision::Ended(outcome) => Err(error_of(&outcome)),
        }
    }

    /// What was decided, if anything was.
    pub(crate) async fn decided(&self) -> Result<Option<Decision>, JobError> {
        let found = self.repository.get_private(&job_record(self.job(), Record::Commit)).await?;
        found.map(|found| decode_decision(&found)).transpose()
    }

    /// Ends the record; returns how the job ended, which may have been decided before. None if it has a snapshot that
    /// is not there yet: a successor puts it.
    ///
    /// After a gap of the lock (`Superseded`) nobody puts it.
    pub(crate) async fn end(&self, wanted: ResultRecord) -> Result<Option<JobOutcome>, JobError> {
        if !self.has_begun().await {
            return Ok(Some(wanted.outcome));
        }
        let result = match &wanted.outcome {
            JobOutcome::Done { .. } => wanted,
            outcome => match self.decide(Decision::Ended(outcome.clone())).await? {
                Decision::Ended(decided) if decided == *outcome => wanted,
                // What is said of another outcome is not true of this one.
                Decision::Ended(decided) => ResultRecord::bare(decided),
                Decision::Snapshot(finished) if self.is_there(&finished.id()).await? => finished.result(),
                Decision::Snapshot(_) if matches!(outcome, JobOutcome::Superseded { .. }) => wanted,
                Decision::Snapshot(_) => return Ok(None),
            },
        };
        if let JobOutcome::Superseded { by } = &result.outcome {
            self.announce(by).await?;
        }
        Ok(Some(put_result(&self.repository, self.job(), result).await?.outcome))
    }

    async fn is_there(&self, snapshot: &Id) -> Result<bool, JobError> {
        match self.repository.storage().size(&FileKind::Snapshot.name(snapshot)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == StorageErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes the job that goes on before this one has its result: whoever finds it without a leader begins it.
    async fn announce(&self, next: &JobId) -> Result<(), JobError> {
        if self.start.embedded {
            return Ok(());
        }
        let submission = self.submission.as_job(next);
        note_submitted(&self.repository, &submission).await.map(drop)
    }

    async fn decide(&self, wanted: Decision) -> Result<Decision, JobError> {
        decide(&self.repository, self.job(), wanted).await
    }

    async fn put(&self, record: Record, plain: &[u8]) -> Result<(), JobError> {
        let name = job_record(self.job(), record);
        match self.repository.put_private(&name, plain).await {
            Ok(()) => Ok(()),
            Err(RepositoryError::AlreadyThere { .. }) => match self.repository.get_private(&name).await? {
                Some(found) if found == plain => Ok(()), // our own: the answer was lost
                _ => Err(self.fenced()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Notes in the record of an unfinished job that another one did its work, and removes its payloads.
    pub(crate) async fn close_old(repository: &Repository, job: &JobId, result: ResultRecord) -> Result<(), JobError> {
        // Decided as every end is: whoever led it and wakes up finds that there is nothing left to do.
        let Decision::Ended(decided) = decide(repository, job, Decision::Ended(result.outcome.clone())).await? else {
            return Ok(());
        };
        let result = if decided == result.outcome { result } else { ResultRecord::bare(decided) };
        put_result(repository, job, result).await?;
        Self::remove_payloads(repository, job).await
    }

    /// Removes the payloads of a job that ended well.
    pub(crate) async fn remove_payloads(repository: &Repository, job: &JobId) -> Result<(), JobError> {
        for name in repository.list_private(&format!("{}payload/", job_prefix(job))).await? {
            repository.remove_private(&name).await?;
        }
        Ok(())
    }
}

/// Why a job with this outcome has no snapshot.
pub(crate) fn error_of(outcome: &JobOutcome) -> JobError {
    match outcome {
        JobOutcome::Cancelled => JobError::Cancelled,
        outcome => JobError::Failed { reason: format!("the job ended before it could commit: {outcome:?}") },
    }
}

pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>, JobError> {
    serde_json::to_vec(value).map_err(|error| JobError::internal("a job record", &error))
}

fn decode_decision(bytes: &[u8]) -> Result<Decision, JobError> {
    rmp_serde::from_slice(bytes).map_err(|error| JobError::internal("a commit record", &error))
}
