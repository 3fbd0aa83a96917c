//! Files that are named by their digest: list, load, save, remove.

use bytes::Bytes;
use proto::id::Id;

use super::{FileDamage, FileKind, Repository, RepositoryError, work_on};
use crate::seal::{Compression, open_file};
use crate::storage::{Storage, StorageErrorKind};

impl Repository {
    /// Id and stored length of every file of a kind, by id. What has another name than such a file
    /// is left out.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn list(&self, kind: FileKind) -> Result<Vec<(Id, u64)>, RepositoryError> {
        list_ids(&**self.storage(), kind).await
    }

    /// The stored bytes of a file. Their digest is its name: if not, they are loaded once more.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`, `Storage`.
    pub async fn load_stored(&self, kind: FileKind, id: &Id) -> Result<Bytes, RepositoryError> {
        get_checked(&**self.storage(), kind, id).await
    }

    /// The content of a file: opened and decompressed, except for keys and packs, which are not
    /// sealed as a whole.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`, `Storage`.
    pub async fn load_file(&self, kind: FileKind, id: &Id) -> Result<Vec<u8>, RepositoryError> {
        let stored = self.load_stored(kind, id).await?;
        if kind.is_stored_plain() {
            return Ok(stored.into());
        }
        let key = self.master_key().clone();
        let opened = work_on(stored.len(), move || open_file(&key, &stored)).await?;
        opened.map_err(|damage| self.damaged(kind.name(id), damage))
    }

    /// Seals and stores a snapshot, index or lock, and stores a key as it is; gives its id.
    ///
    /// # Errors
    /// `Seal`, `Storage`.
    pub async fn save_file(&self, kind: FileKind, json: &[u8]) -> Result<Id, RepositoryError> {
        let (id, bytes) = if kind.is_stored_plain() {
            (Id::of(json), Bytes::copy_from_slice(json))
        } else {
            let (repository, json) = (self.clone(), json.to_vec());
            work_on(json.len(), move || repository.seal_file_bytes(&json)).await??
        };
        self.put_sealed(kind, &id, bytes).await?;
        Ok(id)
    }

    /// The finished bytes of a snapshot, index or lock, and their digest, which is its name.
    ///
    /// # Errors
    /// `Seal`.
    pub fn seal_file_bytes(&self, json: &[u8]) -> Result<(Id, Bytes), RepositoryError> {
        let bytes = self.sealer(Compression::default()).seal_file(json)?;
        Ok((Id::of(&bytes), bytes.into()))
    }

    /// Stores finished bytes. If the name is taken that is success: it is their digest.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn put_sealed(&self, kind: FileKind, id: &Id, bytes: Bytes) -> Result<(), RepositoryError> {
        match self.storage().put(&kind.name(id), bytes.into()).await {
            Err(error) if error.kind != StorageErrorKind::AlreadyThere => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes a file; one that is not there is removed already.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn remove(&self, kind: FileKind, id: &Id) -> Result<(), RepositoryError> {
        Ok(self.storage().delete(&kind.name(id)).await?)
    }

    /// The one file of a kind whose id begins with `prefix`.
    ///
    /// # Errors
    /// `UnknownId`, `AmbiguousId`, `Storage`.
    pub async fn find(&self, kind: FileKind, prefix: &str) -> Result<Id, RepositoryError> {
        let mut ids: Vec<Id> = self.list(kind).await?.into_iter().map(|(id, _)| id).collect();
        ids.retain(|id| id.to_string().starts_with(prefix));
        match ids[..] {
            [id] => Ok(id),
            [] => Err(RepositoryError::UnknownId { kind, prefix: prefix.to_owned() }),
            _ => Err(RepositoryError::AmbiguousId { kind, prefix: prefix.to_owned(), matches: ids.len() }),
        }
    }
}

/// Every page of a listing, by id.
pub(super) async fn list_ids(storage: &dyn Storage, kind: FileKind) -> Result<Vec<(Id, u64)>, RepositoryError> {
    let mut ids = Vec::new();
    let mut from = None;
    loop {
        let page = storage.list(kind.prefix(), from.as_deref()).await?;
        ids.extend(page.entries.iter().filter_map(|entry| Some((kind.id(&entry.name)?, entry.size))));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup_by_key(|(id, _)| *id);
    Ok(ids)
}

/// The stored bytes of a file whose digest is its name.
pub(super) async fn get_checked(storage: &dyn Storage, kind: FileKind, id: &Id) -> Result<Bytes, RepositoryError> {
    let name = kind.name(id);
    let mut actual = *id;
    for _ in 0..2 {
        let bytes = match storage.get(&name, None).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind == StorageErrorKind::NotFound => {
                return Err(RepositoryError::NotFound { name, location: storage.location() });
            }
            Err(error) => return Err(error.into()),
        };
        let hashed = bytes.clone();
        actual = work_on(bytes.len(), move || Id::of(&hashed)).await?;
        if actual == *id {
            return Ok(bytes);
        }
    }
    let source = Box::new(FileDamage::WrongDigest { actual });
    Err(RepositoryError::Damaged { name, location: storage.location(), source })
}
