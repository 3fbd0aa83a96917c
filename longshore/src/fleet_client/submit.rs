//! Submits a job.

use std::time::Duration;

use coordinator::backup::job_id_at;
use fleet::queue::{Address, Message, QueueError};
use proto::envelope::MESSAGE_BYTES_MAX;
use proto::follow::JobDocument;
use proto::handles::RandomExt;
use proto::job::{Request, Submission};

use super::SubmitFlags;
use super::registry::{await_worker, coordinators};
use crate::exit::CommandError;
use crate::fleet_doors::FleetDoors;
use crate::session::Session;

/// How long to wait before a service that does not answer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The submission of `request`, once a coordinator and a worker are there for it.
///
/// # Errors
/// They are not.
pub(crate) async fn submission(
    session: &Session,
    doors: &FleetDoors,
    flags: &SubmitFlags,
    request: Request,
) -> Result<Submission, CommandError> {
    let coordinators = coordinators(session, doors, &flags.connect).await?;
    await_worker(session, doors, flags, &coordinators).await?;
    // There is at least one, and all are of one repository.
    let repository = coordinators.first().map(|coordinator| coordinator.repository).unwrap_or_default();
    let now = session.clock.now();
    let job = match &flags.idempotency_key {
        Some(key) => Submission::job_of_key(&repository, key),
        None => job_id_at(now, session.random.bytes()),
    };
    Ok(Submission {
        job,
        repository,
        idempotency_key: flags.idempotency_key.clone(),
        pool: flags.pool.clone(),
        submitted_at: now,
        request,
    })
}

/// Publishes a submission. When this returns it is durable in the queue; published twice it is one job.
///
/// # Errors
/// It is too long, or cannot be published in time.
pub(crate) async fn publish(
    session: &Session,
    doors: &FleetDoors,
    submission: &Submission,
    within: Duration,
) -> Result<(), CommandError> {
    let body = serde_json::to_vec(submission).unwrap_or_default();
    if body.len() > MESSAGE_BYTES_MAX {
        let bytes = body.len();
        let why = "name fewer paths and patterns";
        return Err(CommandError::Usage(format!(
            "the submission has {bytes} bytes, more than {MESSAGE_BYTES_MAX}: {why}"
        )));
    }
    // Seen until a coordinator takes it; one that vanishes costs nothing but a look.
    if let Ok(None) = doors.state.job_state(&submission.job).await {
        let document = JobDocument::queued(submission, session.clock.now());
        let document = serde_json::to_vec(&document).unwrap_or_default();
        let _ = doors.state.put_job_state(&submission.job, document.into()).await;
    }
    let subject = submission.job.to_string();
    let message = Message { body: body.into(), attempt: 1, last_error: None, subject };
    let give_up_at = session.clock.monotonic() + within;
    loop {
        match doors.queue.publish(&Address::Jobs, message.clone()).await {
            Ok(()) => return Ok(()),
            Err(error @ QueueError::Unavailable { .. }) if session.clock.monotonic() < give_up_at => {
                tracing::info!(%error, "the submission is published again");
                session.clock.sleep(ASK_AGAIN_AFTER).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
