//! Which pack holds which blob, by the index files of a repository.

use std::collections::HashMap;
use std::path::Path;

use futures::stream::{self, StreamExt, TryStreamExt};
use proto::id::Id;

use crate::format::index::{IndexError, IndexedPack, decode_index};
use crate::format::pack::{BlobType, PackEntry, pack_length};
use crate::repository::{FileKind, Repository, RepositoryError, work_on};

/// Index files that are loaded and decoded at once: each takes some 30 MB meanwhile.
const LOADED_AT_ONCE: usize = 4;

/// A pack that an index file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownPack {
    /// The pack.
    pub id: Id,
    /// Length of the pack in bytes, as it follows from its blobs.
    pub length: u64,
    /// The index file.
    pub file: Id,
}

/// The blobs of certain index files. Does not change once it is loaded; share it in an `Arc`.
#[derive(Default)]
pub struct BlobIndex {
    packs: Vec<KnownPack>,
    blobs: HashMap<(BlobType, Id), Vec<(u32, PackEntry)>>,
}

impl BlobIndex {
    /// Loads exactly these index files.
    ///
    /// # Errors
    /// `NotFound` or `Damaged` for an index file; `Storage`.
    pub async fn load(repository: &Repository, files: &[Id], _cache: Option<&Path>) -> Result<Self, RepositoryError> {
        let mut files = files.to_vec();
        files.sort_unstable();
        files.dedup();
        let load = |file| async move { Ok::<_, RepositoryError>((file, load_index(repository, &file).await?)) };
        let mut loaded = stream::iter(files).map(load).buffered(LOADED_AT_ONCE);
        let mut index = Self::default();
        while let Some((file, packs)) = loaded.try_next().await? {
            packs.into_iter().for_each(|pack| index.add(file, pack));
        }
        Ok(index)
    }

    fn add(&mut self, file: Id, pack: IndexedPack) {
        let number = self.packs.len() as u32;
        self.packs.push(KnownPack { id: pack.id, length: pack_length(&pack.blobs), file });
        for entry in pack.blobs {
            self.blobs.entry((entry.kind, entry.id)).or_default().push((number, entry));
        }
    }

    /// Whether there is a copy of the blob.
    pub fn contains(&self, kind: BlobType, id: &Id) -> bool {
        self.blobs.contains_key(&(kind, *id))
    }

    /// Every copy of a blob: its pack, and where it lies in there.
    pub fn find(&self, kind: BlobType, id: &Id) -> impl Iterator<Item = (Id, PackEntry)> {
        let copies = self.blobs.get(&(kind, *id)).into_iter().flatten();
        copies.map(|(pack, entry)| (self.packs[*pack as usize].id, *entry))
    }

    /// Every pack, once for each index file that names it.
    pub fn packs(&self) -> impl Iterator<Item = KnownPack> {
        self.packs.iter().copied()
    }

    /// Every copy of every blob, in no promised order.
    pub fn blobs(&self) -> impl Iterator<Item = (Id, PackEntry)> {
        self.blobs.values().flatten().map(|(pack, entry)| (self.packs[*pack as usize].id, *entry))
    }

    /// How many copies of blobs there are.
    pub fn len(&self) -> usize {
        self.blobs.values().map(Vec::len).sum()
    }

    /// Whether there are no blobs.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }
}

async fn load_index(repository: &Repository, file: &Id) -> Result<Vec<IndexedPack>, RepositoryError> {
    let json = repository.load_file(FileKind::Index, file).await?;
    let decode = move || -> Result<_, IndexError> {
        let mut packs = Vec::new();
        decode_index(&json, |pack| packs.push(pack))?;
        Ok(packs)
    };
    work_on(usize::MAX, decode).await?.map_err(|damage| repository.damaged(FileKind::Index.name(file), damage))
}
