//! The lock that a command or a job holds on a repository: taken, kept, watched, given back.
//!
//! # Order and consistency
//! A taker looks for locks that conflict with its own, writes its own, waits [`SETTLE_TIME`], and
//! looks again. In a storage where a finished put is seen by every later listing, of two takers at
//! least the one that wrote later sees the other, so two conflicting locks are never both held.
//! Both may lose. A put whose outcome is open counts only once the own file was seen, and a lock
//! that vanishes between being listed and being read may have been refreshed: everything is listed
//! again.
//!
//! # No gap
//! A lock protects what is uploaded and not yet referenced. If it was away for a moment, a foreign
//! prune may have run, and everything that its holder knows of the repository is doubtful.
//! Therefore a refresh sees the old file in a listing before *and* after it writes the new one; if
//! it was gone at either look, or the lock was not refreshed for [`LOST_AFTER`] of wall or
//! monotonic time (a paused process), the lock is [`Lost`] for good. It is never taken again in
//! silence.
//!
//! # Retries
//! [`RepositoryLock::keep`] tries a refresh again until it works or the lock is lost. The other
//! calls report what the storage reports.
//!
//! # Cancellation and crash
//! Every call on a held lock may be dropped at any point: files that may have been written are
//! remembered and removed with the next refresh or by [`RepositoryLock::release`]. A
//! [`RepositoryLock::take`] that is dropped between its two looks, a lost process, and a put that
//! happens after everybody gave it up leave a lock file behind. After [`STALE_AFTER`] `unlock`
//! removes it.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::handles::{Clock, UnixTime};
use proto::id::{Id, JobId};
use tokio::sync::{Mutex, watch};

mod error;
mod files;
mod hold;
mod look;
mod take;
mod take_over;
mod unlock;

#[cfg(test)]
mod test_clock;
#[cfg(test)]
mod test_site;

#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod take_tests;

pub use crate::format::lock::{LOST_AFTER, Lock, REFRESH_EVERY, SETTLE_TIME, STALE_AFTER};
pub use error::{Conflict, DamagedLock, HoldError, LockDamage, LockError, Lost};
pub use unlock::{FoundLock, LockContent, list_locks, remove_all_locks, remove_ended_locks, remove_stale_locks};

use crate::repository::Repository;
use files::LockFiles;

/// What is put (index files, commit records, snapshots) must be put within this time after the own
/// lock was seen: see [`RepositoryLock::still_there`].
pub const SIGHTING_VALID: Duration = Duration::from_secs(10);

/// The lock that somebody wants, and who that is.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// Exclusive locks suffer no other one, shared locks no exclusive one.
    pub exclusive: bool,
    /// The host, or [`fleet_hostname`] for a job that no single host holds.
    pub hostname: String,
    /// The login name.
    pub username: String,
    /// The process.
    pub pid: u32,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The job, if it is one of a fleet.
    pub job: Option<JobId>,
    /// Tells of a process of `hostname` whether it is there, so that the error about a conflicting
    /// lock can say that this lock is stale. [`process_is_alive`] where `hostname` is this host.
    pub is_alive: fn(i64) -> bool,
}

impl LockRequest {
    fn lock(&self, time: UnixTime) -> Lock {
        Lock {
            time,
            exclusive: self.exclusive,
            hostname: self.hostname.clone(),
            username: self.username.clone(),
            pid: i64::from(self.pid),
            uid: self.uid,
            gid: self.gid,
            longshore_job: self.job.as_ref().map(|job| job.as_str().to_owned()),
        }
    }
}

/// The host name in the locks of a fleet's jobs.
///
/// restic removes a lock whose host is its own and whose process is dead; this is a name that no
/// host has.
pub fn fleet_hostname(repository_id: &Id) -> String {
    format!("longshore.{}", repository_id.short())
}

/// Whether this host has a process of this number, whoever owns it.
pub fn process_is_alive(pid: i64) -> bool {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// An instant on both clocks. A suspended machine may stop the monotonic one, and the wall clock
/// may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock.
    pub wall: UnixTime,
    /// By the monotonic clock.
    pub monotonic: Duration,
}

impl Moment {
    /// This instant.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// Time since then by the clock that says more.
    pub fn age(&self, clock: &dyn Clock) -> Duration {
        clock.monotonic().saturating_sub(self.monotonic).max(clock.now().since(self.wall))
    }

    /// Whether a lock that was written then is worth holding; it may have taken that long.
    fn is_young(&self, clock: &dyn Clock) -> bool {
        self.age(clock) < LOST_AFTER
    }

