//! Goes on with jobs that nobody leads any more.

use std::convert::Infallible;
use std::time::Duration;

use proto::follow::JobDocument;
use proto::id::{Id, JobId};
use proto::job::{JobOutcome, Request, Submission};
use proto::names::Record;
use tokio::sync::mpsc;

use super::Desk;
use super::document::of_result;
use super::work::Assignment;
use crate::abandoned::{Abandoned, Watch};
use crate::error::JobError;
use crate::found_record::FoundRecord;
use crate::plain_record::{Superseded, started, supersede};
use crate::publish::close_doors;

/// So many jobs are remembered whose tasks a restore that is begun anew keeps out.
const INSTEAD_OF_MAX: usize = 32;

/// How often it looks for such jobs.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Desk {
    /// Looks for abandoned jobs again and again.
    pub(super) async fn inherit(&self, begin: &mpsc::Sender<Assignment>) -> Infallible {
        let mut watch = Watch::default();
        loop {
            let abandoned = match watch.look(&self.doors).await {
                Ok(abandoned) => abandoned,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "nobody can be asked for jobs without a coordinator");
                    Vec::new()
                }
            };
            for abandoned in abandoned.iter().filter(|abandoned| !self.leadership.leads(&abandoned.job)) {
                match self.assign_abandoned(abandoned).await {
                    // The receiver lives as long as this.
                    Ok(Some(assignment)) => drop(begin.send(assignment).await),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(job = %abandoned.job, error = error.chain(), "a job cannot be taken over now");
                    }
                }
            }
            self.doors.clock.sleep(LOOK_EVERY).await;
        }
    }

    /// What is to be done about an abandoned job; nothing if it has ended meanwhile.
    pub(super) async fn assign_abandoned(&self, abandoned: &Abandoned) -> Result<Option<Assignment>, JobError> {
        let (repository, job) = (&self.doors.repository, &abandoned.job);
        let Some(leading) = self.leadership.lead(job) else { return Ok(None) };
        self.leadership.beat(&self.doors).await;
        let found = FoundRecord::read(repository, job).await?;
        if found.has(Record::Result) {
            return Ok(None);
        }
        let Some(submission) = found.submission().await? else { return Ok(None) };
        tracing::info!(%job, epoch = abandoned.epoch, "goes on with a job that nobody leads");
        self.note_job(job).await;
        if matches!(submission.request, Request::Backup(_)) {
            return Ok(Some(Assignment { inherited: Some(abandoned.clone()), ..Assignment::new(submission, leading) }));
        }
        if found.epoch() == 0 {
            return Ok(Some(Assignment::new(submission, leading))); // nobody began
        }
        self.begin_anew(&submission).await
    }

    /// Ends a job that has no checkpoints in favour of a new one.
    async fn begin_anew(&self, submission: &Submission) -> Result<Option<Assignment>, JobError> {
        let (repository, job) = (&self.doors.repository, &submission.job);
        let snapshot = started(repository, job).await?.and_then(|start| start.snapshot);
        let next = Submission { request: again(&submission.request, job, snapshot), ..submission.successor() };
        let Some(leading) = self.leadership.lead(&next.job) else { return Ok(None) };
        self.leadership.beat(&self.doors).await;
        // Asked here, as nobody asks for the new one. Until the job has ended only who wants that sets it.
        let wanted = match self.doors.state.cancel_requested(job).await? {
            true => JobOutcome::Cancelled,
            false => JobOutcome::Superseded { by: next.job.clone() },
        };
        let Superseded { result, is_first } = supersede(repository, job, wanted, &next).await?;
        let by = match &result.outcome {
            JobOutcome::Superseded { by } => Some(by.clone()),
            _ => None,
        };
        // What still runs of the old one stops.
        close_doors(&self.doors, job).await;
        self.put_document(&of_result(JobDocument::queued(submission, self.doors.clock.now()), result)).await;
        if by.as_ref() != Some(&next.job) || !is_first {
            return Ok(None); // it ended, or another coordinator begins the new one
        }
        self.note_job(&next.job).await;
        Ok(Some(Assignment { is_again: true, ..Assignment::new(next, leading) }))
    }
}

/// The same request once more, for exactly the snapshot that was chosen when `job` began it.
fn again(request: &Request, job: &JobId, snapshot: Option<Id>) -> Request {
    let Request::Restore(restore) = request else { return request.clone() };
    let mut restore = restore.clone();
    if let Some(snapshot) = snapshot {
        (restore.snapshot, restore.choice) = (snapshot, None);
    }
    restore.instead_of.push(job.clone());
    let too_many = restore.instead_of.len().saturating_sub(INSTEAD_OF_MAX);
    restore.instead_of.drain(..too_many);
    Request::Restore(restore)
}
