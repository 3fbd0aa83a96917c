//! One repository: open or make it, read and add files and blobs.
//!
//! Everything that is written is named by its digest or created once; nothing is replaced. Locks,
//! the order of writes and what may be removed are for callers.

use std::fmt;
use std::sync::{Arc, OnceLock};

use proto::handles::Random;
use proto::id::Id;

use crate::chunker::Chunker;
use crate::crypto::MasterKey;
use crate::format::config::{Config, RepositoryVersion};
use crate::seal::{Compression, Sealer};
use crate::storage::Storage;

mod blobs;
mod error;
mod file_kind;
mod files;
mod open;
mod pack_headers;
mod private;
mod segments;
mod snapshots;

pub use error::{FileDamage, RepositoryError};
pub use file_kind::FileKind;
pub use open::KEYS_TRIED_MAX;
pub use private::PRIVATE_PREFIX;
pub use snapshots::LoadedSnapshots;

use segments::Segments;

/// An open repository. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    random: Arc<dyn Random>,
    key: Arc<MasterKey>,
    key_id: Id,
    config: Config,
    chunker: OnceLock<Chunker>,
    tree_segments: Segments,
}

impl Repository {
    fn new(storage: Arc<dyn Storage>, random: Arc<dyn Random>, key: MasterKey, key_id: Id, config: Config) -> Self {
        let (key, chunker, tree_segments) = (Arc::new(key), OnceLock::new(), Segments::new());
        Self { inner: Arc::new(Inner { storage, random, key, key_id, config, chunker, tree_segments }) }
    }

    /// The random name of the repository.
    pub fn id(&self) -> Id {
        self.inner.config.id
    }

    /// Version of its format.
    pub fn version(&self) -> RepositoryVersion {
        self.inner.config.version
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The key file that the password opened.
    pub fn key_id(&self) -> Id {
        self.inner.key_id
    }

    /// What everything is sealed under.
    pub fn master_key(&self) -> &Arc<MasterKey> {
        &self.inner.key
    }

    /// Cuts files as this repository wants it. Made once.
    pub fn chunker(&self) -> Chunker {
        self.inner.chunker.get_or_init(|| Chunker::new(self.inner.config.chunker_polynomial)).clone()
    }

    /// Seals blobs for this repository.
    pub fn sealer(&self, compression: Compression) -> Sealer {
        Sealer::new(self.inner.key.clone(), self.version(), compression, self.inner.random.clone())
    }

    /// Where it is stored.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.inner.storage
    }

    /// Where it is stored, for people.
    pub fn location(&self) -> String {
        self.inner.storage.location()
    }

    /// Where nonces come from.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.inner.random
    }

    /// Whether blobs and snapshots may be added.
    ///
    /// # Errors
    /// `VersionOne`; `ForeignSettings` if another program's settings stand against it (see
    /// [`Config::obstacles_to_writing`]).
    pub fn check_writable(&self) -> Result<(), RepositoryError> {
        if self.version() < RepositoryVersion::V2 {
            return Err(RepositoryError::VersionOne { location: self.location() });
        }
        let obstacles = self.inner.config.obstacles_to_writing();
        if obstacles.is_empty() {
            return Ok(());
        }
        Err(RepositoryError::ForeignSettings { location: self.location(), settings: obstacles.join(", ") })
    }

    /// The error for a file that is damaged.
    pub(crate) fn damaged(&self, name: impl Into<String>, damage: impl Into<FileDamage>) -> RepositoryError {
        let source = Box::new(damage.into());
        RepositoryError::Damaged { name: name.into(), location: self.location(), source }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("location", &self.location()).field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Bytes that are opened or sealed on the spot; more of them leave the async threads.
const ON_THE_SPOT_LENGTH: usize = 64 << 10;

/// Does work on `length` bytes: here if they are few, else on a thread that may block.
pub(crate) async fn work_on<T: Send + 'static>(
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RepositoryError> {
    if length <= ON_THE_SPOT_LENGTH { Ok(work()) } else { off_thread(work).await }
}

/// Does work on a thread that may block. Goes on to its end even if nobody waits any more.
///
/// A runtime of one thread is one of a test or of the simulation: there it is done at once, so that what happens is
/// repeatable.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RepositoryError> {
    if tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(RepositoryError::Stopping),
    }
}

#[cfg(test)]
mod blobs_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod open_tests;
#[cfg(test)]
pub(crate) mod samples;
