//! Reads single blobs out of packs.

use std::io::BufRead;

use bytes::Bytes;
use proto::id::Id;

use super::error::is_missing;
use super::{FileDamage, FileKind, Repository, RepositoryError, work_on};
use crate::blob_index::BlobIndex;
use crate::format::pack::{BlobType, PackEntry};
use crate::seal::{BlobReader, DamagedBlob, open_blob};

impl Repository {
    /// The plain bytes of a blob, checked against its id. Any copy will do; if one is damaged the
    /// next is read, and each of them twice.
    ///
    /// # Errors
    /// `BlobMissing` if `index` does not know it; `Damaged` names the pack of the first copy, if
    /// all are; `Storage` if a copy may be had later.
    pub async fn read_blob(&self, index: &BlobIndex, kind: BlobType, id: &Id) -> Result<Bytes, RepositoryError> {
        self.read_any_copy(index, kind, id, |key, entry, sealed| open_blob(key, entry, &sealed).map(Bytes::from)).await
    }

    /// Reads a tree piece by piece: its sealed bytes are held, its plain ones are not.
    ///
    /// The seal is checked here; that the content is the one that the id names, before the reader
    /// says that it has come to its end. Its errors hold a [`RepositoryError`].
    ///
    /// # Errors
    /// Those of [`Repository::read_blob`].
    pub async fn open_tree(&self, index: &BlobIndex, id: &Id) -> Result<Box<dyn BufRead + Send>, RepositoryError> {
        let open = |key: &_, entry: &PackEntry, sealed| {
            BlobReader::new(key, entry.kind, entry.id, sealed, entry.uncompressed_length.is_some())
        };
        Ok(Box::new(self.read_any_copy(index, BlobType::Tree, id, open).await?))
    }

    async fn read_any_copy<T: Send + 'static>(
        &self,
        index: &BlobIndex,
        kind: BlobType,
        id: &Id,
        open: impl Fn(&crate::crypto::MasterKey, &PackEntry, Bytes) -> Result<T, DamagedBlob> + Copy + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let copies: Vec<(Id, PackEntry)> = index.find(kind, id).collect();
        let mut failure = None;
        for (pack, entry) in copies.iter().chain(&copies) {
            match self.read_copy(pack, *entry, open).await {
                Ok(opened) => return Ok(opened),
                // What may be had later counts more than what is damaged; else the first counts.
                Err(error) if failure.is_none() || error.is_transient() => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or(RepositoryError::BlobMissing { kind, id: *id }))
    }

    async fn read_copy<T: Send + 'static>(
        &self,
        pack: &Id,
        entry: PackEntry,
        open: impl Fn(&crate::crypto::MasterKey, &PackEntry, Bytes) -> Result<T, DamagedBlob> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let name = FileKind::Pack.name(pack);
        let sealed = match self.storage().get(&name, Some(entry.range())).await {
            Ok(sealed) => sealed,
            Err(error) if is_missing(&error) => return Err(self.damaged(name, FileDamage::Missing(error))),
            Err(error) => return Err(error.into()),
        };
        let key = self.master_key().clone();
        let opened = work_on(sealed.len(), move || open(&key, &entry, sealed)).await?;
        opened.map_err(|damage| self.damaged(name, damage))
    }
}
