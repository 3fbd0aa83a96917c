//! Which snapshot, and what of it: `latest`, the beginning of an id, `SNAPSHOT:PATH`, filters.

use std::io::BufRead;
use std::path::PathBuf;

use clap::Args;
use proto::id::Id;
use proto::job::SnapshotChoice;
use repository::blob_index::BlobIndex;
use repository::format::json::Malformed;
use repository::format::node::{Kind, Node};
use repository::format::snapshot::Snapshot;
use repository::format::tree::{TreeReadError, TreeReader};
use repository::repository::{FileKind, Repository, RepositoryError};

use crate::exit::{CommandError, chain};
use crate::output::Output;

/// Which snapshots are considered.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which snapshots")]
pub(crate) struct SnapshotFilter {
    /// Only snapshots of this host; may be repeated.
    #[arg(long, short = 'H', value_name = "HOST")]
    pub(crate) host: Vec<String>,

    /// Only snapshots that have all of these tags (TAG,TAG); may be repeated, then one list is enough.
    #[arg(long, value_name = "TAG[,TAG]")]
    pub(crate) tag: Vec<String>,

    /// Only snapshots of this absolute path; may be repeated, then each must be there.
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Vec<PathBuf>,
}

impl SnapshotFilter {
    /// Whether `snapshot` is considered.
    pub(crate) fn accepts(&self, snapshot: &Snapshot) -> bool {
        coordinator::choose::accepts(&self.choice("latest"), snapshot)
    }

    /// The same for somebody else to find the snapshot that `text` names.
    pub(crate) fn choice(&self, text: &str) -> SnapshotChoice {
        SnapshotChoice {
            snapshot: text.to_owned(),
            hosts: self.host.clone(),
            tags: self.tag.clone(),
            paths: self.path.iter().map(cleaned).collect(),
        }
    }
}

/// As snapshots have their paths.
fn cleaned(path: &PathBuf) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let cleaned = sources::paths::clean(path.as_os_str().as_encoded_bytes());
    repository::format::quote::lossy(&cleaned)
}

/// A snapshot with its id.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Its id.
    pub(crate) id: Id,
    /// What it says.
    pub(crate) snapshot: Snapshot,
}

/// What was asked for is not there, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectError {
    /// `latest` of nothing.
    #[error("there is no snapshot that fits")]
    NoneFits,
    /// An id cannot look like this.
    #[error("{text:?} is neither `latest` nor the beginning of a snapshot's id")]
    NoId {
        /// What the user wrote.
        text: String,
    },
    /// The snapshot has no such entry.
    #[error("snapshot {} has no {path}", .snapshot.short())]
    NoPath {
        /// The snapshot.
        snapshot: Id,
        /// The part of the path up to what is missing.
        path: String,
    },
    /// Something must be a directory and is not.
    #[error("{path} in snapshot {} is not a directory", .snapshot.short())]
    NoDirectory {
        /// The snapshot.
        snapshot: Id,
        /// The part of the path.
        path: String,
    },
    /// The file of the snapshot is no snapshot.
    #[error("snapshot {id} is damaged")]
    BadSnapshot {
        /// Its id.
        id: Id,
        /// What is wrong.
        source: Malformed,
    },
    /// A tree cannot be read.
    #[error("read tree {id}")]
    Tree {
        /// The tree.
        id: Id,
        /// What is wrong.
        source: TreeReadError,
    },
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl SelectError {
    /// The error of the repository behind it, if there is one.
    pub(crate) fn repository_error(&self) -> Option<&RepositoryError> {
        match self {
            Self::Repository(error) => Some(error),
            Self::Tree { source: TreeReadError::Read(error), .. } => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// Whether the snapshot is there, and what was wanted of it is not.
    pub(crate) fn is_about_a_path(&self) -> bool {
        matches!(self, Self::NoPath { .. } | Self::NoDirectory { .. })
    }

    /// Whether the repository has lost something.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::BadSnapshot { .. } => true,
            Self::Tree { source, .. } => !matches!(source, TreeReadError::Read(_)),
            _ => false,
        }
    }
}

/// Every snapshot that `filter` accepts, the oldest first. Those that cannot be read are told and left out.
pub(crate) async fn all(
    repository: &Repository,
    filter: &SnapshotFilter,
    output: &Output,
) -> Result<Vec<Named>, SelectError> {
    let loaded = repository.load_snapshots().await?;
    for (_, error) in &loaded.broken {
        output.warn(chain(error));
    }
    let accepted = loaded.snapshots.into_iter().filter(|(_, snapshot)| filter.accepts(snapshot));
    let mut snapshots: Vec<Named> = accepted.map(|(id, snapshot)| Named { id, snapshot }).collect();
    snapshots.sort_by_key(|named| (named.snapshot.time.instant(), named.id));
    Ok(snapshots)
}

