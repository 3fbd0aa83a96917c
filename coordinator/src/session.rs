//! What the packs of a job hold, between their confirmation and the index file that names them.

use std::collections::{BTreeMap, HashSet};

use proto::id::Id;
use repository::format::index::IndexedPack;
use repository::format::pack::{BlobType, PackEntry};

use crate::job::BlobKey;

/// The packs of one job.
#[derive(Default)]
pub(crate) struct Session {
    /// Confirmed, and in no index file yet.
    unindexed: BTreeMap<Id, Vec<PackEntry>>,
    /// Every blob in a confirmed pack of this job. 16 bytes of a digest tell blobs apart as well as all 32 do.
    proven: HashSet<[u8; 16]>,
}

impl Session {
    /// Notes what a confirmed pack holds.
    pub(crate) fn add_pack(&mut self, pack: Id, entries: Vec<PackEntry>) {
        self.proven.extend(entries.iter().map(|entry| short(&key_of(entry))));
        self.unindexed.insert(pack, entries);
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
