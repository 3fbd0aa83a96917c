//! A job that this coordinator leads: runs it to its end, and closes what it opened.
//!
//! # Who leads
//! The coordinator of the highest epoch in the job's record, under the job's lock. One that finds a higher epoch ends as
//! `Fenced`: it removes its own lock files and touches nothing else, as all the rest belongs to its successor.
//!
//! # Hand-over
//! A coordinator that stops writes a checkpoint and leaves lock and record as they stand, as a crash would: whoever goes
//! on takes both over.
//!
//! # Gap
//! After a gap of the lock the record decides that the job is superseded by a new one. The first decision counts, so that
//! of a coordinator that wakes up and one that takes the job over only one goes on.

use std::sync::Arc;

use futures::FutureExt;
use proto::id::{Id, JobId};
use proto::job::JobOutcome;
use repository::locks::{HoldError, Lost, RepositoryLock};
use tokio::sync::watch;
use tracing::Instrument;

use crate::Doors;
use crate::backup::{BackupDone, Settings};
use crate::collect::Collector;
use crate::error::JobError;
use crate::job::Progress;
use crate::metrics::Counted;
use crate::perform::Performer;
use crate::publish::{close_doors, open_doors};
use crate::record::{JobRecord, ResultRecord};
use crate::run::{Runner, Standing};
use crate::waiting::while_locked;

/// How a job ended that this coordinator led.
pub(crate) enum Ended {
    /// It has a snapshot.
    Done(Box<BackupDone>),
    /// Its lock was lost: it goes on as this job.
    GoesOn { by: JobId, reason: Lost },
}

/// The lock and the record of a job.
pub(crate) struct Lead<'a> {
    pub(crate) doors: &'a Doors,
    pub(crate) job: JobId,
    pub(crate) lock: Arc<RepositoryLock>,
    pub(crate) record: Arc<JobRecord>,
    /// The job that goes on if the lock gets lost.
    pub(crate) next: Option<JobId>,
}

