//! Looks for locks that conflict with one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use proto::handles::Clock;
use proto::id::Id;

use super::LockRequest;
use super::error::{Conflict, LockError};
use super::files::{LockFiles, Reading};
use crate::format::lock::Lock;

/// A lock that cannot be read is tried this often, as restic does: 35 s in all.
const READS_MAX: u32 = 4;
/// The pause after the first try; doubles with each further one.
const REREAD_PAUSE: Duration = Duration::from_secs(5);
/// How often everything is listed again at once because a lock vanished before it was read. Holders
/// refresh every 5 min, so a second time is rare.
const RELISTS_MAX: u32 = 8;
/// Locks that are read at the same time.
const READERS: usize = 8;

/// What one look found.
enum Glance {
    /// No conflict; all the files that are there.
    Clear(BTreeMap<Id, u64>),
    /// A lock was listed, and gone when it was to be read.
    Vanished(Id),
    /// Some lock could not be read.
    Unreadable(LockError),
}

/// One search, over all its looks.
pub(super) struct Search<'s> {
    pub(super) files: &'s LockFiles,
    pub(super) clock: &'s dyn Clock,
    pub(super) request: &'s LockRequest,
    /// Files of one's own.
    pub(super) ours: &'s BTreeSet<Id>,
    /// Locks known not to conflict. They stay so: a lock file never changes.
    pub(super) harmless: &'s mut BTreeSet<Id>,
}

impl Search<'_> {
    /// The lock files that are there, none of which conflicts.
    ///
    /// # Errors
    /// `Locked`; `Damaged`, `Vanishing` or `Storage` if a lock could not be read for 35 s.
    pub(super) async fn look(&mut self) -> Result<BTreeMap<Id, u64>, LockError> {
        let (mut reads, mut relists, mut pause) = (1, 0, REREAD_PAUSE);
        loop {
            let trouble = match self.glance().await? {
                Glance::Clear(listed) => return Ok(listed),
                Glance::Vanished(_) if relists < RELISTS_MAX => {
                    relists += 1;
                    continue;
                }
                Glance::Vanished(id) => LockError::Vanishing { name: LockFiles::name(&id) },
                Glance::Unreadable(error) => error,
            };
            if reads == READS_MAX {
                return Err(trouble);
            }
            tracing::debug!(error = &trouble as &dyn std::error::Error, ?pause, "a lock cannot be read");
            self.clock.sleep(pause).await;
            reads += 1;
            pause *= 2;
        }
    }

    async fn glance(&mut self) -> Result<Glance, LockError> {
        let listed = self.files.list().await?;
        // An empty file is an upload that was broken off, in a storage that shows such.
        let is_unknown = |id: &Id, bytes: u64| bytes > 0 && !self.ours.contains(id) && !self.harmless.contains(id);
        let unknown: Vec<(Id, u64)> =
            listed.iter().map(|(id, bytes)| (*id, *bytes)).filter(|(id, bytes)| is_unknown(id, *bytes)).collect();
        let mut trouble = None;
        let mut vanished = None;
        for some in unknown.chunks(READERS) {
            let readings = join_all(some.iter().map(|(id, bytes)| self.files.read(id, *bytes))).await;
            for ((id, _), reading) in some.iter().zip(readings) {
                match reading {
                    Ok(Reading::Lock(lock)) => self.judge(*id, lock)?,
                    Ok(Reading::Vanished) => vanished = Some(*id),
                    Ok(Reading::Damaged(source)) => {
                        trouble = Some(LockError::Damaged { name: LockFiles::name(id), source });
                    }
                    Err(error) => trouble = Some(error.into()),
                }
            }
        }
        Ok(match (trouble, vanished) {
            (Some(trouble), _) => Glance::Unreadable(trouble),
            (None, Some(id)) => Glance::Vanished(id),
            (None, None) => Glance::Clear(listed),
        })
    }

    fn judge(&mut self, id: Id, lock: Lock) -> Result<(), LockError> {
        if !lock.conflicts_with(self.request.exclusive) {
            self.harmless.insert(id);
            return Ok(());
        }
        let stale = lock.is_stale(self.clock.now(), &self.request.hostname, self.request.is_alive);
        Err(LockError::Locked(Box::new(Conflict {
            id,
            hostname: lock.hostname,
            username: lock.username,
            pid: lock.pid,
            since: lock.time,
            exclusive: lock.exclusive,
            job: lock.longshore_job,
            stale,
        })))
    }
}
