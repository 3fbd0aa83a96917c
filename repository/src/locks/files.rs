//! The lock files of a repository: list, read, write, remove.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proto::id::Id;

use super::error::{DamagedLock, LockDamage, LockError};
use crate::format::lock::Lock;
use crate::repository::{FileKind, Repository};
use crate::seal::{Compression, Sealer, open_file};
use crate::storage::{Storage, StorageError, StorageErrorKind};

/// Longer files are not read: restic's locks have about 200 bytes.
const STORED_BYTES_MAX: u64 = 1 << 20;

/// What a lock file turned out to be.
#[derive(Debug)]
pub(super) enum Reading {
    Lock(Lock),
    Damaged(DamagedLock),
    /// Gone since it was listed. Its holder may have put another in its place.
    Vanished,
}

/// The lock files of one repository.
#[derive(Clone, Debug)]
pub(super) struct LockFiles {
    storage: Arc<dyn Storage>,
    sealer: Sealer,
}

impl LockFiles {
    pub(super) fn of(repository: &Repository) -> Self {
        Self::new(repository.storage().clone(), repository.sealer(Compression::default()))
    }

    pub(super) fn new(storage: Arc<dyn Storage>, sealer: Sealer) -> Self {
        Self { storage, sealer }
    }

    pub(super) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The name of a lock file in the storage.
    pub(super) fn name(id: &Id) -> String {
        FileKind::Lock.name(id)
    }

    /// Every lock file with its length in bytes. What is not named like one is left out.
    pub(super) async fn list(&self) -> Result<BTreeMap<Id, u64>, StorageError> {
        let mut found = BTreeMap::new();
        let mut from = None;
        loop {
            let page = self.storage.list(FileKind::Lock.prefix(), from.as_deref()).await?;
            let ids = page.entries.iter().filter_map(|entry| Some((FileKind::Lock.id(&entry.name)?, entry.size)));
            found.extend(ids);
            from = page.next;
            if from.is_none() {
                return Ok(found);
            }
        }
    }

    /// Reads one that a listing named with this length.
    pub(super) async fn read(&self, id: &Id, stored_bytes: u64) -> Result<Reading, StorageError> {
        let damaged = |damage| Ok(Reading::Damaged(DamagedLock { stored_bytes, damage }));
        if stored_bytes > STORED_BYTES_MAX {
            return damaged(LockDamage::TooLong);
        }
        let stored = match self.storage.get(&Self::name(id), None).await {
            Ok(stored) => stored,
            Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(Reading::Vanished),
            Err(error) => return Err(error),
        };
        match self.open(id, &stored) {
            Ok(lock) => Ok(Reading::Lock(lock)),
            Err(damage) => damaged(damage),
        }
    }

    fn open(&self, id: &Id, stored: &[u8]) -> Result<Lock, LockDamage> {
        let actual = Id::of(stored);
        if actual != *id {
            return Err(LockDamage::WrongName { actual });
        }
        let json = open_file(self.sealer.key(), stored).map_err(LockDamage::Sealed)?;
        Lock::decode(&json).map_err(LockDamage::Content)
    }

    /// The finished bytes of a lock file and their id.
    pub(super) fn seal(&self, lock: &Lock) -> Result<(Id, Bytes), LockError> {
        let sealed = self.sealer.seal_file(&lock.encode().map_err(LockError::Encode)?)?;
        Ok((Id::of(&sealed), sealed.into()))
    }

    /// Writes a sealed lock. `AlreadyThere` is success: the name is the digest of the content.
    pub(super) async fn put(&self, id: &Id, sealed: Bytes) -> Result<(), StorageError> {
        match self.storage.put(&Self::name(id), sealed.into()).await {
            Err(error) if error.kind == StorageErrorKind::AlreadyThere => Ok(()),
            result => result,
        }
    }

    /// Removes a lock file; that it is gone already is success.
    pub(super) async fn remove(&self, id: &Id) -> Result<(), StorageError> {
        self.storage.delete(&Self::name(id)).await
    }

    /// Removes a lock file of one's own that is of no use. Failing is worth a warning only: it is
    /// tried again where that is possible, and `unlock` removes it in the end.
    pub(super) async fn discard(&self, id: &Id) -> bool {
        let removed = self.remove(id).await;
        if let Err(error) = &removed {
            tracing::warn!(error = error as &dyn std::error::Error, lock = %id, "remove an own lock");
        }
        removed.is_ok()
    }
}