impl Lead<'_> {
    /// Runs the job to its end.
    pub(crate) async fn run(
        self,
        performer: Arc<Performer>,
        standing: Standing,
        settings: &Settings,
        progress: &watch::Sender<Progress>,
    ) -> Result<Ended, JobError> {
        let counted = Counted::backup(&performer, self.record.epoch());
        let span = tracing::error_span!("job", job = %self.job);
        let ended = self.run_uncounted(performer, standing, settings, progress).instrument(span).await;
        counted.end(&ended);
        ended
    }

    async fn run_uncounted(
        self,
        performer: Arc<Performer>,
        standing: Standing,
        settings: &Settings,
        progress: &watch::Sender<Progress>,
    ) -> Result<Ended, JobError> {
        match Self::runner(performer, standing, settings, progress).await {
            Ok(mut runner) => {
                let ended = runner.run().await;
                let done = done(&runner);
                drop(runner);
                self.close(ended, done).await
            }
            Err(error) => self.close_failed(error).await,
        }
    }

    async fn runner<'r>(
        performer: Arc<Performer>,
        standing: Standing,
        settings: &Settings,
        progress: &'r watch::Sender<Progress>,
    ) -> Result<Runner<'r>, JobError> {
        let doors = &performer.doors;
        let opening = open_doors(doors, &performer.job, &performer.route, settings.wait_workers);
        let generation = while_locked(&performer.committer.fence.lock, opening.boxed()).await?;
        // A stream that was lost is read from its start.
        let read_up_to = standing.read_up_to.clone().filter(|(known, _)| *known == generation);
        let position = read_up_to.map(|(_, position)| position).unwrap_or_default();
        let collector = Collector::new(doors.clone(), performer.job.clone(), performer.key.clone(), position);
        Ok(Runner::new(performer, collector, standing, progress, generation, settings))
    }

    /// Closes a job that ended without running.
    pub(crate) async fn close_failed(self, error: JobError) -> Result<Ended, JobError> {
        let ended = match self.see_who_leads(error).await {
            JobError::LockLost(reason) => return self.close_gap(reason, None).await,
            error => error,
        };
        self.close_without(&ended).await;
        Err(ended)
    }

    /// Closes a job that ran: `done` is what it did, were this its end.
    pub(crate) async fn close(self, ended: Result<Id, JobError>, done: BackupDone) -> Result<Ended, JobError> {
        let error = match ended {
            Ok(snapshot) => {
                let done = BackupDone { snapshot, ..done };
                self.end(ResultRecord::of_backup(&done)).await;
                self.leave().await;
                return Ok(Ended::Done(Box::new(done)));
            }
            Err(error) => self.see_who_leads(error).await,
        };
        if let JobError::LockLost(reason) = error {
            return self.close_gap(reason, Some(done)).await;
        }
        self.close_without(&error).await;
        Err(error)
    }

    /// An error of one who does not lead any more is that; one behind a gap of the lock is a gap: whoever prunes then
    /// takes away what workers need.
    async fn see_who_leads(&self, error: JobError) -> JobError {
        match self.record.check_epoch().await {
            Ok(()) => {}
            Err(fenced @ JobError::Fenced { .. }) => return fenced,
            Err(trouble) if self.record.start().embedded => {
                tracing::debug!(error = trouble.chain(), "nobody else leads an embedded job");
            }
            Err(trouble) => {
                // Another one may lead by now: only who knows that it leads ends the record.
                tracing::warn!(error = error.chain(), trouble = trouble.chain(), "the job is left to who goes on");
                return JobError::HandedOver { job: self.job.clone() };
            }
        }
        match (error, self.lock.still_there().await) {
            (error @ (JobError::Cancelled | JobError::HandedOver { .. }), _) => error,
            (_, Err(HoldError::Lost(reason))) => JobError::LockLost(reason),
            (error, _) => error,
        }
    }

    /// Closes a job that has no snapshot.
    async fn close_without(&self, error: &JobError) {
        match error {
            JobError::Fenced { .. } => return self.release().await,
            // Who goes on must find the lock where it stands: see `RepositoryLock::take_over`.
            JobError::HandedOver { .. } => return,
            error => self.end(ResultRecord::of_error(error)).await,
        }
        self.leave().await;
    }

    /// The lock had a gap: nothing is put any more, and the record says who goes on.
    async fn close_gap(&self, reason: Lost, done: Option<BackupDone>) -> Result<Ended, JobError> {
        let wanted = match &self.next {
            Some(next) => JobOutcome::Superseded { by: next.clone() },
            None => JobOutcome::Failed { reason: JobError::LockLost(reason).chain() },
        };
        let decided = self.record.end(ResultRecord::bare(wanted)).await;
        self.leave().await;
        match decided? {
            Some(JobOutcome::Superseded { by }) if Some(&by) == self.next.as_ref() => Ok(Ended::GoesOn { by, reason }),
            Some(JobOutcome::Superseded { .. }) => Err(JobError::Fenced { job: self.job.clone() }),
            Some(JobOutcome::Done { snapshot }) if let Some(done) = done => {
                Ok(Ended::Done(Box::new(BackupDone { snapshot, ..done })))
            }
            _ => Err(JobError::LockLost(reason)),
        }
    }

    /// Ends the record. The snapshot, if there is one, is safe already.
    async fn end(&self, result: ResultRecord) {
        let closing = async {
            self.record.end(result.clone()).await?;
            if matches!(result.outcome, JobOutcome::Done { .. }) {
                JobRecord::remove_payloads(&self.doors.repository, &self.job).await?;
                if let Some(resumed) = &self.record.start().resumed {
                    JobRecord::close_old(&self.doors.repository, resumed, result).await?;
                }
            }
            Ok::<(), JobError>(())
        };
        if let Err(error) = closing.await {
            tracing::warn!(error = error.chain(), "the job's record was not closed");
        }
    }

    /// Tells the workers, and releases the lock.
    async fn leave(&self) {
        close_doors(self.doors, &self.job).await;
        self.release().await;
    }

    async fn release(&self) {
        if let Err(error) = self.lock.release().await {
            tracing::warn!(%error, "the lock was not removed");
        }
    }
}

/// What a job did; its snapshot is filled in where it is known.
pub(crate) fn done(runner: &Runner<'_>) -> BackupDone {
    let performer = &runner.performer;
    BackupDone {
        job: performer.job.clone(),
        snapshot: Id::default(),
        tree: runner.tree().unwrap_or_default(),
        parent: performer.committer.parent.as_ref().map(|parent| parent.id),
        counts: runner.counts(),
        progress: runner.state.progress(),
        packs: runner.state.packs_written(),
        group_commits: runner.state.group_commits(),
        index_files: performer.committer.index_files(),
        problems: runner.state.problems(),
        started_at: performer.committer.started_at,
        ended_at: performer.doors.clock.now(),
        resumed: performer.committer.record.start().resumed.clone(),
    }
}
