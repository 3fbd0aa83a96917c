//! What the packs of a job hold, between their confirmation and the index file that names them.
//!
//! # Takeover
//! A checkpoint names the packs that were confirmed, not what they hold. A successor reads that again: from the index
//! files that were written since the job began, and from the headers of the packs that none of these names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt};
use proto::id::Id;
use repository::format::index::{IndexedPack, decode_index};
use repository::format::pack::{BlobType, PackEntry};
use repository::repository::{FileKind, Repository, RepositoryError};
use repository::storage::StorageErrorKind;

use crate::error::JobError;
use crate::job::BlobKey;

/// Headers that are read at the same time.
const HEADERS_AT_ONCE: usize = 16;

/// The packs of one job.
#[derive(Default)]
pub(crate) struct Session {
    /// Confirmed, and in no index file yet.
    unindexed: BTreeMap<Id, Vec<PackEntry>>,
    /// Every blob in a confirmed pack of this job. 16 bytes of a digest tell blobs apart as well as all 32 do.
    proven: HashSet<[u8; 16]>,
    /// Packs in index files of a coordinator before this one.
    indexed_before: BTreeSet<Id>,
}

/// What a successor finds of the packs that a checkpoint calls confirmed.
pub(crate) enum Restored {
    /// All of it. The trees are in confirmed packs.
    Session { session: Session, trees: Vec<Id> },
    /// This pack is not there any more, or not in the index any more: somebody pruned, whatever the lock says.
    PackIsGone(Id),
}

impl Session {
    /// Notes what a confirmed pack holds.
    pub(crate) fn add_pack(&mut self, pack: Id, entries: Vec<PackEntry>) {
        self.proven.extend(entries.iter().map(|entry| short(&key_of(entry))));
        if !self.indexed_before.contains(&pack) {
            self.unindexed.insert(pack, entries);
        }
    }

    /// Of `blobs`, those that no confirmed pack of this job holds.
    pub(crate) fn missing(&self, blobs: Vec<BlobKey>) -> Vec<BlobKey> {
        blobs.into_iter().filter(|blob| !self.proven.contains(&short(blob))).collect()
    }

    /// All packs that are in no index file yet.
    pub(crate) fn take_all(&mut self) -> Vec<IndexedPack> {
        std::mem::take(&mut self.unindexed).into_iter().map(|(id, blobs)| IndexedPack { id, blobs }).collect()
    }

    /// The packs for an index file.
    pub(crate) fn take(&mut self, packs: &[Id]) -> Vec<IndexedPack> {
        let take = |id: &Id| self.unindexed.remove(id).map(|blobs| IndexedPack { id: *id, blobs });
        packs.iter().filter_map(take).collect()
    }

    /// Reads again what the `confirmed` packs hold, of which some are said to be indexed; `index_files` (ascending) were
    /// there when the job began.
    pub(crate) async fn restore(
        repository: &Repository,
        index_files: &[Id],
        confirmed: impl Iterator<Item = (Id, bool)>,
    ) -> Result<Restored, JobError> {
        let mut wanted: BTreeMap<Id, bool> = confirmed.collect();
        let (mut session, mut trees) = (Self::default(), Vec::new());
        for (id, _) in repository.list(FileKind::Index).await? {
            if index_files.binary_search(&id).is_ok() {
                continue;
            }
            let json = repository.load_file(FileKind::Index, &id).await?;
            let take = |pack: IndexedPack| {
                session.indexed_before.insert(pack.id);
                if wanted.remove(&pack.id).is_some() {
                    trees.extend(trees_in(&pack.blobs));
                    session.add_pack(pack.id, pack.blobs);
                }
            };
            decode_index(&json, take).map_err(|error| JobError::internal("an index file", &error))?;
        }
        if let Some((pack, _)) = wanted.iter().find(|(_, indexed)| **indexed) {
            return Ok(Restored::PackIsGone(*pack));
        }
        let read = |pack: Id| async move { Ok::<_, JobError>((pack, read_header(repository, &pack).await?)) };
        let mut headers = futures::stream::iter(wanted.into_keys()).map(read).buffered(HEADERS_AT_ONCE);
        while let Some((pack, entries)) = headers.try_next().await? {
            let Some(entries) = entries else { return Ok(Restored::PackIsGone(pack)) };
            trees.extend(trees_in(&entries));
            session.add_pack(pack, entries);
        }
        drop(headers);
        Ok(Restored::Session { session, trees })
    }
}

/// What a pack holds; none if it is not there.
pub(crate) async fn read_header(repository: &Repository, pack: &Id) -> Result<Option<Vec<PackEntry>>, JobError> {
    let size = match repository.storage().size(&FileKind::Pack.name(pack)).await {
        Ok(size) => size,
        Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match repository.find_pack_header(pack, size).await {
        Ok(entries) => Ok(Some(entries)),
        Err(RepositoryError::NotAsReported { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn trees_in(entries: &[PackEntry]) -> impl Iterator<Item = Id> {
    entries.iter().filter(|entry| entry.kind == BlobType::Tree).map(|entry| entry.id)
}

/// Type and id of a pack's entry.
pub(crate) fn key_of(entry: &PackEntry) -> BlobKey {
    BlobKey { tree: entry.kind == BlobType::Tree, id: entry.id }
}

fn short(blob: &BlobKey) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blob.id.as_bytes()[..16]);
    short[0] ^= u8::from(blob.tree);
    short
}
