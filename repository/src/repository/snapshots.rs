//! Loads snapshots.

use futures::stream::{self, StreamExt};
use proto::id::Id;

use super::{FileKind, Repository, RepositoryError};

/// Snapshot files that are loaded at once; the storage has its own limit on requests.
const LOADED_AT_ONCE: usize = 16;

/// Snapshots that could be read, and those that could not.
#[derive(Debug, Default)]
pub struct LoadedSnapshots {
    /// Id and JSON, by id.
    pub snapshots: Vec<(Id, Vec<u8>)>,
    /// Id and what is wrong, by id. Whether that matters depends on who asks.
    pub broken: Vec<(Id, RepositoryError)>,
}

impl Repository {
    /// The snapshot whose id begins with `prefix`.
    ///
    /// # Errors
    /// `UnknownId`, `AmbiguousId`, `Storage`.
    pub async fn find_snapshot(&self, prefix: &str) -> Result<Id, RepositoryError> {
        self.find(FileKind::Snapshot, prefix).await
    }

    /// Every snapshot. Damaged ones are named and left out; one that was removed meanwhile is
    /// simply left out.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn load_snapshots(&self) -> Result<LoadedSnapshots, RepositoryError> {
        let ids = self.list(FileKind::Snapshot).await?;
        let load = |(id, _)| async move { (id, self.load_file(FileKind::Snapshot, &id).await) };
        // In order, so that the result does not depend on who answers first.
        let mut files = stream::iter(ids).map(load).buffered(LOADED_AT_ONCE);
        let mut loaded = LoadedSnapshots::default();
        while let Some((id, result)) = files.next().await {
            match result {
                Ok(json) => loaded.snapshots.push((id, json)),
                Err(RepositoryError::NotFound { .. }) => {}
                Err(error) if error.is_damage() => loaded.broken.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(loaded)
    }
}
