//! Holds a lock: refresh it, see that it is there, notice that it is lost, give it back.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use proto::id::Id;

use super::error::{HoldError, LockError, Lost};
use super::files::LockFiles;
use super::{LOST_AFTER, Moment, REFRESH_EVERY, RepositoryLock};
use crate::storage::StorageErrorKind;

/// How often [`RepositoryLock::keep`] compares the clocks, so that it notices a pause soon.
const CLOCK_CHECK_EVERY: Duration = Duration::from_secs(10);
/// A refresh that hangs is dropped and begun anew, so that one dead connection does not cost the lock.
const REFRESH_TRY_MAX: Duration = Duration::from_secs(120);
/// The pause after a refresh that failed; doubles with each further one.
const REFRESH_PAUSE_FIRST: Duration = Duration::from_secs(5);
/// That pause does not grow beyond this.
const REFRESH_PAUSE_MAX: Duration = Duration::from_secs(20);

impl RepositoryLock {
    /// Puts a lock file with the time of now in the place of the current one.
    ///
    /// # Errors
    /// `Lost` if the current file was gone before or after the new one was written, if the lock is
    /// too old, or was lost before; then the new file is removed. `Trouble` if the storage failed
    /// or the new file is not there: the lock is what it was, and older.
    pub async fn refresh(&self) -> Result<(), HoldError> {
        let _one_at_a_time = self.refreshing.lock().await;
        self.check()?;
        let old = self.id();
        let written = Moment::now(&*self.clock);
        if !self.files.list().await?.contains_key(&old) {
            return Err(self.lose(Lost::Removed).into());
        }
        self.check()?;
        let (new, sealed) = self.files.seal(&self.request.lock(written.wall))?;
        // From here on the file may exist, however this ends.
        self.held.send_modify(|held| {
            held.leftovers.insert(new);
        });
        let put = self.files.put(&new, sealed).await;
        if let Err(error) = &put
            && error.kind != StorageErrorKind::Unknown
        {
            return Err(error.clone().into());
        }
        let listed = self.files.list().await?;
        if !listed.contains_key(&old) {
            let lost = self.lose(Lost::Removed);
            self.files.discard(&new).await;
            return Err(lost.into());
        }
        if !listed.contains_key(&new) {
            put?;
            return Err(LockError::Removed { name: LockFiles::name(&new) }.into());
        }
        let replaced = self.replace(old, new, written);
        self.discard_seen_leftovers(&listed).await;
        Ok(replaced?)
    }

    /// Looks for the own lock file, and says when that was: a moment before the listing began.
    /// What was seen is worth [`super::SIGHTING_VALID`]: see [`Moment::is_recent`].
    ///
    /// # Errors
    /// `Lost`; `Trouble` if the storage failed.
    pub async fn still_there(&self) -> Result<Moment, HoldError> {
        loop {
            let seen = Moment::now(&*self.clock);
            let before = self.check()?;
            let listed = self.files.list().await?;
            let after = self.check()?;
            if listed.contains_key(&before) || listed.contains_key(&after) {
                return Ok(seen);
            }
            // Another task may have refreshed it between two pages of the listing.
            if before == after {
                return Err(self.lose(Lost::Removed).into());
            }
        }
    }