    /// Whether the lock that was seen then allows to put something now: not older than
    /// [`SIGHTING_VALID`].
    pub fn is_recent(&self, clock: &dyn Clock) -> bool {
        self.age(clock) <= SIGHTING_VALID
    }
}

/// A lock that is held, or was until it got lost. See the [module](self) for what it promises.
///
/// Share it by `Arc`: one task runs [`RepositoryLock::keep`], others ask
/// [`RepositoryLock::still_there`]. Dropping it leaves its file where it is.
pub struct RepositoryLock {
    files: LockFiles,
    request: LockRequest,
    clock: Arc<dyn Clock>,
    held: watch::Sender<Held>,
    /// One refresh at a time, none beside the release.
    refreshing: Mutex<()>,
}

/// What is known about one's own lock files.
#[derive(Clone, Debug)]
struct Held {
    /// The file that is the lock.
    current: Id,
    /// The time in that file: from before it was written.
    written: Moment,
    /// Files of ours that are, or may yet come to be, in the storage besides.
    leftovers: BTreeSet<Id>,
    /// Set once, for good.
    lost: Option<Lost>,
}

impl RepositoryLock {
    /// Takes a lock: see the [module](self). While another stands in the way it is attempted again
    /// after 5, 10, 20, 40, 60, 60.. s (or up to a quarter sooner) until `retry_for` is over, and
    /// once more then; without it, once.
    ///
    /// # Errors
    /// `Locked` if another lock stands in the way, stale or not; `Damaged`, `Vanishing` or `Storage`
    /// if one could not be read for 35 s; `Removed`, `Hanging`, `Storage`, `Seal`, `Encode`. Then
    /// nothing is left behind, as far as the storage obeys.
    pub async fn take(
        repository: &Repository,
        request: LockRequest,
        clock: Arc<dyn Clock>,
        retry_for: Option<Duration>,
    ) -> Result<Self, LockError> {
        take::Taker::new(LockFiles::of(repository), request, clock).take(retry_for).await
    }

    /// The same, until `give_up` ends while it waits for the next attempt: then nothing is left behind, and what
    /// `give_up` said is returned.
    ///
    /// # Errors
    /// As of [`RepositoryLock::take`].
    pub async fn take_unless<T>(
        repository: &Repository,
        request: LockRequest,
        clock: Arc<dyn Clock>,
        retry_for: Option<Duration>,
        give_up: impl Future<Output = T>,
    ) -> Result<Result<Self, T>, LockError> {
        take::Taker::new(LockFiles::of(repository), request, clock).take_unless(retry_for, give_up).await
    }

    /// Takes over the lock of a job whose coordinator fell silent: writes an own one and then sees
    /// that the last one stands. The last ones are removed; their holder notices at its next look.
    ///
    /// `previous` are the lock files that the job's records name, of which one must be there and
    /// be a lock of the same job. Do not look for them by the job's name: a holder that lost its
    /// lock during a refresh and crashed leaves a file that looks as if it had no gap.
    ///
    /// # Errors
    /// `Gap` if none of `previous` is there any more, or was not refreshed for [`LOST_AFTER`];
    /// `Removed`, `Storage`, `Seal`, `Encode`. Then the own one is removed.
    pub async fn take_over(
        repository: &Repository,
        request: LockRequest,
        clock: Arc<dyn Clock>,
        previous: &[Id],
    ) -> Result<Self, LockError> {
        take_over::take_over(LockFiles::of(repository), request, clock, previous).await
    }

    fn new(
        files: LockFiles,
        request: LockRequest,
        clock: Arc<dyn Clock>,
        (current, written): (Id, Moment),
        leftovers: BTreeSet<Id>,
    ) -> Self {
        let held = watch::Sender::new(Held { current, written, leftovers, lost: None });
        Self { files, request, clock, held, refreshing: Mutex::new(()) }
    }

    /// The id of the lock file that is the lock now; a refresh changes it. A job's records name it,
    /// so that a successor can take over: see [`RepositoryLock::take_over`].
    pub fn id(&self) -> Id {
        self.held.borrow().current
    }

    /// The lock as it was asked for.
    pub fn request(&self) -> &LockRequest {
        &self.request
    }

    /// Why it is no longer held, if that was found out. Costs no request and proves nothing: see
    /// [`RepositoryLock::still_there`].
    pub fn lost(&self) -> Option<Lost> {
        self.held.borrow().lost
    }
}

impl std::fmt::Debug for RepositoryLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepositoryLock").field("held", &*self.held.borrow()).finish_non_exhaustive()
    }
}
