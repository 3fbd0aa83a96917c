//! Why a lock is not held.

use std::fmt;
use std::time::Duration;

use proto::handles::UnixTime;
use proto::id::Id;

use crate::format::lock::LockFileError;
use crate::seal::{Damage, SealError};
use crate::storage::StorageError;

/// Why a lock could not be taken or written.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds a lock that conflicts; or left one behind.
    #[error("{0}")]
    Locked(Box<Conflict>),
    /// A lock file cannot be read, so nobody knows what it forbids.
    #[error(
        "{name} is damaged, and may be the lock of somebody who is at work; once nobody is, \
         `longshore unlock --remove-all` removes it"
    )]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong with it.
        source: DamagedLock,
    },
    /// A lock file is listed but not there, again and again.
    #[error("{name} is listed, but cannot be found")]
    Vanishing {
        /// The file.
        name: String,
    },
    /// The own lock was written and gone before it was taken: somebody unlocked the repository.
    #[error("{name}, the own lock, was removed before it was taken")]
    Removed {
        /// The file.
        name: String,
    },
    /// The lock of a job could not be taken over without a gap.
    #[error("the lock of job {job} had a gap: what was known about the repository is doubtful")]
    Gap {
        /// The job.
        job: String,
    },
    /// The storage did not answer within the time that one refresh has.
    #[error("no answer from the storage for {} s", .limit.as_secs())]
    Hanging {
        /// That time.
        limit: Duration,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The lock could not be sealed.
    #[error("seal a lock")]
    Seal(#[from] SealError),
    /// The lock could not be written as text.
    #[error("write a lock as JSON")]
    Encode(#[source] LockFileError),
}

impl LockError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Locked(_) | Self::Vanishing { .. } | Self::Hanging { .. } => true,
            Self::Storage(error) => error.is_transient(),
            Self::Damaged { .. } | Self::Removed { .. } | Self::Gap { .. } | Self::Seal(_) | Self::Encode(_) => false,
        }
    }
}

/// What is wrong with a lock file.
#[derive(Debug, thiserror::Error)]
#[error("a lock file of {stored_bytes} bytes that cannot be read")]
pub struct DamagedLock {
    /// Length of the file.
    pub stored_bytes: u64,
    /// What is wrong.
    #[source]
    pub damage: LockDamage,
}

/// Where the reading of a lock file ended.
#[derive(Debug, thiserror::Error)]
pub enum LockDamage {
    /// Far too long for a lock: not read at all.
    #[error("no lock is as long as that")]
    TooLong,
    /// The content is not what the name says.
    #[error("the stored content has the id {actual}")]
    WrongName {
        /// Digest of what is there.
        actual: Id,
    },
    /// It does not open.
    #[error("open it")]
    Sealed(#[source] Damage),
    /// It opens, but is no lock.
    #[error("decode it")]
    Content(#[source] LockFileError),
}

/// The lock that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The lock file.
    pub id: Id,
    /// Host that holds it.
    pub hostname: String,
    /// Login name of the holder.
    pub username: String,
    /// Process that holds it.
    pub pid: i64,
    /// When it was taken or last refreshed.
    pub since: UnixTime,
    /// Whether it is exclusive.
    pub exclusive: bool,
    /// The job that holds it, if it is one of ours.
    pub job: Option<String>,
    /// Whether its holder is gone. It blocks all the same.
    pub stale: bool,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exclusively = if self.exclusive { "exclusively " } else { "" };
        write!(f, "the repository is locked {exclusively}by process {} on {}", self.pid, self.hostname)?;
        if let Some(job) = &self.job {
            write!(f, " for job {job}")?;
        }
        if let Ok(since) = jiff::Timestamp::new(self.since.seconds, 0) {
            write!(f, " since {since}")?;
        }
        write!(f, " (lock {})", self.id.short())?;
        if self.stale {
            f.write_str("; its holder is gone: `longshore unlock` or `restic unlock` removes the lock")?;
        }
        Ok(())
    }
}

/// Why a lock is no longer held. Whoever goes on starts anew: other locks may have been held since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The own lock file was gone.
    #[error("the own lock was removed from the repository")]
    Removed,
    /// The lock was not refreshed for too long: the process was paused, or the storage away.
    #[error("the own lock was not refreshed for {} s", .age.as_secs())]
    NotRefreshed {
        /// Time since the last refresh.
        age: Duration,
    },
    /// It was given back.
    #[error("the own lock was released")]
    Released,
}

/// Why a held lock could not be refreshed or seen.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// It is not held any more.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// Nobody knows; it is held until shown otherwise, and time runs.
    #[error(transparent)]
    Trouble(#[from] LockError),
}

impl From<StorageError> for HoldError {
    fn from(error: StorageError) -> Self {
        Self::Trouble(error.into())
    }
}
