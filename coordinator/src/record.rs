//! A job's record: create-only objects under `longshore/jobs/<job>/` (DESIGN 3.7).
//!
//! # Create-only
//! Whoever finds a name taken reads it back: it may be one's own, written before an answer was lost.
//!
//! # Crash
//! `commit` holds the finished bytes of the snapshot file: whoever finds it puts exactly these.

use bytes::Bytes;
use proto::id::{Epoch, Id, JobId};
use proto::job::{JobOutcome, Submission};
use proto::names::{JOBS_PREFIX, Record, job_prefix, job_record};
use repository::repository::{Repository, RepositoryError};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::error::JobError;
use crate::job::State;

/// What `start` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    /// The lock file that the job began under.
    pub(crate) lock: Id,
    /// What was indexed then: G.
    pub(crate) index_files: Vec<Id>,
    /// The parent snapshot.
    pub(crate) parent: Option<Id>,
    /// The named time zone.
    pub(crate) zone: String,
}

/// What `commit` says: the first one wins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CommitRecord {
    /// The finished bytes of the snapshot file.
    Snapshot(Vec<u8>),
    /// The job ends without one.
    Ended(JobOutcome),
}

/// The record of one job that this coordinator leads.
pub(crate) struct JobRecord {
    repository: Repository,
    submission: Submission,
    start: StartRecord,
    epoch: Epoch,
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
    pub(crate) fn new(repository: Repository, submission: Submission, start: StartRecord) -> Self {
        Self { repository, submission, start, epoch: 1, written: Mutex::default() }
    }

    fn job(&self) -> &JobId {
        &self.submission.job
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
        self.put(Record::Epoch(self.epoch), &json(&self.start.lock)?).await?;
        written.begun = true;
        Ok(())
    }

    /// Whether anything of the record exists.
    pub(crate) async fn has_begun(&self) -> bool {
        self.written.lock().await.begun
    }

    /// Writes a checkpoint.
    pub(crate) async fn checkpoint(&self, state: &State) -> Result<(), JobError> {
        let encoded = rmp_serde::to_vec_named(state).map_err(|error| JobError::internal("a checkpoint", &error))?;
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
            true => Err(JobError::Fenced { job: self.job().clone() }),
            false => Ok(()),
        }
    }

    /// Decides how the job ends: with these bytes as its snapshot file. Returns the bytes that were decided first.
    ///
    /// # Errors
    /// `Cancelled`, `Failed` if that was decided before.
    pub(crate) async fn commit(&self, _snapshot: &Id, bytes: Bytes) -> Result<Bytes, JobError> {
        if !self.has_begun().await {
            return Ok(bytes);
        }
        match self.decide(CommitRecord::Snapshot(bytes.to_vec())).await? {
            CommitRecord::Snapshot(bytes) => Ok(bytes.into()),
            CommitRecord::Ended(JobOutcome::Cancelled) => Err(JobError::Cancelled),
            CommitRecord::Ended(outcome) => {
                Err(JobError::Failed { reason: format!("the job ended before it could commit: {outcome:?}") })
            }
        }
    }

    /// Ends the record. Without a snapshot, that is decided first.
    pub(crate) async fn end(&self, outcome: &JobOutcome) -> Result<(), JobError> {
        if !self.has_begun().await {
            return Ok(());
        }
        if !matches!(outcome, JobOutcome::Done { .. })
            && let CommitRecord::Snapshot(_) = self.decide(CommitRecord::Ended(outcome.clone())).await?
        {
            // That it has a snapshot was decided before: who takes the job over sees whether it is there.
            return Ok(());
        }
        self.put(Record::Result, &json(outcome)?).await
    }

    async fn decide(&self, wanted: CommitRecord) -> Result<CommitRecord, JobError> {
        let encoded =
            rmp_serde::to_vec_named(&wanted).map_err(|error| JobError::internal("a commit record", &error))?;
        let name = job_record(self.job(), Record::Commit);
        match self.repository.put_private(&name, &encoded).await {
            Ok(()) => Ok(wanted),
            Err(RepositoryError::AlreadyThere { .. }) => {
                let found = self.repository.get_private(&name).await?.unwrap_or(encoded);
                rmp_serde::from_slice(&found).map_err(|error| JobError::internal("a commit record", &error))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, record: Record, plain: &[u8]) -> Result<(), JobError> {
        let name = job_record(self.job(), record);
        match self.repository.put_private(&name, plain).await {
            Ok(()) => Ok(()),
            Err(RepositoryError::AlreadyThere { .. }) => match self.repository.get_private(&name).await? {
                Some(found) if found == plain => Ok(()), // our own: the answer was lost
                _ => Err(JobError::Fenced { job: self.job().clone() }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Notes in the record of an unfinished job that another one did its work, and removes its payloads.
    pub(crate) async fn close_old(repository: &Repository, job: &JobId, outcome: &JobOutcome) -> Result<(), JobError> {
        match repository.put_private(&job_record(job, Record::Result), &json(outcome)?).await {
            Ok(()) | Err(RepositoryError::AlreadyThere { .. }) => Self::remove_payloads(repository, job).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the payloads of a job that ended well.
    pub(crate) async fn remove_payloads(repository: &Repository, job: &JobId) -> Result<(), JobError> {
        for name in repository.list_private(&format!("{}payload/", job_prefix(job))).await? {
            repository.remove_private(&name).await?;
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, JobError> {
    serde_json::to_vec(value).map_err(|error| JobError::internal("a job record", &error))
}

/// A job that ended without a snapshot, as its record tells.
pub(crate) struct OldJob {
    pub(crate) job: JobId,
    pub(crate) checkpoint: State,
}

/// The newest job of which `wanted` says yes, that has a checkpoint and no snapshot.
///
/// What cannot be read is passed over: resuming saves time and is never needed.
pub(crate) async fn newest_unfinished(
    repository: &Repository,
    wanted: impl Fn(&Submission) -> bool,
) -> Result<Option<OldJob>, JobError> {
    let names = repository.list_private(JOBS_PREFIX).await?;
    let mut checkpoints: Vec<(&str, &String)> = names
        .iter()
        .filter_map(|name| {
            let (job, record) = name.strip_prefix(JOBS_PREFIX)?.split_once('/')?;
            record.starts_with("checkpoint-").then_some((job, name))
        })
        .collect();
    checkpoints.reverse(); // the newest job first, and of it the newest checkpoint
    checkpoints.dedup_by_key(|(job, _)| *job);
    for (job, name) in checkpoints {
        let Ok(job) = JobId::new(job) else { continue };
        if names.contains(&job_record(&job, Record::Result)) && is_done(repository, &job).await {
            continue;
        }
        let Ok(Some(submitted)) = repository.get_private(&job_record(&job, Record::Submitted)).await else { continue };
        let Ok(submission) = serde_json::from_slice::<Submission>(&submitted) else { continue };
        if !wanted(&submission) {
            continue;
        }
        let Ok(Some(checkpoint)) = repository.get_private(name).await else { continue };
        if let Ok(checkpoint) = rmp_serde::from_slice(&checkpoint) {
            return Ok(Some(OldJob { job, checkpoint }));
        }
    }
    Ok(None)
}

/// Whether the job has a snapshot, or was taken up by a job that has one.
async fn is_done(repository: &Repository, job: &JobId) -> bool {
    let result = repository.get_private(&job_record(job, Record::Result)).await;
    let outcome = result.ok().flatten().and_then(|json| serde_json::from_slice::<JobOutcome>(&json).ok());
    matches!(outcome, Some(JobOutcome::Done { .. }))
}
