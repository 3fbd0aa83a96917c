//! The record of a job that somebody else led: what can be taken over, or taken up.

use proto::id::{Epoch, JobId};
use proto::job::{JobOutcome, Submission};
use proto::names::{JOBS_PREFIX, Record, job_prefix, job_record};
use repository::repository::Repository;

use crate::checkpoint::Checkpoint;
use crate::error::JobError;
use crate::living::Living;
use crate::record::{ResultRecord, StartRecord};

/// The names in a job's record, and what they hold.
pub(crate) struct FoundRecord<'a> {
    repository: &'a Repository,
    job: &'a JobId,
    names: Vec<String>,
}

impl<'a> FoundRecord<'a> {
    /// Lists the record.
    pub(crate) async fn read(repository: &'a Repository, job: &'a JobId) -> Result<Self, JobError> {
        Ok(Self { repository, job, names: repository.list_private(&job_prefix(job)).await? })
    }

    pub(crate) fn has(&self, record: Record) -> bool {
        self.names.contains(&job_record(self.job, record))
    }

    /// Who led it last; 0 if nobody began.
    pub(crate) fn epoch(&self) -> Epoch {
        let prefix = job_prefix(self.job);
        self.names.iter().filter_map(|name| epoch_of(name.strip_prefix(&prefix)?)).max().unwrap_or(0)
    }

    /// How it ended, if it did.
    pub(crate) async fn result(&self) -> Result<Option<ResultRecord>, JobError> {
        if self.has(Record::Result) { self.json(Record::Result).await } else { Ok(None) }
    }

    pub(crate) async fn submission(&self) -> Result<Option<Submission>, JobError> {
        self.json(Record::Submitted).await
    }

    pub(crate) async fn start(&self) -> Result<Option<StartRecord>, JobError> {
        self.json(Record::Start).await
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, record: Record) -> Result<Option<T>, JobError> {
        let found = self.repository.get_private(&job_record(self.job, record)).await?;
        let decode = |found: Vec<u8>| serde_json::from_slice(&found);
        found.map(decode).transpose().map_err(|error| JobError::internal("a job record", &error))
    }

    /// The newest checkpoint of any epoch. One that cannot be read is passed over: an older one costs time only.
    pub(crate) async fn newest_checkpoint(&self) -> Result<Option<Checkpoint>, JobError> {
        let prefix = format!("{}checkpoint-", job_prefix(self.job));
        for name in self.names.iter().rev().filter(|name| name.starts_with(&prefix)) {
            let Some(found) = self.repository.get_private(name).await? else { continue };
            match Checkpoint::decode(&found) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => tracing::warn!(name, error = error.chain(), "a checkpoint is passed over"),
            }
        }
        Ok(None)
    }
}

/// The number in the name of an `epoch-<n>`, after the folder of its job.
pub(crate) fn epoch_of(record: &str) -> Option<Epoch> {
    record.strip_prefix("epoch-")?.parse().ok()
}

/// A job that ended without a snapshot, as its record tells.
pub(crate) struct OldJob {
    pub(crate) job: JobId,
    pub(crate) checkpoint: Checkpoint,
}

/// The newest job of which `wanted` says yes, that has a checkpoint and no snapshot, and that nobody does any more.
///
/// What cannot be read is passed over: resuming saves time and is never needed.
pub(crate) async fn newest_unfinished(
    repository: &Repository,
    living: &Living<'_>,
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
        let has_ended = names.contains(&job_record(&job, Record::Result));
        if has_ended && is_done(repository, &job).await {
            continue;
        }
        let Ok(Some(submitted)) = repository.get_private(&job_record(&job, Record::Submitted)).await else { continue };
        let Ok(submission) = serde_json::from_slice::<Submission>(&submitted) else { continue };
        if !wanted(&submission) || !(has_ended || living.have_left(&job).await) {
            continue;
        }
        let Ok(Some(checkpoint)) = repository.get_private(name).await else { continue };
        if let Ok(checkpoint) = Checkpoint::decode(&checkpoint) {
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
