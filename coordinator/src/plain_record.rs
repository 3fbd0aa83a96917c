//! The record of a job that has no checkpoints: a restore or a check of a fleet.
//!
//! # Crash
//! Whoever finds it begun and without a leader does not go on with it: nobody knows which of its tasks still run. It ends
//! as superseded, and a new job does it again; what is as wanted by then is left alone.

use proto::id::{CoordinatorId, Id, JobId};
use proto::job::{JobOutcome, Submission};
use proto::names::{Record, job_record};
use repository::repository::{Repository, RepositoryError};
use serde::{Deserialize, Serialize};

use crate::error::JobError;
use crate::record::{Decision, ResultRecord, decide, json, note_submitted, put_result};

/// What its only epoch says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlainStart {
    /// Who began it.
    pub(crate) leader: CoordinatorId,
    /// Of a restore: the snapshot that was meant.
    pub(crate) snapshot: Option<Id>,
}

/// Notes that a job begins.
///
/// # Errors
/// `Fenced` if somebody else began it.
pub(crate) async fn begin(repository: &Repository, job: &JobId, start: &PlainStart) -> Result<(), JobError> {
    let (name, wanted) = (job_record(job, Record::Epoch(1)), json(start)?);
    match repository.put_private(&name, &wanted).await {
        Ok(()) => Ok(()),
        Err(RepositoryError::AlreadyThere { .. }) => match repository.get_private(&name).await? {
            Some(found) if found == wanted => Ok(()), // our own: the answer was lost
            _ => Err(JobError::Fenced { job: job.clone() }),
        },
        Err(error) => Err(error.into()),
    }
}

/// How it began, if it did.
pub(crate) async fn started(repository: &Repository, job: &JobId) -> Result<Option<PlainStart>, JobError> {
    let found = repository.get_private(&job_record(job, Record::Epoch(1))).await?;
    let decode = |found: Vec<u8>| serde_json::from_slice(&found);
    found.map(decode).transpose().map_err(|error| JobError::internal("a job record", &error))
}

/// Ends a job; returns how it ended, which may have been decided before.
///
/// Also for a backup that nobody leads and that shall not be taken over again.
pub(crate) async fn end(repository: &Repository, job: &JobId, wanted: ResultRecord) -> Result<ResultRecord, JobError> {
    let decided = match decide(repository, job, Decision::Ended(wanted.outcome.clone())).await? {
        Decision::Ended(decided) => decided,
        // A backup that decided on its snapshot: whoever takes it over puts that.
        Decision::Snapshot(_) => return Err(JobError::Fenced { job: job.clone() }),
    };
    let result = if decided == wanted.outcome { wanted } else { ResultRecord::bare(decided) };
    put_result(repository, job, result).await
}

/// How a job ended that nobody led any more.
#[derive(Debug)]
pub(crate) struct Superseded {
    /// Its end.
    pub(crate) result: ResultRecord,
    /// Nobody had announced the job that goes on.
    pub(crate) is_first: bool,
}

/// Ends a job that nobody leads any more as `wanted`, mostly in favour of `next`.
///
/// `next` is noted as submitted before the old one has its result: whoever finds it without a leader begins it.
pub(crate) async fn supersede(
    repository: &Repository,
    job: &JobId,
    wanted: JobOutcome,
    next: &Submission,
) -> Result<Superseded, JobError> {
    let Decision::Ended(decided) = decide(repository, job, Decision::Ended(wanted)).await? else {
        return Err(JobError::Fenced { job: job.clone() });
    };
    let was_noted = match &decided {
        JobOutcome::Superseded { by } => note_submitted(repository, &next.as_job(by)).await?,
        _ => false,
    };
    let result = put_result(repository, job, ResultRecord::bare(decided)).await?;
    Ok(Superseded { result, is_first: !was_noted })
}
