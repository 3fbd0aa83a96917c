//! A small repository to damage, for tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use proto::id::Id;

use super::*;
use crate::format::index::{IndexedPack, encode_index};
use crate::format::key::{KeyOwner, ScryptParameters};
use crate::format::node::{Kind, Node, NodeTime};
use crate::format::pack::{BlobType, PackEntry};
use crate::format::snapshot::Snapshot;
use crate::format::tree::TreeWriter;
use crate::maintenance::executor::{BlockingThreads, Inline};
use crate::pack_writer::PackWriter;
use crate::repository::FileKind;
use crate::seal::Compression;
use crate::storage::{Body, Failure, Memory, Operation, Page, Storage, StorageError, StorageErrorKind};
use crate::test_random::SeededRandom;

pub(super) const PASSWORD: &[u8] = b"longshore";

/// What every test repository is opened with.
fn random() -> Arc<SeededRandom> {
    Arc::new(SeededRandom::new(7))
}

pub(super) fn inline() -> Resources {
    Resources::new(Arc::new(Inline), Resources::MEMORY_BYTES_DEFAULT)
}

pub(super) fn threads() -> Resources {
    Resources::new(Arc::new(BlockingThreads::new(2)), 1 << 20)
}

/// Checks with every pack read.
pub(super) async fn check_all(repository: &Repository) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    check(repository, &options, &inline(), None).await.unwrap()
}

/// Checks without reading packs.
pub(super) async fn check_structure_only(repository: &Repository) -> CheckReport {
    check(repository, &CheckOptions::default(), &inline(), None).await.unwrap()
}

/// Kinds and files of findings, sorted, each once.
pub(super) fn short(findings: &[Finding]) -> Vec<(FindingKind, &str)> {
    let mut short: Vec<_> = findings.iter().map(|finding| (finding.kind, &*finding.file)).collect();
    short.sort_unstable();
    short.dedup();
    short
}

pub(super) struct Lab {
    pub(super) memory: Memory,
    pub(super) repository: Repository,
}

impl Lab {
    pub(super) async fn empty() -> Self {
        let memory = Memory::new();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let cost = ScryptParameters { n: 16, r: 1, p: 1 };
        let made = Repository::init_with_cost(storage, PASSWORD, KeyOwner::default(), cost, random());
        Self { repository: made.await.unwrap(), memory }
    }

    /// A copy of a repository in `testdata`.
    pub(super) async fn of_testdata(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
        let mut content = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                    content.insert(name, Bytes::from(std::fs::read(path).unwrap()));
                }
            }
        }
        Self::open(Memory::from_content(content)).await
    }

    async fn open(memory: Memory) -> Self {
        let repository = Self::open_at(Arc::new(memory.clone())).await;
        Self { memory, repository }
    }

    /// The same repository, seen through another storage.
    pub(super) async fn open_at(storage: Arc<dyn Storage>) -> Repository {
        Repository::open(storage, PASSWORD, None, random()).await.unwrap()
    }

    /// Another repository with the same content.
    pub(super) async fn copy(&self) -> Self {
        Self::open(Memory::from_content(self.memory.content())).await
    }

    /// Stores blobs in one pack, in this order.
    pub(super) async fn pack(&self, blobs: &[(BlobType, &[u8])]) -> IndexedPack {
        let sealer = self.repository.sealer(Compression::Auto);
        let mut writers = blobs.iter().map(|(kind, plain)| {
            let mut writer = PackWriter::new(*kind, u64::MAX);
            writer.add(&sealer.seal_blob(*kind, plain).unwrap()).unwrap();
            writer
        });
        let mut writer = writers.next().unwrap();
        if blobs.iter().any(|(kind, _)| *kind != blobs[0].0) {
            return self.mixed_pack(blobs).await;
        }
        for other in writers {
            writer = append(writer, other);
        }
        let finished = writer.finish(self.repository.master_key(), &**self.repository.random()).unwrap();
        let name = FileKind::Pack.name(&finished.id);
        self.memory.put(&name, finished.body).await.unwrap();
        IndexedPack { id: finished.id, blobs: finished.entries }
    }

    /// A pack as no current writer makes it.
    async fn mixed_pack(&self, blobs: &[(BlobType, &[u8])]) -> IndexedPack {
        let sealer = self.repository.sealer(Compression::Auto);
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for (kind, plain) in blobs {
            let sealed = sealer.seal_blob(*kind, plain).unwrap();
            entries.push(PackEntry {
                kind: *kind,
                id: sealed.id,
                offset: bytes.len() as u32,
                length: sealed.bytes.len() as u32,
                uncompressed_length: Some(sealed.plain_length),
            });
            bytes.extend_from_slice(&sealed.bytes);
        }
        let header = crate::format::pack::encode_header(&entries);
        let sealed = self.repository.master_key().seal(&header, &**self.repository.random()).unwrap();
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        let id = Id::of(&bytes);
        self.memory.put(&FileKind::Pack.name(&id), bytes.into()).await.unwrap();
        IndexedPack { id, blobs: entries }
    }

    pub(super) async fn index(&self, packs: &[IndexedPack]) -> String {
        let id = self.repository.save_file(FileKind::Index, &encode_index(packs)).await.unwrap();
        FileKind::Index.name(&id)
    }

    pub(super) async fn snapshot(&self, tree: Id) -> String {
        let text = format!(r#"{{"time":"2026-01-01T00:00:00Z","tree":"{tree}","paths":["/a"]}}"#);
        assert_eq!(Snapshot::decode(text.as_bytes()).unwrap().tree, tree);
        let id = self.repository.save_file(FileKind::Snapshot, text.as_bytes()).await.unwrap();
        FileKind::Snapshot.name(&id)
    }

    /// Stores a root tree of this JSON in a pack of its own, with an index and a snapshot for it;
    /// gives the pack's name.
    pub(super) async fn root(&self, json: &[u8]) -> String {
        let pack = self.pack(&[(BlobType::Tree, json)]).await;
        let name = FileKind::Pack.name(&pack.id);
        self.index(&[pack]).await;
        self.snapshot(Id::of(json)).await;
        name
    }

    /// Changes the bytes of a file.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.memory.content()[name].to_vec();
        change(&mut bytes);
        self.memory.tamper(name, Some(bytes.into()));
    }

    /// All names in a folder.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        self.memory.content().into_keys().filter(|name| name.starts_with(prefix)).collect()
    }
}

