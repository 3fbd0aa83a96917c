//! Takes over a job whose coordinator fell silent (DESIGN 3.7).
//!
//! # Order
//! Create the next epoch: from then on the last coordinator puts nothing. Put the own lock, see that the last one's still
//! stands, remove it. Read the newest checkpoint. What was decided before is done; else the job goes on from there.
//!
//! # Consistency
//! A checkpoint is a result only under the unbroken lock. After a gap the job ends, and goes on as a new one to which the
//! checkpoint is a parent.
//!
//! # Crash
//! A coordinator that dies here leaves a record of a higher epoch without a result: the job is taken over again. Between
//! the removal of the last lock and the first own checkpoint, which names the new one, that looks like a gap.

use std::sync::Arc;

use futures::FutureExt;
use proto::facts::Facts;
use proto::id::{CoordinatorId, Id, JobId};
use proto::job::{BackupRequest, JobOutcome, Submission};
use proto::names::Record;
use repository::blob_index::BlobIndex;
use repository::locks::{LockError, Lost, RepositoryLock};
use tokio::sync::watch;

use crate::Doors;
use crate::abandoned::Abandoned;
use crate::backup::{self, BackupDone, Settings, backup_request, check_clock, committer, lock_request, performer};
use crate::checkpoint::Checkpoint;
use crate::error::JobError;
use crate::found_record::FoundRecord;
use crate::heartbeat::{new_coordinator_id, while_leading};
use crate::job::{Progress, State};
use crate::lead::{Ended, Lead};
use crate::perform::Performer;
use crate::record::{Decision, Finished, JobRecord, ResultRecord, StartRecord, error_of};
use crate::run::Standing;
use crate::session::{Restored, Session};
use crate::waiting::while_locked;

/// Takes over a backup that nobody leads any more, and brings it to its end.
///
/// # Errors
/// `Ended` if there is nothing to take over; `Fenced` if another coordinator took it over first; why there is no
/// snapshot.
pub async fn take_over(
    doors: &Doors,
    abandoned: &Abandoned,
    settings: &Settings,
    progress: &watch::Sender<Progress>,
) -> Result<BackupDone, JobError> {
    doors.repository.check_writable()?;
    check_clock(doors.repository.storage().clock_offset_seconds())?;
    let found = FoundRecord::read(&doors.repository, &abandoned.job).await?;
    if found.has(Record::Result) {
        return Err(JobError::Ended { job: abandoned.job.clone() });
    }
    let Some(submission) = found.submission().await? else {
        return Err(JobError::Failed { reason: format!("job {} was never submitted", abandoned.job) });
    };
    let Some(start) = found.start().await? else {
        return backup::run(doors, &submission, settings, progress).await; // nobody began
    };
    let me = new_coordinator_id(doors);
    let request = backup_request(&submission)?;
    let takeover = Takeover { doors, submission: &submission, request, settings, next: submission.successor().job };
    let work = takeover.lead(abandoned, start, me.clone(), progress);
    match while_leading(doors, settings.leadership.as_ref(), &me, &abandoned.job, work.boxed()).await? {
        Ended::Done(done) => Ok(*done),
        Ended::GoesOn { by, reason } => {
            tracing::warn!(%reason, job = %by, "a job that was taken over goes on as a new one");
            if let Some(leadership) = &settings.leadership {
                leadership.note_successor(&abandoned.job, &by);
            }
            backup::run(doors, &submission.as_job(&by), settings, progress).await
        }
    }
}

/// One job that is being taken over.
struct Takeover<'a> {
    doors: &'a Doors,
    submission: &'a Submission,
    request: &'a BackupRequest,
    settings: &'a Settings,
    /// The job that goes on after a gap.
    next: JobId,
}

/// A job that goes on.
struct TakenUp {
    performer: Arc<Performer>,
    standing: Standing,
}

