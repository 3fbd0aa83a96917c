//! Why a worker cannot finish a task, by what becomes of the task.

use fleet::objects::ObjectError;
use fleet::queue::QueueError;
use fleet::state::StateError;
use repository::storage::StorageError;
use sources::source::SourceError;

pub use crate::dedupe::Loss;

/// Why a task was not finished.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The repository's storage failed.
    #[error("the repository cannot be written or read")]
    Storage(#[from] StorageError),
    /// A file of the repository is damaged, or its key does not fit.
    #[error("the repository cannot be used")]
    Repository(#[from] repository::repository::RepositoryError),
    /// The task queue failed.
    #[error("the task queue failed")]
    Queue(#[from] QueueError),
    /// The job state failed.
    #[error("the job state failed")]
    State(#[from] StateError),
    /// A payload cannot be stored or had.
    #[error("a payload of the job cannot be stored or read")]
    Object(#[from] ObjectError),
    /// The data set's root cannot be read: nothing of the task can be done here.
    #[error("the data set cannot be read")]
    Source(#[from] SourceError),
    /// A blob cannot be compressed or encrypted.
    #[error("a blob cannot be sealed")]
    Seal(#[from] repository::seal::SealError),
    /// A pack that this task needs was not stored.
    #[error("a pack was not stored: {}", .0.reason)]
    PackLost(Loss),
    /// The task names facts or names that cannot be decoded.
    #[error("the task cannot be understood: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
    /// This worker sees something else than who split the task off.
    #[error("this worker does not see {}", .0.path)]
    NotMyView(Box<proto::report::NotMyView>),
    /// This worker has not the data set, or not all of its file systems: nothing of it is of use here.
    #[error("this worker does not have {}", .0.path)]
    NotMounted(Box<proto::report::NotMyView>),
    /// A bug: work on another thread panicked.
    #[error("a thread of this worker failed")]
    Panicked(#[from] fleet::cpu::Panicked),
    /// A bug: the stages of a task contradict each other.
    #[error("the stages of a task contradict each other")]
    Inconsistent,
}

impl WorkerError {
    /// Whether the same task may succeed later or elsewhere.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_transient(),
            Self::Repository(error) => error.is_transient(),
            Self::Queue(QueueError::Unavailable { .. }) | Self::State(StateError::Unavailable { .. }) => true,
            Self::State(StateError::Full { .. }) | Self::Source(_) => true,
            Self::PackLost(loss) => loss.transient,
            Self::Object(ObjectError::Storage { transient, .. }) => *transient,
            Self::Queue(_) | Self::State(_) | Self::Object(_) | Self::Seal(_) => false,
            Self::Malformed { .. } | Self::Panicked(_) | Self::Inconsistent => false,
            Self::NotMyView(_) | Self::NotMounted(_) => false,
        }
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
