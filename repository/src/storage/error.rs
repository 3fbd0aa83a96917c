//! Errors of the storage door: which object, did it happen, may one try again.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::operation::Operation;

/// What went wrong, by what a caller would do about it.
///
/// It is an error by itself, so that an implementation without a deeper cause can use it as the
/// source of a [`StorageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum StorageErrorKind {
    /// No such object, container or directory.
    #[error("there is nothing of that name")]
    NotFound,
    /// A create found the name taken.
    #[error("the name is taken")]
    AlreadyThere,
    /// The object is shorter than the range that was asked for.
    #[error("the object ends before the range does")]
    OutOfRange,
    /// The service or file system refused access.
    #[error("access refused")]
    Denied,
    /// No space or quota left.
    #[error("no space left")]
    Full,
    /// Nothing happened; trying again may help (throttled, not connected).
    #[error("not available at the moment")]
    Unavailable,
    /// Nobody knows whether it happened (timeout, lost answer).
    #[error("no answer: it may or may not have happened")]
    Unknown,
    /// Anything else; trying again will not help.
    #[error("not possible")]
    Permanent,
}

impl StorageErrorKind {
    /// Every kind, in the order of their discriminants.
    pub const ALL: [Self; 8] = [
        Self::NotFound,
        Self::AlreadyThere,
        Self::OutOfRange,
        Self::Denied,
        Self::Full,
        Self::Unavailable,
        Self::Unknown,
        Self::Permanent,
    ];

    /// A label for metrics, lower case with underscores.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyThere => "already_there",
            Self::OutOfRange => "out_of_range",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Permanent => "permanent",
        }
    }

    /// What an error of the operating system means for a file that is read or written.
    pub fn of_io(error: &io::Error) -> Self {
        match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(errno) => Self::of_errno(errno),
            None => Self::Permanent,
        }
    }

    /// The same for a bare error number.
    pub(super) fn of_errno(errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        match errno {
            Errno::NOENT => Self::NotFound,
            Errno::EXIST => Self::AlreadyThere,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::Denied,
            Errno::NOSPC | Errno::DQUOT => Self::Full,
            // Too many open files or too little memory pass; the others are a network file system
            // whose server is away.
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => Self::Unavailable,
            Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NOTCONN => Self::Unavailable,
            _ => Self::Permanent,
        }
    }
}

/// An error of the storage door.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{action} {name} in {location}")]
pub struct StorageError {
    /// What went wrong.
    pub kind: StorageErrorKind,
    /// The verb: `read`, `write`, `list`, `delete`, `create`.
    pub action: &'static str,
    /// The object's name.
    pub name: String,
    /// The storage, as [`super::Storage::location`] says.
    pub location: String,
    /// How long the service asks to wait before the next try.
    pub retry_after: Option<Duration>,
    /// The service itself said so: it is there.
    pub is_answer: bool,
    /// The cause.
    #[source]
    pub source: Arc<dyn Error + Send + Sync>,
}

impl StorageError {
    /// An error of `operation` on the object (or prefix) `name`.
    pub fn new(operation: Operation, name: &str, location: String, failure: Failure) -> Self {
        let Failure { kind, source, retry_after, is_answer } = failure;
        Self { kind, action: operation.verb(), name: name.to_owned(), location, retry_after, is_answer, source }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StorageErrorKind::Unavailable | StorageErrorKind::Unknown)
    }
}

/// A kind and its cause: what an implementation knows before the object's name is added.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong.
    pub kind: StorageErrorKind,
    /// The cause.
    pub source: Arc<dyn Error + Send + Sync>,
    /// How long the service asks to wait before the next try.
    pub retry_after: Option<Duration>,
    /// The service itself said so: it is there.
    pub is_answer: bool,
}

impl Failure {
    /// `kind` because of `source`.
    pub fn new(kind: StorageErrorKind, source: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, source: Arc::new(source), retry_after: None, is_answer: false }
    }
}

impl From<StorageErrorKind> for Failure {
    fn from(kind: StorageErrorKind) -> Self {
        Self::new(kind, kind)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(StorageErrorKind::of_io(&error), error)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::new(StorageErrorKind::of_errno(errno), io::Error::from(errno))
    }
}
