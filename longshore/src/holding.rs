//! A command at work on a repository under its lock.

use std::future::Future;

use coordinator::error::JobError;
use repository::locks::{LockRequest, RepositoryLock, process_is_alive};
use repository::repository::Repository;

use crate::exit::CommandError;
use crate::session::Session;
use crate::signals::Signals;

/// The lock of this host and process, as restic has it: `unlock` can tell when the holder is gone.
pub(crate) fn lock_request(session: &Session, exclusive: bool) -> LockRequest {
    let identity = &session.identity;
    LockRequest {
        exclusive,
        hostname: identity.hostname.clone(),
        username: identity.username.clone(),
        pid: identity.pid,
        uid: identity.uid,
        gid: identity.gid,
        job: None,
        is_alive: process_is_alive,
    }
}

/// Does `work` under a lock that is refreshed meanwhile and given back in the end. A signal to stop ends it, and so does
/// the loss of the lock.
pub(crate) async fn under_lock<T>(
    session: &Session,
    repository: &Repository,
    exclusive: bool,
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let request = lock_request(session, exclusive);
    let mut signals = Signals::listen()?;
    let lock = RepositoryLock::take(repository, request, session.clock.clone(), None).await?;
    let ended = tokio::select! {
        biased;
        ended = work => ended,
        lost = lock.keep() => Err(JobError::LockLost(lost).into()),
        () = signals.stop() => Err(CommandError::Interrupted),
    };
    if let Err(error) = lock.release().await {
        tracing::warn!(%error, "the lock was not removed");
    }
    ended
}

/// Does `work` without a lock. A signal to stop ends it.
pub(crate) async fn without_lock<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        ended = work => ended,
        () = signals.stop() => Err(CommandError::Interrupted),
    }
}
