//! Loads snapshots.

use futures::stream::{self, StreamExt};
use proto::id::Id;

use super::{FileKind, Repository, RepositoryError};
use crate::format::snapshot::Snapshot;

/// Snapshot files that are loaded at once; the storage has its own limit on requests.
const LOADED_AT_ONCE: usize = 16;

/// Snapshots that could be read, and those that could not.
#[derive(Debug, Default)]
pub struct LoadedSnapshots {
    /// By id.
    pub snapshots: Vec<(Id, Snapshot)>,
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

    /// One snapshot.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`, `Storage`.
    pub async fn load_snapshot(&self, id: &Id) -> Result<Snapshot, RepositoryError> {
        let json = self.load_file(FileKind::Snapshot, id).await?;
        Snapshot::decode(&json).map_err(|damage| self.damaged(FileKind::Snapshot.name(id), damage))
    }

    /// Every snapshot. Damaged ones are named and left out; one that was removed meanwhile is
    /// simply left out.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn load_snapshots(&self) -> Result<LoadedSnapshots, RepositoryError> {
        let ids = self.list(FileKind::Snapshot).await?;
        let load = |(id, _)| async move { (id, self.load_snapshot(&id).await) };
        // In order, so that the result does not depend on who answers first.
        let mut files = stream::iter(ids).map(load).buffered(LOADED_AT_ONCE);
        let mut loaded = LoadedSnapshots::default();
        while let Some((id, result)) = files.next().await {
            match result {
                Ok(snapshot) => loaded.snapshots.push((id, snapshot)),
                Err(RepositoryError::NotFound { .. }) => {}
                Err(error) if error.is_damage() => loaded.broken.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(loaded)
    }
}
