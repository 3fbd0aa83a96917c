//! Loads the small files: index files, snapshots, keys, locks.

use futures::stream::{self, StreamExt};
use proto::id::Id;

use super::finding::{Finding, FindingKind, chain};
use super::pack_table::{PackTable, PackTableBuilder};
use super::report::{Recorder, Stage};
use crate::format::index::{IndexError, IndexedPack, decode_index};
use crate::format::key::{KeyFile, KeyFileError};
use crate::format::snapshot::Snapshot;
use crate::maintenance::executor::Resources;
use crate::repository::{FileKind, Repository, RepositoryError};

/// Index files that are loaded and decoded at once: each takes some 20 MB meanwhile.
const INDEXES_AT_ONCE: usize = 2;

/// Small files that are loaded at once.
const FILES_AT_ONCE: usize = 16;

/// Every index file that can be read, and whether that is all of them.
pub(super) struct LoadedIndex {
    pub(super) table: PackTable,
    pub(super) is_whole: bool,
}

/// Loads every index file.
///
/// # Errors
/// `Storage`, `Stopping`; damage goes to the recorder.
pub(super) async fn load_index(
    repository: &Repository,
    resources: &Resources,
    recorder: &mut Recorder,
) -> Result<LoadedIndex, RepositoryError> {
    let files = repository.list(FileKind::Index).await?;
    recorder.began(Stage::Index, Some(files.len() as u64)).await;
    let load = |(file, _)| async move { (file, load_index_file(repository, resources, &file).await) };
    // In order, so that the result does not depend on who answers first.
    let mut loaded = stream::iter(files).map(load).buffered(INDEXES_AT_ONCE);
    let mut builder = PackTableBuilder::default();
    let mut is_whole = true;
    while let Some((file, packs)) = loaded.next().await {
        match packs {
            Ok(packs) => {
                builder.add(file, packs);
                recorder.report.index_files += 1;
            }
            Err(error) => {
                is_whole = false;
                let name = FileKind::Index.name(&file);
                recorder.found([Finding::of_error(FindingKind::IndexUnreadable, name, error)?]).await;
            }
        }
        recorder.advanced(Stage::Index, 1).await;
    }
    drop(loaded);
    let (table, findings) = resources.compute(move || builder.finish()).await?;
    recorder.found(findings).await;
    Ok(LoadedIndex { table, is_whole })
}

async fn load_index_file(
    repository: &Repository,
    resources: &Resources,
    file: &Id,
) -> Result<Vec<IndexedPack>, RepositoryError> {
    let json = repository.load_file(FileKind::Index, file).await?;
    let decode = move || -> Result<_, IndexError> {
        let mut packs = Vec::new();
        decode_index(&json, |pack| packs.push(pack))?;
        Ok(packs)
    };
    resources.compute(decode).await?.map_err(|damage| repository.damaged(FileKind::Index.name(file), damage))
}

/// A snapshot and its root tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) snapshot: Id,
    pub(super) tree: Id,
}

/// Loads keys, locks and snapshots; gives the roots of the snapshots.
///
/// # Errors
/// `Storage`, `Stopping`; damage goes to the recorder.
pub(super) async fn check_files(
    repository: &Repository,
    recorder: &mut Recorder,
) -> Result<Vec<Root>, RepositoryError> {
    let [keys, locks, snapshots] = [
        repository.list(FileKind::Key).await?,
        repository.list(FileKind::Lock).await?,
        repository.list(FileKind::Snapshot).await?,
    ];
    recorder.began(Stage::Files, Some((keys.len() + locks.len() + snapshots.len()) as u64)).await;
    each_file(repository, recorder, FileKind::Key, keys, |json| check_key(json).map_err(|error| chain(&error))).await?;
    // restic takes an empty lock for none.
    let locks = locks.into_iter().filter(|(_, length)| *length > 0).collect();
    each_file(repository, recorder, FileKind::Lock, locks, |_| Ok(())).await?;
    let decode = |json: &[u8]| Snapshot::decode(json).map(|snapshot| snapshot.tree).map_err(|error| chain(&error));
    let trees = each_file(repository, recorder, FileKind::Snapshot, snapshots, decode).await?;
    recorder.report.snapshots = trees.len() as u64;
    Ok(trees.into_iter().map(|(snapshot, tree)| Root { snapshot, tree }).collect())
}

/// Whether some password might open this key. None is tried: that is dear, and only one is known.
fn check_key(json: &[u8]) -> Result<(), KeyFileError> {
    #[derive(serde::Deserialize)]
    struct Derivation {
        kdf: String,
    }
    KeyFile::decode(json)?;
    let Derivation { kdf } = serde_json::from_slice(json).map_err(KeyFileError::Json)?;
    if kdf == "scrypt" { Ok(()) } else { Err(KeyFileError::UnknownDerivation { kdf }) }
}

/// Loads files and looks at the content of each. Gives what `look` saw in those that are whole.
async fn each_file<T>(
    repository: &Repository,
    recorder: &mut Recorder,
    kind: FileKind,
    files: Vec<(Id, u64)>,
    look: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<Vec<(Id, T)>, RepositoryError> {
    let load = |(id, _)| async move { (id, repository.load_file(kind, &id).await) };
    let mut loaded = stream::iter(files).map(load).buffered(FILES_AT_ONCE);
    let mut seen = Vec::new();
    while let Some((id, content)) = loaded.next().await {
        let finding = match content.as_deref().map(&look) {
            Ok(Ok(found)) => {
                seen.push((id, found));
                None
            }
            Ok(Err(detail)) => Some(Finding::new(unreadable(kind), kind.name(&id), detail)),
            // Removed since the list was read, as is the right of whoever made it.
            Err(RepositoryError::NotFound { .. }) => None,
            Err(_) => {
                content.err().map(|error| Finding::of_error(unreadable(kind), kind.name(&id), error)).transpose()?
            }
        };
        recorder.found(finding).await;
        recorder.advanced(Stage::Files, 1).await;
    }
    Ok(seen)
}

fn unreadable(kind: FileKind) -> FindingKind {
    match kind {
        FileKind::Key => FindingKind::KeyUnreadable,
        FileKind::Lock => FindingKind::LockUnreadable,
        FileKind::Snapshot => FindingKind::SnapshotUnreadable,
        FileKind::Index => FindingKind::IndexUnreadable,
        FileKind::Pack => FindingKind::PackUnreadable,
    }
}
