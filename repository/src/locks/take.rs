//! Takes a lock: look, write, wait, look again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::handles::{Clock, RandomExt};
use proto::id::Id;

use super::error::LockError;
use super::files::LockFiles;
use super::look::Search;
use super::{LOST_AFTER, LockRequest, Moment, RepositoryLock, SETTLE_TIME};
use crate::storage::StorageErrorKind;

/// The pause before the second attempt; doubles with each further one.
const RETRY_PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The pause between attempts does not grow beyond this.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Somebody who wants a lock.
pub(super) struct Taker {
    files: LockFiles,
    request: LockRequest,
    clock: Arc<dyn Clock>,
    /// Files that were written and are not the lock.
    ours: BTreeSet<Id>,
    harmless: BTreeSet<Id>,
}

impl Taker {
    pub(super) fn new(files: LockFiles, request: LockRequest, clock: Arc<dyn Clock>) -> Self {
        Self { files, request, clock, ours: BTreeSet::new(), harmless: BTreeSet::new() }
    }

    /// Attempts until it works or `retry_for` is over; the last attempt is made then.
    pub(super) async fn take(self, retry_for: Option<Duration>) -> Result<RepositoryLock, LockError> {
        match self.take_unless(retry_for, std::future::pending::<std::convert::Infallible>()).await? {
            Ok(lock) => Ok(lock),
            Err(never) => match never {},
        }
    }

    /// The same, until `give_up` ends between two attempts.
    pub(super) async fn take_unless<T>(
        mut self,
        retry_for: Option<Duration>,
        give_up: impl Future<Output = T>,
    ) -> Result<Result<RepositoryLock, T>, LockError> {
        let mut give_up = std::pin::pin!(give_up);
        let start = self.clock.monotonic();
        let mut pause = RETRY_PAUSE_FIRST;
        loop {
            let waited = self.clock.monotonic().saturating_sub(start);
            let locked = match self.attempt().await {
                Ok(taken) => {
                    self.ours.remove(&taken.0);
                    return Ok(Ok(RepositoryLock::new(self.files, self.request, self.clock, taken, self.ours)));
                }
                Err(error @ LockError::Locked(_)) => error,
                Err(error) => return Err(error),
            };
            let left = retry_for.unwrap_or_default().saturating_sub(waited);
            if left.is_zero() {
                return Err(locked);
            }
            tracing::info!(error = &locked as &dyn std::error::Error, ?left, "waiting for the lock");
            tokio::select! {
                biased;
                given_up = &mut give_up => return Ok(Err(given_up)),
                () = self.clock.sleep(self.jittered(pause).min(left)) => {}
            }
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Between three quarters of `pause` and all of it, so that two who lost to each other do not
    /// meet again each time.
    fn jittered(&self, pause: Duration) -> Duration {
        let quarter_millis = (pause / 4).as_millis() as u64;
        pause - Duration::from_millis(self.files.sealer().random().below(quarter_millis + 1))
    }

    async fn attempt(&mut self) -> Result<(Id, Moment), LockError> {
        self.look().await?;
        let written = Moment::now(&*self.clock);
        let (id, sealed) = self.files.seal(&self.request.lock(written.wall))?;
        self.ours.insert(id);
        match self.establish(&id, sealed, &written).await {
            Ok(()) => Ok((id, written)),
            Err(error) => {
                self.files.discard(&id).await;
                Err(error)
            }
        }
    }

    async fn establish(&mut self, id: &Id, sealed: Bytes, written: &Moment) -> Result<(), LockError> {
        write_visibly(&self.files, id, sealed).await?;
        self.clock.sleep(SETTLE_TIME).await;
        if !self.look().await?.contains_key(id) {
            return Err(LockError::Removed { name: LockFiles::name(id) });
        }
        if !written.is_young(&*self.clock) {
            return Err(LockError::Hanging { limit: LOST_AFTER });
        }
        Ok(())
    }

    /// The files that are there, none of which conflicts. Those of an attempt before, which could
    /// not be removed or appeared late, do not count.
    async fn look(&mut self) -> Result<BTreeMap<Id, u64>, LockError> {
        let Self { files, request, clock, ours, harmless } = self;
        Search { files, clock: &**clock, request, ours, harmless }.look().await
    }
}

/// Writes a lock file so that everybody sees it when this returns: after an open outcome it must be
/// in a listing.
pub(super) async fn write_visibly(files: &LockFiles, id: &Id, sealed: Bytes) -> Result<(), LockError> {
    match files.put(id, sealed).await {
        Err(error) if error.kind == StorageErrorKind::Unknown && files.list().await?.contains_key(id) => Ok(()),
        result => Ok(result?),
    }
}
