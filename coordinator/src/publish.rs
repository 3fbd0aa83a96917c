//! Publishes the tasks of one job, and passes on what was heard of tasks of others.

use std::time::Duration;

use fleet::queue::{Address, Message, QueueError, Route};
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::handles::RandomExt;
use proto::id::JobId;
use proto::report::{DeadReport, Report};
use proto::task::Task;

use crate::Doors;
use crate::error::JobError;

/// Tasks that nobody began by then are of no use.
const TASK_EXPIRES_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long to wait before a service that failed is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Publishes the tasks of one job.
pub(crate) struct Publisher {
    doors: Doors,
    job: JobId,
    route: Route,
    key: MessageKey,
}

impl Publisher {
    pub(crate) fn new(doors: &Doors, job: &JobId, route: Route, key: MessageKey) -> Self {
        Self { doors: doors.clone(), job: job.clone(), route, key }
    }

    /// The pool of workers.
    pub(crate) fn pool(&self) -> &str {
        &self.route.pool
    }

    /// Publishes a task, as often as it takes.
    ///
    /// # Errors
    /// The queue refuses it.
    pub(crate) async fn publish(&self, task: Task) -> Result<(), JobError> {
        let id = task.id;
        let envelope = Envelope {
            minor: SCHEMA_MINOR,
            repository: self.doors.repository.id(),
            job: self.job.clone(),
            expires_at: self.doors.clock.now().plus(TASK_EXPIRES_AFTER),
            body: task,
        };
        let body = envelope.seal(&self.key).map_err(|error| JobError::internal("a task", &error))?;
        let message = Message { body: body.into(), attempt: 1, last_error: None, subject: id.to_string() };
        let address = Address::Tasks(self.route.clone());
        loop {
            match self.doors.queue.publish(&address, message.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ QueueError::Unavailable { .. }) => {
                    // Publishing twice is harmless: the first accepted report counts.
                    tracing::warn!(%error, "a task is published again");
                    self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Appends a notice to the reports of its job.
pub(crate) async fn pass_on(doors: &Doors, key: &MessageKey, job: &JobId, dead: DeadReport) -> Result<(), JobError> {
    let envelope = Envelope {
        minor: SCHEMA_MINOR,
        repository: doors.repository.id(),
        job: job.clone(),
        expires_at: doors.clock.now().plus(TASK_EXPIRES_AFTER),
        body: Report::Dead(dead),
    };
    let report = envelope.seal(key).map_err(|error| JobError::internal("a notice", &error))?;
    Ok(doors.state.append_report(job, report.into()).await?)
}

/// Makes the queue and the state of a job, as long as workers would be waited for; returns the generation.
///
/// # Errors
/// They cannot be had.
pub(crate) async fn open_doors(doors: &Doors, job: &JobId, route: &Route, wait: Duration) -> Result<u64, JobError> {
    let wanted: u64 = u64::from_le_bytes(doors.repository.random().bytes());
    let give_up_at = doors.clock.monotonic() + wait;
    loop {
        let opened = async {
            doors.queue.declare(route).await?;
            Ok::<u64, JobError>(doors.state.open_job(job, wanted).await?)
        };
        match opened.await {
            Err(error) if error.is_unreachable() && doors.clock.monotonic() < give_up_at => {
                tracing::warn!(error = error.chain(), "the job waits for its services");
                doors.clock.sleep(ASK_AGAIN_AFTER).await;
            }
            opened => return opened,
        }
    }
}

/// Removes the state of a job that has ended.
pub(crate) async fn close_doors(doors: &Doors, job: &JobId) {
    if let Err(error) = doors.state.close_job(job).await {
        tracing::debug!(%error, "the job's state was not removed");
    }
    // Tasks of it that are still in the queue are dropped.
    let _ = doors.state.request_cancel(job).await;
}

/// Looks whether the job's state was lost; then makes it anew and returns its generation.
pub(crate) async fn open_again(doors: &Doors, job: &JobId, known: u64) -> Option<u64> {
    match doors.state.generation(job).await {
        Ok(Some(generation)) if generation == known => None,
        Ok(_) => {
            tracing::warn!("the job state was lost; what is not reported is looked for");
            // A new one: whoever knows how far the lost stream was read shall not go on from there.
            let wanted = u64::from_le_bytes(doors.repository.random().bytes());
            Some(doors.state.open_job(job, wanted).await.unwrap_or(known))
        }
        Err(_) => None, // heard of again with the next tick
    }
}
