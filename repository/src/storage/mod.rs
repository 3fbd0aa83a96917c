//! Where a repository is stored: a small door with one contract for every implementation.
//!
//! # Order and consistency
//! A finished [`Storage::put`] is durable, and every later get, size and list of any client sees
//! the object whole. An object is never seen in part and never changes.
//!
//! # Create-only
//! `put` never replaces an object. [`StorageErrorKind::AlreadyThere`] says that *an* object of that
//! name exists, not that somebody else wrote it: after a lost answer it may be one's own. Callers
//! whose name is the hash of the content take it as success; others read it back and compare.
//!
//! # What is here
//! [`Local`], [`Memory`] and [`Azure`] store; [`retry`], [`limit`] and [`meter`] wrap a storage and are stacked
//! by [`open()`]; `contract` (what every implementation must do) and `faulty` (a network that fails
//! by plan) are for tests, in this crate and, with the feature `testing`, in others.
//!
//! # Names
//! `/`-separated, relative to the repository's root: `config`, `data/ab/<id>`, `longshore/jobs/..`.
//! No empty, `.` or `..` component, no leading slash, ASCII letters, digits, `-`, `_`, `.` only.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

pub mod azure;
mod body;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
pub mod limit;
pub mod local;
pub mod memory;
pub mod meter;
mod open;
mod operation;
mod request;
pub mod retry;
#[cfg(test)]
mod test_handles;
mod url;

pub use azure::Azure;
pub use body::Body;
pub use error::{Failure, StorageError, StorageErrorKind};
pub use local::Local;
pub use memory::Memory;
pub use open::{OpenError, Options, Settings, open, stack};
pub use operation::Operation;
pub use url::{Location, LocationError};

/// One listed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Full name, relative to the repository's root.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Objects in no promised order.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` after the last page.
    pub next: Option<String>,
}

/// The storage of one repository.
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug {
    /// For people: the place in restic's notation, without secrets.
    fn location(&self) -> String;

    /// Creates `name` with `body`, durable when it returns.
    ///
    /// # Errors
    /// `AlreadyThere` if an object of that name exists; it is left as it is.
    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError>;

    /// The bytes of `range` (the whole object without one), exactly as many as asked for.
    ///
    /// # Errors
    /// `NotFound`; `OutOfRange` if the object ends before `range` does.
    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError>;

    /// Length in bytes.
    ///
    /// # Errors
    /// `NotFound`.
    async fn size(&self, name: &str) -> Result<u64, StorageError>;

    /// One page of the objects whose names start with `prefix` (a whole component: ends in `/`, or
    /// is empty), at any depth. `from` is the `next` of the page before. A prefix without objects
    /// is an empty page, not an error.
    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError>;

    /// Deletes `name`. Deleting what is not there is success.
    async fn delete(&self, name: &str) -> Result<(), StorageError>;

    /// Makes the place ready for a new repository (directories, container).
    async fn create(&self) -> Result<(), StorageError>;

    /// How many seconds the clock of the service is ahead of ours (behind, if negative), as its last answer said. `None`
    /// where there is no such clock, or no answer yet. A wrapper passes it on.
    fn clock_offset_seconds(&self) -> Option<i64> {
        None
    }
}