    /// Refreshes the lock every [`REFRESH_EVERY`] and tries again what fails, until the lock is
    /// lost; only then it resolves. It may be dropped at any time: the refreshing stops, the lock
    /// stays.
    pub async fn keep(&self) -> Lost {
        let mut pause = REFRESH_PAUSE_FIRST;
        let mut wait = self.time_to_refresh();
        loop {
            if let Err(lost) = self.unless_lost(self.clock.sleep(wait)).await {
                return lost;
            }
            let refreshed = match self.unless_lost(self.refresh_in_time()).await {
                Ok(refreshed) => refreshed,
                Err(lost) => return lost,
            };
            match refreshed {
                Ok(()) => {
                    pause = REFRESH_PAUSE_FIRST;
                    wait = self.time_to_refresh();
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, ?pause, "refresh the repository lock");
                    wait = pause;
                    pause = (pause * 2).min(REFRESH_PAUSE_MAX);
                }
            }
        }
    }

    /// Gives the lock back: every file of it is removed. Also after a loss, to clean up. What fails
    /// is tried again by calling this again.
    ///
    /// From the first call on the lock counts as lost; end [`RepositoryLock::keep`] before, else
    /// this waits until the refresh that may be under way has ended.
    ///
    /// # Errors
    /// `Storage` for the first file that could not be removed; the others are.
    pub async fn release(&self) -> Result<(), LockError> {
        self.lose(Lost::Released);
        let _no_refresh = self.refreshing.lock().await;
        let held = self.held.borrow().clone();
        let mut result = Ok(());
        for id in held.leftovers.iter().chain([&held.current]) {
            let removed = self.files.remove(id).await;
            result = result.and(removed);
        }
        Ok(result?)
    }

    /// The current file, if the lock is held as far as the clocks and former looks tell.
    fn check(&self) -> Result<Id, Lost> {
        let (current, written, lost) = {
            let held = self.held.borrow();
            (held.current, held.written, held.lost)
        };
        if let Some(lost) = lost {
            return Err(lost);
        }
        let age = written.age(&*self.clock);
        if age < LOST_AFTER { Ok(current) } else { Err(self.lose(Lost::NotRefreshed { age })) }
    }

    /// Notes the loss, for good. The first reason counts.
    fn lose(&self, reason: Lost) -> Lost {
        self.held.send_if_modified(|held| {
            let is_first = held.lost.is_none();
            held.lost.get_or_insert(reason);
            is_first
        });
        self.lost().unwrap_or(reason)
    }

    /// Makes `new` the lock, unless that was lost meanwhile.
    fn replace(&self, old: Id, new: Id, written: Moment) -> Result<(), Lost> {
        self.check()?;
        let is_replaced = self.held.send_if_modified(|held| {
            if held.lost.is_some() {
                return false;
            }
            held.leftovers.insert(old);
            held.leftovers.remove(&new);
            held.current = new;
            held.written = written;
            true
        });
        if is_replaced { Ok(()) } else { self.check().map(|_| ()) }
    }

    /// Removes those leftovers that were seen in `listed`, and forgets them. Of the others nobody
    /// knows whether they are yet to come.
    async fn discard_seen_leftovers(&self, listed: &BTreeMap<Id, u64>) {
        let leftovers = self.held.borrow().leftovers.clone();
        for id in leftovers.iter().filter(|id| listed.contains_key(id)) {
            if self.files.discard(id).await {
                self.held.send_modify(|held| {
                    held.leftovers.remove(id);
                });
            }
        }
    }

    fn time_to_refresh(&self) -> Duration {
        let written = self.held.borrow().written;
        REFRESH_EVERY.saturating_sub(written.age(&*self.clock))
    }

    /// One refresh, dropped if it takes too long.
    async fn refresh_in_time(&self) -> Result<(), HoldError> {
        tokio::select! {
            biased;
            refreshed = self.refresh() => refreshed,
            () = self.clock.sleep(REFRESH_TRY_MAX) => Err(LockError::Hanging { limit: REFRESH_TRY_MAX }.into()),
        }
    }

    /// Does `work`, or drops it when the lock is lost.
    async fn unless_lost<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::select! {
            biased;
            lost = self.wait_for_loss() => Err(lost),
            done = work => Ok(done),
        }
    }

    async fn wait_for_loss(&self) -> Lost {
        let mut changes = self.held.subscribe();
        loop {
            if let Err(lost) = self.check() {
                return lost;
            }
            tokio::select! {
                biased;
                // An error would mean that the sender is gone, which is a part of `self`.
                _ = changes.wait_for(|held| held.lost.is_some()) => (),
                () = self.clock.sleep(CLOCK_CHECK_EVERY) => (),
            }
        }
    }
}
