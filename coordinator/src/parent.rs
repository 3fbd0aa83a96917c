//! Chooses the parent snapshot, and reads from its tree how the targets looked (FORMAT 7).

use proto::handles::UnixTime;
use proto::id::Id;
use proto::job::{BackupRequest, ParentChoice, SnapshotChoice, TargetNode, TargetPlace};
use proto::name::RawName;
use proto::task::View;
use repository::blob_index::BlobIndex;
use repository::format::node::{Node, stat_mode};
use repository::format::quote::lossy;
use repository::format::snapshot::Snapshot;
use repository::format::tree::{EMPTY_TREE_ID, TreeReader};
use repository::repository::{FileKind, Repository};
use serde::{Deserialize, Serialize};

use crate::choose;
use crate::error::JobError;

/// The parent of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) id: Id,
    pub(crate) tree: Id,
}

/// The snapshot that a backup compares with, if there is one.
///
/// # Errors
/// A snapshot that was asked for by its id cannot be read.
pub(crate) async fn choose(
    repository: &Repository,
    request: &BackupRequest,
    now: UnixTime,
) -> Result<Option<Parent>, JobError> {
    match &request.parent {
        ParentChoice::None => Ok(None),
        ParentChoice::Snapshot(id) => snapshot(repository, *id).await,
        ParentChoice::Named(text) => {
            let named = SnapshotChoice { snapshot: text.clone(), ..SnapshotChoice::default() };
            snapshot(repository, choose::snapshot(repository, &named).await?).await
        }
        ParentChoice::Newest => newest(repository, request, now).await,
    }
}

async fn snapshot(repository: &Repository, id: Id) -> Result<Option<Parent>, JobError> {
    let json = repository.load_file(FileKind::Snapshot, &id).await?;
    let snapshot = Snapshot::decode(&json).map_err(|error| JobError::internal("the parent snapshot", &error))?;
    Ok(Some(Parent { id, tree: snapshot.tree }))
}

async fn newest(repository: &Repository, request: &BackupRequest, now: UnixTime) -> Result<Option<Parent>, JobError> {
    let loaded = repository.load_snapshots().await?;
    for (id, error) in &loaded.broken {
        tracing::warn!(snapshot = %id, %error, "a snapshot cannot be read; it is no parent");
    }
    let wanted: Vec<String> = request.paths.iter().map(|path| lossy(&path.0)).collect();
    let until = request.time.unwrap_or(now);
    let fitting = loaded.snapshots.iter().filter_map(|(id, snapshot)| {
        let fits = snapshot.hostname == request.hostname
            && snapshot.time.instant() <= until
            && wanted.iter().all(|path| snapshot.paths.contains(path));
        fits.then(|| (snapshot.time.instant(), Parent { id: *id, tree: snapshot.tree }))
    });
    Ok(fitting.max_by_key(|(time, _)| *time).map(|(_, parent)| parent))
}

/// How the parent has the targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct ParentTargets {
    /// Inode and type of each target that the parent has, by where it is found.
    pub(crate) views: Vec<(RawName, View)>,
    /// A target is a directory with something in it, or anything but a directory.
    pub(crate) any_content: bool,
}

/// Reads the targets' nodes from the parent's tree. A tree that cannot be read is a parent without it.
pub(crate) async fn targets(
    repository: &Repository,
    index: &BlobIndex,
    tree: &Id,
    targets: &[TargetNode],
) -> ParentTargets {
    let mut found = ParentTargets::default();
    let mut open = vec![(*tree, targets)];
    while let Some((tree, level)) = open.pop() {
        let Ok(reader) = repository.open_tree(index, &tree).await else { continue };
        for node in TreeReader::new(reader).map_while(Result::ok) {
            let Some(target) = level.iter().find(|target| target.name.0 == node.name) else { continue };
            match &target.place {
                TargetPlace::Above(children) => open.extend(node.subtree.map(|subtree| (subtree, children.as_slice()))),
                TargetPlace::Target { .. } => found.add(target, &node),
            }
        }
    }
    found
}

impl ParentTargets {
    fn add(&mut self, target: &TargetNode, node: &Node) {
        let view = View { inode: node.inode, file_type: stat_mode(node.mode) & 0o170_000 };
        let view = if view.file_type == 0 { View { file_type: 0o100_000, ..view } } else { view };
        self.views.push((target.source.clone(), view));
        self.any_content |= node.subtree.is_none_or(|subtree| subtree != EMPTY_TREE_ID);
    }
}
