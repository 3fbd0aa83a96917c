//! Snapshots that no program would write, in a repository that is right otherwise.

use std::sync::Arc;

use fleet::clock::SystemClock;
use fleet::rand::SystemRandom;
use proto::id::Id;
use repository::format::index::{IndexedPack, encode_index};
use repository::format::node::{Kind, Node, go_mode};
use repository::format::node_time::NodeTime;
use repository::format::pack::BlobType;
use repository::format::snapshot::Snapshot;
use repository::pack_writer::{PackWriter, TARGET_LENGTH_DEFAULT};
use repository::repository::{FileKind, Repository};
use repository::seal::{Compression, Sealer};
use repository::storage::{Options, open};

use crate::restic::{PASSWORD, Restic};

/// A snapshot in the making: blobs that are packed, and stored with an index when it is finished.
pub struct Crafted {
    repository: Repository,
    sealer: Sealer,
    data: PackWriter,
    trees: PackWriter,
}

impl Crafted {
    /// In the repository of `restic`, which is a folder.
    pub async fn begin(restic: &Restic) -> Self {
        let location = restic.repository().to_str().expect("a plain name").parse().expect("a location");
        let random = Arc::new(SystemRandom);
        let storage = open(&location, Options::new(Arc::new(SystemClock::new()), random.clone())).expect("configured");
        let repository = Repository::open(storage, PASSWORD.as_bytes(), None, random).await.expect("opened");
        let pack = |kind| PackWriter::new(kind, TARGET_LENGTH_DEFAULT);
        let sealer = repository.sealer(Compression::Auto);
        Self { repository, sealer, data: pack(BlobType::Data), trees: pack(BlobType::Tree) }
    }

    /// A file with any name.
    pub fn file(&mut self, name: &[u8], content: &[u8]) -> Node {
        let blob = self.sealer.seal_blob(BlobType::Data, content).expect("sealed");
        self.data.add(&blob).expect("it fits");
        let size = content.len() as u64;
        Node { kind: Kind::File, mode: 0o644, size, links: 1, content: Some(vec![blob.id]), ..named(name) }
    }

    /// A directory with any name, and any nodes in any order.
    pub fn folder(&mut self, name: &[u8], nodes: &[Node]) -> Node {
        let subtree = Some(self.tree(nodes));
        Node { kind: Kind::Dir, mode: go_mode::DIR | 0o755, subtree, ..named(name) }
    }

    fn tree(&mut self, nodes: &[Node]) -> Id {
        let mut encoded = Vec::new();
        for node in nodes {
            encoded.extend_from_slice(if encoded.is_empty() { b"" } else { b"," });
            node.encode(&mut encoded);
        }
        let tree = [b"{\"nodes\":[", encoded.as_slice(), b"]}\n"].concat();
        let blob = self.sealer.seal_blob(BlobType::Tree, &tree).expect("sealed");
        self.trees.add(&blob).expect("it fits");
        blob.id
    }

    /// Stores everything, and a snapshot of `nodes` at its top; gives its id.
    pub async fn finish(mut self, nodes: &[Node]) -> String {
        let tree = self.tree(nodes);
        let Self { repository, data, trees, .. } = self;
        let mut packs = Vec::new();
        for pack in [data, trees].into_iter().filter(|pack| !pack.is_empty()) {
            let pack = pack.finish(repository.master_key(), &**repository.random()).expect("sealed");
            repository.storage().put(&FileKind::Pack.name(&pack.id), pack.body).await.expect("stored");
            packs.push(IndexedPack { id: pack.id, blobs: pack.entries });
        }
        repository.save_file(FileKind::Index, &encode_index(&packs)).await.expect("stored");
        let id = repository.save_file(FileKind::Snapshot, &snapshot_of(tree).encode()).await.expect("stored");
        id.to_string()
    }
}

/// A symbolic link with any name.
pub fn link(name: &[u8], target: &[u8]) -> Node {
    let link_target = target.to_vec();
    Node { kind: Kind::Symlink, mode: go_mode::SYMLINK | 0o777, links: 1, link_target, ..named(name) }
}

fn named(name: &[u8]) -> Node {
    let time = NodeTime::parse(b"2026-01-02T03:04:05Z").expect("a time");
    Node { name: name.to_vec(), mtime: time, atime: time, ctime: time, ..Node::default() }
}

fn snapshot_of(tree: Id) -> Snapshot {
    Snapshot {
        time: NodeTime::parse(b"2026-01-02T03:04:05Z").expect("a time"),
        parent: None,
        tree,
        paths: vec!["/crafted".to_owned()],
        hostname: "crafted".to_owned(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: Vec::new(),
        tags: Vec::new(),
        original: None,
        program_version: String::new(),
        summary: None,
    }
}
