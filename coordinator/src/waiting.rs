//! What a job waits for beside its work: its lock, somebody who calls it off, others who end it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::id::JobId;
use repository::locks::{LockRequest, RepositoryLock};

use crate::Doors;
use crate::error::JobError;
use crate::leadership::{Leadership, stopping};
use crate::record::has_ended;

/// How often a job looks whether it was cancelled.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a job without epochs looks whether somebody else ended it.
const ENDED_EVERY: Duration = Duration::from_secs(30);

/// Takes the lock of a job, unless it is called off while it waits for others.
///
/// # Errors
/// `Cancelled`, `HandedOver`, and why there is no lock.
pub(crate) async fn take_lock(
    doors: &Doors,
    wanted: LockRequest,
    retry_for: Option<Duration>,
    job: &JobId,
    leadership: Option<&Leadership>,
) -> Result<Arc<RepositoryLock>, JobError> {
    let called_off = called_off(doors, job, leadership);
    let taken =
        RepositoryLock::take_unless(&doors.repository, wanted, doors.clock.clone(), retry_for, called_off).await?;
    taken.map(Arc::new)
}

/// Does `work`, and keeps the lock meanwhile.
///
/// # Errors
/// `LockLost`, and those of `work`.
pub(crate) async fn while_locked<T>(
    lock: &RepositoryLock,
    work: impl Future<Output = Result<T, JobError>>,
) -> Result<T, JobError> {
    tokio::select! {
        biased;
        done = work => done,
        lost = lock.keep() => Err(JobError::LockLost(lost)),
    }
}

/// The same where there may be no lock.
///
/// # Errors
/// As of [`while_locked`].
pub(crate) async fn while_locked_if<T>(
    lock: Option<&RepositoryLock>,
    work: impl Future<Output = Result<T, JobError>>,
) -> Result<T, JobError> {
    match lock {
        Some(lock) => while_locked(lock, work).await,
        None => work.await,
    }
}

/// Waits until somebody asks to cancel the job, or this coordinator stops.
pub(crate) async fn called_off(doors: &Doors, job: &JobId, leadership: Option<&Leadership>) -> JobError {
    loop {
        tokio::select! {
            biased;
            () = stopping(leadership) => return left(doors, job).await,
            () = doors.clock.sleep(LOOK_EVERY) => {
                if doors.state.cancel_requested(job).await.unwrap_or(false) {
                    return JobError::Cancelled;
                }
            }
        }
    }
}

/// Why a job without checkpoints ends here when its coordinator stops: it goes on under another name, where nobody
/// hears that this one was cancelled.
pub(crate) async fn left(doors: &Doors, job: &JobId) -> JobError {
    match doors.state.cancel_requested(job).await {
        Ok(true) => JobError::Cancelled,
        Ok(false) | Err(_) => JobError::HandedOver { job: job.clone() },
    }
}

/// Waits until the record of the job says that it has ended: somebody else did that, and this coordinator is to stop.
pub(crate) async fn ended_elsewhere(doors: &Doors, job: &JobId) -> JobError {
    loop {
        doors.clock.sleep(ENDED_EVERY).await;
        if has_ended(&doors.repository, job).await {
            return JobError::Fenced { job: job.clone() };
        }
    }
}
