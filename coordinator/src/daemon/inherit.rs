//! Goes on with jobs that nobody leads any more.

use std::convert::Infallible;
use std::time::Duration;

use proto::follow::JobDocument;
use proto::id::Id;
use proto::job::{JobOutcome, Request, RestoreRequest, Submission};
use proto::names::Record;
use tokio::sync::mpsc;

use super::Desk;
use super::document::of_result;
use super::work::Assignment;
use crate::abandoned::{Abandoned, Watch};
use crate::backup::new_job_id;
use crate::error::JobError;
use crate::found_record::FoundRecord;
use crate::plain_record::{started, supersede};
use crate::record::ResultRecord;

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
        let leading = self.leadership.lead(job);
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
        let request = of_snapshot(&submission.request, snapshot);
        let next = Submission { job: new_job_id(&self.doors), request, ..submission.clone() };
        let leading = self.leadership.lead(&next.job);
        self.leadership.beat(&self.doors).await;
        let Some(by) = supersede(repository, job, &next).await? else { return Ok(None) };
        // What still runs of the old one stops.
        let _ = self.doors.state.request_cancel(job).await;
        let document = JobDocument::queued(submission, self.doors.clock.now());
        self.put_document(&of_result(document, ResultRecord::bare(JobOutcome::Superseded { by: by.clone() }))).await;
        if by != next.job {
            return Ok(None); // another coordinator decided first, and begins it
        }
        self.note_job(&by).await;
        Ok(Some(Assignment { is_again: true, ..Assignment::new(next, leading) }))
    }
}

/// The same request for exactly the snapshot that was chosen when it was begun first.
fn of_snapshot(request: &Request, snapshot: Option<Id>) -> Request {
    match (request, snapshot) {
        (Request::Restore(restore), Some(snapshot)) => {
            Request::Restore(Box::new(RestoreRequest { snapshot, choice: None, ..(**restore).clone() }))
        }
        (request, _) => request.clone(),
    }
}