/// The snapshot that `text` names: `latest` of those that `filter` accepts, or the beginning of an id.
pub(crate) async fn one(
    repository: &Repository,
    text: &str,
    filter: &SnapshotFilter,
    output: &Output,
) -> Result<Named, SelectError> {
    if text == "latest" {
        return all(repository, filter, output).await?.pop().ok_or(SelectError::NoneFits);
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SelectError::NoId { text: text.to_owned() });
    }
    let id = repository.find_snapshot(&text.to_ascii_lowercase()).await?;
    let json = repository.load_file(FileKind::Snapshot, &id).await?;
    let snapshot = Snapshot::decode(&json).map_err(|source| SelectError::BadSnapshot { id, source })?;
    Ok(Named { id, snapshot })
}

/// Takes `SNAPSHOT[:PATH]` apart. The path's names, without empty ones and dots.
pub(crate) fn parse(text: &str) -> (&str, Vec<&str>) {
    let (snapshot, path) = text.split_once(':').unwrap_or((text, ""));
    (snapshot, path.split('/').filter(|name| !matches!(*name, "" | ".")).collect())
}

/// A tree of a snapshot that is being read, node by node.
pub(crate) struct OpenTree {
    id: Id,
    reader: TreeReader<Box<dyn BufRead + Send>>,
}

impl OpenTree {
    /// Opens a tree.
    pub(crate) async fn new(repository: &Repository, index: &BlobIndex, id: Id) -> Result<Self, SelectError> {
        Ok(Self { id, reader: TreeReader::new(repository.open_tree(index, &id).await?) })
    }

    /// The next node.
    pub(crate) fn next(&mut self) -> Result<Option<Node>, SelectError> {
        let id = self.id;
        self.reader.next().transpose().map_err(|source| SelectError::Tree { id, source })
    }
}

/// The tree of the directory `path` of a snapshot.
pub(crate) async fn directory(
    repository: &Repository,
    index: &BlobIndex,
    named: &Named,
    path: &[&str],
) -> Result<Id, CommandError> {
    let mut tree = named.snapshot.tree;
    for (depth, name) in path.iter().enumerate() {
        let shown = || format!("/{}", path[..=depth].join("/"));
        let node = entry(repository, index, tree, name.as_bytes()).await?;
        let node = node.ok_or_else(|| SelectError::NoPath { snapshot: named.id, path: shown() })?;
        let no_directory = || SelectError::NoDirectory { snapshot: named.id, path: shown() };
        tree = node.subtree.filter(|_| node.kind == Kind::Dir).ok_or_else(no_directory)?;
    }
    Ok(tree)
}

async fn entry(repository: &Repository, index: &BlobIndex, tree: Id, name: &[u8]) -> Result<Option<Node>, SelectError> {
    let mut tree = OpenTree::new(repository, index, tree).await?;
    while let Some(node) = tree.next()? {
        if node.name == name {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(host: &str, paths: &[&str], tags: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::decode(
            br#"{"tree":"ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8","paths":[]}"#,
        )
        .unwrap();
        snapshot.hostname = host.to_owned();
        snapshot.paths = paths.iter().map(|path| (*path).to_owned()).collect();
        snapshot.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        snapshot
    }

    #[test]
    fn filters_work_as_in_restic() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let accepts = |host: &[&str], path: &[&str], tag: &[&str]| {
            let path = path.iter().map(PathBuf::from).collect();
            let filter = SnapshotFilter { host: words(host), path, tag: words(tag) };
            filter.accepts(&snapshot("a", &["/x", "/y"], &["t", "u"]))
        };
        assert!(accepts(&[], &[], &[]));
        assert!(accepts(&["b", "a"], &["/x"], &[]) && !accepts(&["b"], &[], &[]));
        assert!(accepts(&[], &["/y", "/x/"], &[]) && !accepts(&[], &["/x", "/z"], &[]));
        assert!(accepts(&[], &[], &["t,u"]) && !accepts(&[], &[], &["t,v"]));
        assert!(accepts(&[], &[], &["v", "t"]) && !accepts(&[], &[], &[""]));
    }

    #[test]
    fn a_path_stands_behind_the_first_colon() {
        assert_eq!(parse("latest"), ("latest", vec![]));
        assert_eq!(parse("ab12:/a//b/./c:d/"), ("ab12", vec!["a", "b", "c:d"]));
        assert_eq!(parse("latest:"), ("latest", vec![]));
    }
}