/// One writer with the blobs of both.
fn append(mut first: PackWriter, second: PackWriter) -> PackWriter {
    assert!(first.merge(second).is_none());
    first
}

/// A file whose pieces are these.
pub(super) fn file(name: &str, content: &[&[u8]]) -> Node {
    Node {
        name: name.into(),
        kind: Kind::File,
        mode: 0o644,
        size: content.iter().map(|piece| piece.len() as u64).sum(),
        content: Some(content.iter().map(|piece| Id::of(piece)).collect()),
        mtime: NodeTime::default(),
        ..Node::default()
    }
}

pub(super) fn directory(name: &str, tree: &[u8]) -> Node {
    Node { name: name.into(), kind: Kind::Dir, mode: 0o755 | 1 << 31, subtree: Some(Id::of(tree)), ..Node::default() }
}

/// A tree of nodes whose names ascend.
pub(super) fn tree(nodes: &[Node]) -> Vec<u8> {
    let mut writer = TreeWriter::new(Vec::new()).unwrap();
    for node in nodes {
        let mut json = Vec::new();
        node.encode(&mut json);
        writer.push(&node.name, &json).unwrap();
    }
    writer.finish().unwrap()
}

/// A tree of one node's JSON, as it is.
pub(super) fn raw_tree(nodes: &str) -> Vec<u8> {
    format!("{{\"nodes\":[{nodes}]}}\n").into_bytes()
}

/// What befalls a get, by its number (from 0) among those of one pack.
type Fault = Box<dyn Fn(u64, &str, Bytes) -> Result<Bytes, StorageErrorKind> + Send + Sync>;

/// A storage that changes what is read from packs, and counts.
pub(super) struct Tampering {
    inner: Memory,
    fault: Fault,
    gets: Mutex<BTreeMap<String, u64>>,
    pub(super) bytes_read: AtomicU64,
}

impl Tampering {
    pub(super) fn new(
        inner: Memory,
        fault: impl Fn(u64, &str, Bytes) -> Result<Bytes, StorageErrorKind> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (gets, bytes_read) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { inner, fault: Box::new(fault), gets, bytes_read })
    }

    /// How many gets of packs there were.
    pub(super) fn gets(&self) -> u64 {
        self.gets.lock().unwrap().values().sum()
    }
}

impl std::fmt::Debug for Tampering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tampering")
    }
}

#[async_trait]
impl Storage for Tampering {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        self.inner.put(name, body).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        let bytes = self.inner.get(name, range).await?;
        if !name.starts_with("data/") {
            return Ok(bytes);
        }
        self.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let number = {
            let mut gets = self.gets.lock().unwrap();
            let count = gets.entry(name.to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        let error = |kind| StorageError::new(Operation::Get, name, self.location(), Failure::from(kind));
        (self.fault)(number, name, bytes).map_err(error)
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.inner.list(prefix, from).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.inner.delete(name).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.inner.create().await
    }
}
