//! Which pack holds which blob, by the index files of a repository.
//!
//! # How it is kept
//! As a few *runs*: each holds the blobs of certain index files, sorted by id, in one piece of memory
//! or in one file of the cache, which is mapped. A lookup asks every run, so that small runs are
//! merged when there are many. A run may hold index files that were not asked for (of another job,
//! or removed since): their blobs are passed over.
//!
//! # What may be trusted
//! A file of the cache is believed only if its checksum fits and it is of this repository; else it is
//! removed, and its index files are loaded anew. What cannot be written to the cache stays in memory.
//! Whoever can write to the cache folder (mode 0700) can make blobs appear to be stored.

use std::path::Path;

use proto::id::Id;

use crate::format::pack::{BlobType, PackEntry};
use crate::repository::{Repository, RepositoryError};

mod cache;
mod layout;
mod load;
mod merge;
mod run;

use load::Limits;
use run::LiveRun;

/// A pack that an index file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KnownPack {
    /// The pack.
    pub id: Id,
    /// Length of the pack in bytes, as it follows from its blobs.
    pub length: u64,
    /// The index file.
    pub file: Id,
}

/// The blobs of certain index files. Does not change once it is loaded; share it in an `Arc`.
///
/// 48 bytes a blob: in the page cache with a cache folder, else in memory.
#[derive(Default)]
pub struct BlobIndex {
    /// Largest first.
    runs: Vec<LiveRun>,
}

impl BlobIndex {
    /// Loads exactly these index files. `cache` is a folder that belongs to this repository; what
    /// is there of them is not read from the repository again.
    ///
    /// # Errors
    /// `NotFound` or `Damaged` for an index file; `Storage`. Never for the cache.
    pub async fn load(repository: &Repository, files: &[Id], cache: Option<&Path>) -> Result<Self, RepositoryError> {
        Self::load_with(repository, files, cache, Limits::DEFAULT).await
    }

    async fn load_with(
        repository: &Repository,
        files: &[Id],
        cache: Option<&Path>,
        limits: Limits,
    ) -> Result<Self, RepositoryError> {
        let mut runs = load::load(repository, files, cache, limits).await?;
        runs.sort_by_key(|run| std::cmp::Reverse(run.blob_count()));
        Ok(Self { runs })
    }

    /// Whether there is a copy of the blob.
    pub fn contains(&self, kind: BlobType, id: &Id) -> bool {
        self.runs.iter().any(|run| run.contains(kind, id))
    }

    /// Every copy of a blob: its pack, and where it lies in there.
    pub fn find(&self, kind: BlobType, id: &Id) -> impl Iterator<Item = (Id, PackEntry)> + use<> {
        self.copies(kind, id).into_iter().map(|(pack, entry)| (pack.id, entry))
    }

    /// The same with what is known of the packs.
    pub(crate) fn copies(&self, kind: BlobType, id: &Id) -> Vec<(KnownPack, PackEntry)> {
        let mut copies: Vec<(KnownPack, PackEntry)> = Vec::new();
        for (pack, entry) in self.runs.iter().flat_map(|run| run.copies(kind, id)) {
            // A pack that two index files name is one copy.
            if !copies.iter().any(|(known, same)| known.id == pack.id && *same == entry) {
                copies.push((pack, entry));
            }
        }
        copies
    }

    /// Every pack, once for each index file that names it, in no promised order.
    pub fn packs(&self) -> impl Iterator<Item = KnownPack> {
        self.runs.iter().flat_map(LiveRun::packs)
    }

    /// Every copy of every blob, once for each index file that names it, in no promised order.
    pub fn blobs(&self) -> impl Iterator<Item = (KnownPack, PackEntry)> {
        self.runs.iter().flat_map(LiveRun::blobs)
    }

    /// How many [`BlobIndex::blobs`] there are.
    pub fn len(&self) -> usize {
        self.runs.iter().map(LiveRun::blob_count).sum()
    }

    /// Whether there are no blobs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
#[path = "blob_index/blob_index_tests.rs"]
mod tests;
