//! Our own objects, sealed as restic seals its files, in a folder that restic leaves alone.

use super::{Repository, RepositoryError, work_on};
use crate::format::config::RepositoryVersion;
use crate::seal::{Compression, Sealer, open_file};
use crate::storage::StorageErrorKind;

/// The folder of all private objects. Names of private objects are relative to it.
pub const PRIVATE_PREFIX: &str = "longshore/";

impl Repository {
    /// Creates `longshore/<name>` with `plain`, sealed and compressed. Never replaces anything.
    ///
    /// # Errors
    /// `AlreadyThere`, also if the object is one's own and only the answer was lost; `Seal`;
    /// `Storage`.
    pub async fn put_private(&self, name: &str, plain: &[u8]) -> Result<(), RepositoryError> {
        let bytes = self.seal_private_bytes(plain).await?;
        match self.storage().put(&private_name(name), bytes.into()).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind == StorageErrorKind::AlreadyThere => {
                Err(RepositoryError::AlreadyThere { name: private_name(name), location: self.location() })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn seal_private_bytes(&self, plain: &[u8]) -> Result<Vec<u8>, RepositoryError> {
        let (key, random) = (self.master_key().clone(), self.random().clone());
        // Compressed whatever the repository's version is: the mark in front lets any bytes be kept.
        let sealer = Sealer::new(key, RepositoryVersion::V2, Compression::default(), random);
        let plain = plain.to_vec();
        Ok(work_on(plain.len(), move || sealer.seal_file(&plain)).await??)
    }

    /// The plain bytes of `longshore/<name>`; `None` if there is no such object.
    ///
    /// # Errors
    /// `Damaged` if it does not open, twice; `Storage`.
    pub async fn get_private(&self, name: &str) -> Result<Option<Vec<u8>>, RepositoryError> {
        let name = private_name(name);
        let mut tries_left = 2;
        loop {
            let sealed = match self.storage().get(&name, None).await {
                Ok(sealed) => sealed,
                Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let key = self.master_key().clone();
            let opened = work_on(sealed.len(), move || open_file(&key, &sealed)).await?;
            tries_left -= 1;
            match opened {
                Ok(plain) => return Ok(Some(plain)),
                Err(damage) if tries_left == 0 => return Err(self.damaged(name, damage)),
                Err(_) => {}
            }
        }
    }

    /// The names of all private objects below `prefix`, sorted. `prefix` is empty or ends in `/`.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn list_private(&self, prefix: &str) -> Result<Vec<String>, RepositoryError> {
        let prefix = private_name(prefix);
        let mut names = Vec::new();
        let mut from = None;
        loop {
            let page = self.storage().list(&prefix, from.as_deref()).await?;
            let own = |name: String| name.strip_prefix(PRIVATE_PREFIX).map(str::to_owned);
            names.extend(page.entries.into_iter().filter_map(|entry| own(entry.name)));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes `longshore/<name>`; one that is not there is removed already.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn remove_private(&self, name: &str) -> Result<(), RepositoryError> {
        Ok(self.storage().delete(&private_name(name)).await?)
    }
}

fn private_name(name: &str) -> String {
    format!("{PRIVATE_PREFIX}{name}")
}
