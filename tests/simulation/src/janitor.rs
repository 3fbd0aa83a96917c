//! Somebody who looks after the repository with stock restic, right or wrong: `unlock`, `unlock --remove-all`, `prune`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::handles::Clock;
use proto::id::Id;
use repository::blob_index::BlobIndex;
use repository::format::index::{IndexedPack, decode_index, encode_index};
use repository::format::lock::Lock;
use repository::format::pack::BlobType;
use repository::format::snapshot::Snapshot;
use repository::format::tree::TreeReader;
use repository::locks::{LockRequest, RepositoryLock, STALE_AFTER};
use repository::repository::{FileKind, Repository};
use repository::storage::Storage;

use crate::site::Site;

/// How a prune ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// A lock stood in the way.
    Refused,
    /// So many packs were removed.
    Removed(usize),
}

impl Site {
    /// `restic unlock`: removes locks that are older than 30 minutes.
    pub async fn unlock(&self) -> usize {
        let repository = self.bare_repository().await;
        let Ok(locks) = repository.list(FileKind::Lock).await else { return 0 };
        let mut removed = 0;
        for (id, _) in locks {
            let Ok(json) = repository.load_file(FileKind::Lock, &id).await else { continue };
            let Ok(lock) = Lock::decode(&json) else { continue };
            if self.clock.now().since(lock.time) > STALE_AFTER {
                self.note(format_args!("unlock removes {id}"));
                self.memory.tamper(&FileKind::Lock.name(&id), None);
                removed += 1;
            }
        }
        removed
    }

    /// `restic unlock --remove-all`, which nobody should do while jobs run.
    pub fn unlock_all(&self) -> usize {
        let locks: Vec<String> = self.memory.content().into_keys().filter(|name| name.starts_with("locks/")).collect();
        self.note(format_args!("unlock --remove-all removes {locks:?}"));
        locks.iter().for_each(|name| self.memory.tamper(name, None));
        locks.len()
    }

    /// `restic forget`, of every snapshot.
    pub fn forget_all(&self) -> usize {
        let names: Vec<String> =
            self.memory.content().into_keys().filter(|name| name.starts_with("snapshots/")).collect();
        names.iter().for_each(|name| self.memory.tamper(name, None));
        self.note(format_args!("{} snapshots are forgotten", names.len()));
        names.len()
    }

    /// `restic prune`: under an exclusive lock of its own, removes every pack of which no snapshot needs a blob.
    ///
    /// In restic's order: a new index, the old index files away, then the packs. Time passes in between.
    pub async fn prune(&self) -> Pruned {
        let repository = self.bare_repository().await;
        let request = LockRequest {
            exclusive: true,
            hostname: "janitor".to_owned(),
            username: "janitor".to_owned(),
            pid: 1,
            uid: 0,
            gid: 0,
            job: None,
            is_alive: |_| true,
        };
        let lock = match RepositoryLock::take(&repository, request, self.clock.clone(), None).await {
            Ok(lock) => lock,
            Err(error) => {
                self.note(format_args!("prune is refused: {error}"));
                return Pruned::Refused;
            }
        };
        let removed = self.remove_unused(&repository).await;
        self.note(format_args!("prune removed {removed} packs"));
        if let Err(error) = lock.release().await {
            panic!("the janitor's lock cannot be removed from memory: {error}");
        }
        Pruned::Removed(removed)
    }

    async fn remove_unused(&self, repository: &Repository) -> usize {
        let old = ids(repository, FileKind::Index).await;
        let packs = indexed(repository, &old).await;
        let used = used_blobs(repository, &old).await;
        let is_used = |pack: &IndexedPack| pack.blobs.iter().any(|entry| used.contains(&(entry.kind, entry.id)));
        let kept: Vec<IndexedPack> = packs.into_values().filter(is_used).collect();
        self.clock.sleep(Duration::from_millis(300)).await;
        let mut new = BTreeSet::new();
        if !kept.is_empty() {
            match repository.save_file(FileKind::Index, &encode_index(&kept)).await {
                Ok(id) => new.insert(id),
                Err(error) => panic!("the janitor's index cannot be written to memory: {error}"),
            };
        }
        for id in old.iter().filter(|id| !new.contains(id)) {
            self.memory.tamper(&FileKind::Index.name(id), None);
        }
        self.clock.sleep(Duration::from_millis(300)).await;
        let kept: BTreeSet<Id> = kept.iter().map(|pack| pack.id).collect();
        let mut removed = 0;
        for pack in ids(repository, FileKind::Pack).await {
            if !kept.contains(&pack) {
                self.memory.tamper(&FileKind::Pack.name(&pack), None);
                removed += 1;
            }
        }
        removed
    }

    /// Deletes every pack that no index file names, as the end of a prune does, without asking for any lock.
    pub async fn remove_unindexed_packs(&self) -> usize {
        let repository = self.bare_repository().await;
        let index = ids(&repository, FileKind::Index).await;
        let named = indexed(&repository, &index).await;
        let packs = self.memory.list("data/", None).await.map(|page| page.entries).unwrap_or_default();
        let unnamed: Vec<String> = packs
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| FileKind::Pack.id(name).is_some_and(|id| !named.contains_key(&id)))
            .collect();
        unnamed.iter().for_each(|name| self.memory.tamper(name, None));
        self.note(format_args!("{} unindexed packs are removed", unnamed.len()));
        unnamed.len()
    }
}

/// The files of a kind.
pub async fn ids(repository: &Repository, kind: FileKind) -> Vec<Id> {
    match repository.list(kind).await {
        Ok(listed) => listed.into_iter().map(|(id, _)| id).collect(),
        Err(error) => panic!("memory cannot be listed: {error}"),
    }
}

/// Every pack that these index files name.
pub async fn indexed(repository: &Repository, index: &[Id]) -> BTreeMap<Id, IndexedPack> {
    let mut packs = BTreeMap::new();
    for id in index {
        let Ok(json) = repository.load_file(FileKind::Index, id).await else { continue };
        let decoded = decode_index(&json, |pack| {
            packs.insert(pack.id, pack);
        });
        if let Err(error) = decoded {
            panic!("index {id} cannot be decoded: {error}");
        }
    }
    packs
}

/// Every blob that a snapshot needs.
async fn used_blobs(repository: &Repository, index_files: &[Id]) -> BTreeSet<(BlobType, Id)> {
    let Ok(index) = BlobIndex::load(repository, index_files, None).await else { return BTreeSet::new() };
    let mut used = BTreeSet::new();
    let mut open = Vec::new();
    for id in ids(repository, FileKind::Snapshot).await {
        let snapshot = repository.load_file(FileKind::Snapshot, &id).await.ok();
        open.extend(snapshot.and_then(|json| Snapshot::decode(&json).ok()).map(|snapshot| snapshot.tree));
    }
    while let Some(tree) = open.pop() {
        if !used.insert((BlobType::Tree, tree)) {
            continue;
        }
        let Ok(reader) = repository.open_tree(&index, &tree).await else { continue };
        for node in TreeReader::new(reader).map_while(Result::ok) {
            open.extend(node.subtree);
            used.extend(node.content.into_iter().flatten().map(|id| (BlobType::Data, id)));
        }
    }
    used
}
