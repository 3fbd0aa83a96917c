//! Errors of the storage door: which object, did it happen, may one try again.

use std::sync::Arc;

/// What went wrong, by what a caller would do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StorageErrorKind {
    /// No such object, container or directory.
    NotFound,
    /// A create found the name taken.
    AlreadyThere,
    /// The object is shorter than the range that was asked for.
    OutOfRange,
    /// The service or file system refused access.
    Denied,
    /// No space or quota left.
    Full,
    /// Nothing happened; trying again may help (throttled, not connected).
    Unavailable,
    /// Nobody knows whether it happened (timeout, lost answer).
    Unknown,
    /// Anything else; trying again will not help.
    Permanent,
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
    /// The cause.
    #[source]
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

impl StorageError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StorageErrorKind::Unavailable | StorageErrorKind::Unknown)
    }
}
