//! Reads single blobs out of packs.

use std::io::{self, BufRead, Cursor, Read};

use bytes::Bytes;
use proto::id::Id;

use super::error::is_missing;
use super::segments::KEPT_LENGTH_MAX;
use super::{FileDamage, FileKind, Repository, RepositoryError, work_on};
use crate::blob_index::{BlobIndex, KnownPack};
use crate::crypto::MasterKey;
use crate::format::pack::{BlobType, PackEntry};
use crate::seal::{BlobReader, DamagedBlob, open_blob};
use crate::storage::StorageError;

/// Trees of at most so many plain bytes are opened at once: a reader of pieces takes more memory than that, and time.
const WHOLE_TREE_LENGTH_MAX: u32 = 64 << 10;

impl Repository {
    /// The plain bytes of a blob, checked against its id. Any copy will do; if one is damaged the
    /// next is read, and each of them twice.
    ///
    /// # Errors
    /// `BlobMissing` if `index` does not know it; `Damaged` names the pack of the first copy, if
    /// all are; `Storage` if a copy may be had later.
    pub async fn read_blob(&self, index: &BlobIndex, kind: BlobType, id: &Id) -> Result<Bytes, RepositoryError> {
        let open = |key: &MasterKey, entry: &PackEntry, sealed: Bytes| open_blob(key, entry, &sealed).map(Bytes::from);
        let (plain, _) = self.read_any_copy(index, kind, id, open).await?;
        Ok(plain)
    }

    /// Reads a tree piece by piece: the sealed bytes of a long one are held, its plain ones are not.
    ///
    /// The seal is checked here; that the content is the one that the id names, before the reader
    /// says that it has come to its end, at the latest. An error of the reader holds a [`RepositoryError::Damaged`].
    ///
    /// # Errors
    /// Those of [`Repository::read_blob`].
    pub async fn open_tree(&self, index: &BlobIndex, id: &Id) -> Result<Box<dyn BufRead + Send>, RepositoryError> {
        Ok(match self.read_any_copy(index, BlobType::Tree, id, OpenTree::new).await? {
            (OpenTree::Whole(plain), _) => Box::new(plain),
            (OpenTree::InPieces(reader), pack) => {
                Box::new(TreeReader { reader: *reader, pack, location: self.location() })
            }
        })
    }

    /// What `open` makes of the first copy that is whole, and its pack.
    async fn read_any_copy<T: Send + 'static>(
        &self,
        index: &BlobIndex,
        kind: BlobType,
        id: &Id,
        open: impl Fn(&MasterKey, &PackEntry, Bytes) -> Result<T, DamagedBlob> + Copy + Send + 'static,
    ) -> Result<(T, Id), RepositoryError> {
        let copies = index.copies(kind, id);
        let mut failure = None;
        for again in [false, true] {
            for (pack, entry) in &copies {
                match self.read_copy(pack, *entry, again, open).await {
                    Ok(opened) => return Ok((opened, pack.id)),
                    // What may be had later counts more than what is damaged; else the first counts.
                    Err(error) if failure.is_none() || error.is_transient() => failure = Some(error),
                    Err(_) => {}
                }
            }
        }
        Err(failure.unwrap_or(RepositoryError::BlobMissing { kind, id: *id }))
    }

    async fn read_copy<T: Send + 'static>(
        &self,
        pack: &KnownPack,
        entry: PackEntry,
        again: bool,
        open: impl Fn(&MasterKey, &PackEntry, Bytes) -> Result<T, DamagedBlob> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let keeps = entry.kind == BlobType::Tree && u64::from(entry.length) <= KEPT_LENGTH_MAX;
        let sealed = if keeps && !again {
            self.get_with_neighbours(pack, &entry).await
        } else {
            self.get_alone(pack, &entry).await
        };
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) if is_missing(&error) => {
                return Err(self.damaged(FileKind::Pack.name(&pack.id), FileDamage::Missing(error)));
            }
            Err(error) => return Err(error.into()),
        };
        let key = self.master_key().clone();
        let opened = work_on(sealed.len(), move || open(&key, &entry, sealed)).await?;
        opened.map_err(|damage| {
            self.inner.tree_segments.forget(&pack.id);
            self.damaged(FileKind::Pack.name(&pack.id), damage)
        })
    }

    async fn get_alone(&self, pack: &KnownPack, entry: &PackEntry) -> Result<Bytes, StorageError> {
        self.storage().get(&FileKind::Pack.name(&pack.id), Some(entry.range())).await
    }

    async fn get_with_neighbours(&self, pack: &KnownPack, entry: &PackEntry) -> Result<Bytes, StorageError> {
        let name = FileKind::Pack.name(&pack.id);
        let get = |range| self.storage().get(&name, Some(range));
        match self.inner.tree_segments.read(&pack.id, pack.length, entry.range(), get).await {
            // The pack is cut off, perhaps behind this blob.
            Err(error) if is_missing(&error) => self.get_alone(pack, entry).await,
            result => result,
        }
    }
}

/// A tree whose seal was checked.
enum OpenTree {
    /// A short one, checked against its id.
    Whole(Cursor<Vec<u8>>),
    InPieces(Box<BlobReader>),
}

impl OpenTree {
    fn new(key: &MasterKey, entry: &PackEntry, sealed: Bytes) -> Result<Self, DamagedBlob> {
        if entry.uncompressed_length.unwrap_or(entry.length) <= WHOLE_TREE_LENGTH_MAX
            && let Ok(plain) = open_blob(key, entry, &sealed)
        {
            return Ok(Self::Whole(Cursor::new(plain)));
        }
        // Also one that is damaged: the reader says in what way, and copes with a wrong length in the index.
        let is_compressed = entry.uncompressed_length.is_some();
        let reader = BlobReader::new(key, entry.kind, entry.id, sealed, is_compressed)?;
        Ok(Self::InPieces(Box::new(reader)))
    }
}

/// A [`BlobReader`] whose errors say which pack is damaged.
struct TreeReader {
    reader: BlobReader,
    pack: Id,
    location: String,
}

impl BufRead for TreeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let (pack, location) = (&self.pack, &self.location);
        self.reader.fill_buf().map_err(|error| name_pack(pack, location, error))
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

impl Read for TreeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into).map_err(|error| name_pack(&self.pack, &self.location, error))
    }
}

fn name_pack(pack: &Id, location: &str, error: io::Error) -> io::Error {
    match error.downcast::<DamagedBlob>() {
        Ok(damage) => {
            let (name, source) = (FileKind::Pack.name(pack), Box::new(damage.into()));
            io::Error::new(
                io::ErrorKind::InvalidData,
                RepositoryError::Damaged { name, location: location.to_owned(), source },
            )
        }
        Err(error) => error,
    }
}
