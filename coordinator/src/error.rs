//! Why a job ended without a result, by what a caller would do about it.

use fleet::objects::ObjectError;
use fleet::queue::QueueError;
use fleet::state::StateError;
use proto::follow::FailureClass;
use proto::id::JobId;
use repository::locks::{HoldError, LockError, Lost, RepositoryLock};
use repository::repository::RepositoryError;
use repository::storage::{StorageError, StorageErrorKind};

/// A clock that differs more from the storage's is off.
pub(crate) const CLOCK_OFF_SECONDS_MAX: u64 = 120;

/// Why a job ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The repository lock cannot be had.
    #[error("the repository cannot be locked")]
    Lock(#[from] LockError),
    /// The repository cannot be used.
    #[error("the repository cannot be used")]
    Repository(#[from] RepositoryError),
    /// The storage failed.
    #[error("the repository cannot be written or read")]
    Storage(#[from] StorageError),
    /// The task queue failed.
    #[error("the task queue failed")]
    Queue(#[from] QueueError),
    /// The job state failed.
    #[error("the job state failed")]
    State(#[from] StateError),
    /// A payload of the job cannot be stored or read.
    #[error("a payload of the job cannot be stored or read")]
    Object(#[from] ObjectError),
    /// A tree cannot be compressed or encrypted.
    #[error("a tree cannot be sealed")]
    Seal(#[from] repository::seal::SealError),
    /// A bug: work on another thread panicked.
    #[error("a thread of the coordinator failed")]
    Panicked(#[from] fleet::cpu::Panicked),
    /// The job's lock had a gap: everything known is doubtful.
    #[error("the repository lock was lost")]
    LockLost(#[source] Lost),
    /// Another coordinator leads the job.
    #[error("job {job} is led by another coordinator")]
    Fenced {
        /// The job.
        job: JobId,
    },
    /// This coordinator stops, and leaves the job to another one.
    #[error("job {job} is left to another coordinator")]
    HandedOver {
        /// The job.
        job: JobId,
    },
    /// There is nothing to take over.
    #[error("job {job} has ended")]
    Ended {
        /// The job.
        job: JobId,
    },
    /// Locks and snapshots would carry times that nobody else has.
    #[error(
        "the clock of the storage is {seconds} seconds ahead of this machine's (allowed are {CLOCK_OFF_SECONDS_MAX})"
    )]
    ClockOff {
        /// How far the storage's clock is ahead; negative if it is behind.
        seconds: i64,
    },
    /// The job failed.
    #[error("{reason}")]
    Failed {
        /// One sentence for people.
        reason: String,
    },
    /// Nobody works for the pool.
    #[error("no worker of pool {pool} is there")]
    NoWorkers {
        /// The pool.
        pool: String,
    },
    /// Somebody cancelled the job.
    #[error("the job was cancelled")]
    Cancelled,
}

impl JobError {
    /// What should not happen, said with the thing that it happened to.
    pub(crate) fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Failed { reason: format!("{what} cannot be made or read: {error}") }
    }

    /// The whole chain of causes in one line, for people.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl JobError {
    /// Queue or job state do not answer; asking again may help.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Queue(QueueError::Unavailable { .. }) | Self::State(StateError::Unavailable { .. }))
    }

    /// Trying again will not mend it: what is there cannot be understood.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::Repository(error) => error.is_damage(),
            _ => false,
        }
    }

    /// By what somebody would do about it.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Lock(error) => class_of_lock(error),
            Self::Repository(error) => class_of_repository(error),
            Self::Storage(error) => class_of_storage(error),
            Self::Object(ObjectError::Storage { source, .. }) => {
                source.downcast_ref::<RepositoryError>().map_or(FailureClass::Failed, class_of_repository)
            }
            Self::Queue(QueueError::Unavailable { .. }) | Self::State(StateError::Unavailable { .. }) => {
                FailureClass::Unreachable
            }
            Self::Queue(QueueError::Denied { .. }) | Self::State(StateError::Denied { .. }) => FailureClass::Denied,
            Self::NoWorkers { .. } => FailureClass::NoWorker,
            Self::Cancelled => FailureClass::Cancelled,
            _ => FailureClass::Failed,
        }
    }

    /// Without its lock a job's failure says nothing: what is missing may have been removed by who saw no lock.
    pub(crate) async fn unless_lost(self, lock: &RepositoryLock) -> Self {
        if matches!(self, Self::LockLost(_) | Self::Fenced { .. } | Self::Cancelled | Self::HandedOver { .. }) {
            return self;
        }
        match lock.still_there().await {
            Err(HoldError::Lost(lost)) => Self::LockLost(lost),
            Ok(_) | Err(HoldError::Trouble(_)) => self,
        }
    }
}

fn class_of_lock(error: &LockError) -> FailureClass {
    match error {
        LockError::Locked(_) | LockError::Damaged { .. } => FailureClass::Locked,
        LockError::Storage(error) => class_of_storage(error),
        _ => FailureClass::Failed,
    }
}

fn class_of_repository(error: &RepositoryError) -> FailureClass {
    match error {
        RepositoryError::Storage(error) => class_of_storage(error),
        RepositoryError::NoRepository { .. } => FailureClass::NoRepository,
        error if error.is_damage() => FailureClass::Damaged,
        _ => FailureClass::Failed,
    }
}

fn class_of_storage(error: &StorageError) -> FailureClass {
    // A directory has no service behind it.
    let is_service = error.location.starts_with("azure:");
    match error.kind {
        StorageErrorKind::Denied if is_service => FailureClass::Denied,
        StorageErrorKind::Unavailable | StorageErrorKind::Unknown if is_service => FailureClass::Unreachable,
        StorageErrorKind::NotFound if is_service => FailureClass::NoRepository,
        _ => FailureClass::Failed,
    }
}

impl From<HoldError> for JobError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Lost(lost) => Self::LockLost(lost),
            HoldError::Trouble(error) => Self::Lock(error),
        }
    }
}