impl Takeover<'_> {
    async fn lead(
        &self,
        abandoned: &Abandoned,
        start: StartRecord,
        me: CoordinatorId,
        progress: &watch::Sender<Progress>,
    ) -> Result<Ended, JobError> {
        let repository = &self.doors.repository;
        let began_under = start.lock;
        let submission = self.submission.clone();
        let record = JobRecord::take(repository.clone(), submission, start, me, abandoned.epoch + 1).await?;
        let record = Arc::new(record);
        // Read only now: the last coordinator may have written one since it was found silent.
        let checkpoint = FoundRecord::read(repository, &abandoned.job).await?.newest_checkpoint().await?;
        let previous: Vec<Id> = checkpoint.iter().map(|checkpoint| checkpoint.lock).chain([began_under]).collect();
        let wanted = lock_request(self.settings, &abandoned.job);
        let taken = RepositoryLock::take_over(repository, wanted, self.doors.clock.clone(), &previous).await;
        match taken {
            Ok(lock) => self.lead_locked(Arc::new(lock), record, checkpoint, progress).boxed().await,
            Err(LockError::Gap { .. }) => self.end_after_gap(&record).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The lock is held without a gap since the job began.
    async fn lead_locked(
        &self,
        lock: Arc<RepositoryLock>,
        record: Arc<JobRecord>,
        checkpoint: Option<Checkpoint>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Ended, JobError> {
        let lead = Lead {
            doors: self.doors,
            job: self.submission.job.clone(),
            lock: lock.clone(),
            record: record.clone(),
            next: Some(self.next.clone()),
        };
        let decided = match while_locked(&lock, record.decided()).await {
            Ok(decided) => decided,
            Err(error) => return leave_to_others(&lock, error).await,
        };
        match decided {
            Some(Decision::Snapshot(finished)) => {
                let done = finished.done();
                let put = self.put_decided(&lock, record, &finished).await;
                lead.close(put, done).await
            }
            Some(Decision::Ended(JobOutcome::Superseded { .. })) => {
                lead.close_failed(JobError::LockLost(Lost::Removed)).await
            }
            Some(Decision::Ended(outcome)) => lead.close_failed(error_of(&outcome)).await,
            None => match while_locked(&lock, self.take_up(&lock, record, checkpoint).boxed()).await {
                Ok(Some(TakenUp { performer, standing })) => {
                    lead.run(performer, standing, self.settings, progress).await
                }
                Ok(None) => lead.close_failed(JobError::LockLost(Lost::Removed)).await,
                Err(error @ JobError::LockLost(_)) => lead.close_failed(error).await,
                Err(error) => leave_to_others(&lock, error).await,
            },
        }
    }

    /// Puts exactly the snapshot that was decided on.
    async fn put_decided(
        &self,
        lock: &Arc<RepositoryLock>,
        record: Arc<JobRecord>,
        finished: &Finished,
    ) -> Result<Id, JobError> {
        let committer = committer(self.doors, self.request, lock, record)?;
        while_locked(lock, committer.put_snapshot(finished).boxed()).await
    }

    /// Everything as the last coordinator had it; none if packs of the job are gone.
    async fn take_up(
        &self,
        lock: &Arc<RepositoryLock>,
        record: Arc<JobRecord>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Option<TakenUp>, JobError> {
        let (doors, start) = (self.doors, record.start());
        let index = BlobIndex::load(&doors.repository, &start.index_files, doors.cache.as_deref()).await?;
        let facts = match &checkpoint {
            Some(checkpoint) => Some(self.facts(checkpoint.facts).await?),
            None => None,
        };
        let state = checkpoint.as_ref().map_or_else(|| State::new(start.settings.clone()), |found| found.state.clone());
        let confirmed = state.confirmed_packs();
        let (session, trees) = match Session::restore(&doors.repository, &start.index_files, confirmed).await? {
            Restored::Session { session, trees } => (session, trees),
            Restored::PackIsGone(pack) => {
                tracing::warn!(%pack, "a pack of the job is gone; everything known is doubtful");
                return Ok(None);
            }
        };
        let performer =
            performer(doors, self.submission, self.request, Arc::new(index), lock, record.clone(), facts).await?;
        performer.assembler.note_stored(trees);
        let mut standing = Standing { session, taken_over: true, ..Standing::at_start(state) };
        if let Some(Checkpoint { under_way, generation, position, figures, index_files, .. }) = checkpoint {
            performer.committer.count_index_files(index_files);
            standing = Standing { under_way, figures, read_up_to: Some((generation, position)), ..standing };
        }
        Ok(Some(TakenUp { performer: Arc::new(performer), standing }))
    }

    async fn facts(&self, id: Id) -> Result<(Facts, Id), JobError> {
        let json = self.doors.objects.get(&self.submission.job, &id).await?;
        let facts = serde_json::from_slice(&json).map_err(|error| JobError::internal("the job's facts", &error))?;
        Ok((facts, id))
    }

    /// Nothing is put. A snapshot that is there already counts; else a new job goes on.
    async fn end_after_gap(&self, record: &JobRecord) -> Result<Ended, JobError> {
        let decided = record.end(ResultRecord::bare(JobOutcome::Superseded { by: self.next.clone() })).await?;
        match (decided, record.decided().await?) {
            (Some(JobOutcome::Done { .. }), Some(Decision::Snapshot(finished))) => {
                Ok(Ended::Done(Box::new(finished.done())))
            }
            // Decided here, or by a coordinator that could not begin it any more.
            (Some(JobOutcome::Superseded { by }), _) => Ok(Ended::GoesOn { by, reason: Lost::Removed }),
            (Some(outcome), _) => Err(error_of(&outcome)),
            (None, _) => Err(JobError::Fenced { job: self.submission.job.clone() }),
        }
    }
}

/// What failed here may work elsewhere: the job has no result, and is taken over again.
async fn leave_to_others(lock: &RepositoryLock, error: JobError) -> Result<Ended, JobError> {
    if let Err(error) = lock.release().await {
        tracing::warn!(%error, "the lock was not removed");
    }
    Err(error)
}
