//! Repositories for tests: in memory, cheap to open, easy to damage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::{BoxFuture, Clock, UnixTime};
use proto::id::Id;

use super::{FileKind, Repository};
use crate::format::index::{IndexedPack, encode_index};
use crate::format::key::{KeyOwner, ScryptParameters};
use crate::format::pack::BlobType;
use crate::pack_writer::PackWriter;
use crate::seal::Compression;
use crate::storage::faulty::{Call, Fault, Faulty};
use crate::storage::{Body, Memory, Operation, Page, Storage, StorageError};
use crate::test_random::SeededRandom;

pub(crate) const PASSWORD: &[u8] = b"longshore";

/// A key that is not worth anything and takes no time.
pub(crate) const CHEAP: ScryptParameters = ScryptParameters { n: 2, r: 1, p: 1 };

pub(crate) fn random() -> Arc<SeededRandom> {
    Arc::new(SeededRandom::new(11))
}

/// Time that stands still.
struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_seconds(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A storage that remembers each call, and fails as `plan` says.
pub(crate) fn faulty(memory: &Memory, plan: impl FnMut(&Call) -> Fault + Send + 'static) -> Arc<Faulty> {
    Arc::new(Faulty::new(Arc::new(memory.clone()), Arc::new(NoClock), plan))
}

/// How often whole objects or ranges below `prefix` were read.
pub(crate) fn gets(storage: &Faulty, prefix: &str) -> usize {
    let records = storage.records();
    records
        .iter()
        .filter(|record| record.call.operation == Operation::Get && record.call.name.starts_with(prefix))
        .count()
}

/// A storage whose answers are damaged on their way, as `damage` says.
pub(crate) struct Garbling<F>(pub(crate) Memory, pub(crate) Mutex<F>);

impl<F> std::fmt::Debug for Garbling<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Garbling")
    }
}

#[async_trait]
impl<F: FnMut(&str) -> bool + Send> Storage for Garbling<F> {
    fn location(&self) -> String {
        self.0.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        self.0.put(name, body).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        let bytes = self.0.get(name, range).await?;
        let damage = &mut *self.1.lock().unwrap();
        Ok(if damage(name) { flipped(&bytes, bytes.len() / 2) } else { bytes })
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.0.size(name).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.0.list(prefix, from).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.0.delete(name).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.0.create().await
    }
}

/// A storage that damages the first answer for each name that begins with `prefix`.
pub(crate) fn garbled_once(memory: &Memory, prefix: &'static str) -> Arc<dyn Storage> {
    let mut seen = std::collections::BTreeSet::new();
    let first = move |name: &str| name.starts_with(prefix) && seen.insert(name.to_owned());
    Arc::new(Garbling(memory.clone(), Mutex::new(first)))
}

/// The same bytes with one bit changed.
pub(crate) fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

/// Changes one bit of a stored object.
pub(crate) fn damage(memory: &Memory, name: &str) {
    let bytes = memory.content()[name].clone();
    memory.tamper(name, Some(flipped(&bytes, bytes.len() / 2)));
}

/// A new repository.
pub(crate) async fn new_repository(memory: &Memory) -> Repository {
    seeded_repository(memory, 11).await
}

/// A new repository whose id and key follow from `seed`.
pub(crate) async fn seeded_repository(memory: &Memory, seed: u64) -> Repository {
    let (storage, random) = (Arc::new(memory.clone()), Arc::new(SeededRandom::new(seed)));
    Repository::init_with_cost(storage, PASSWORD, KeyOwner::default(), CHEAP, random).await.unwrap()
}

pub(crate) async fn open(storage: Arc<dyn Storage>) -> Repository {
    Repository::open(storage, PASSWORD, None, random()).await.unwrap()
}

/// A repository that stock restic made, in memory.
pub(crate) fn fixture(name: &str) -> Memory {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let mut content = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
                content.insert(name, std::fs::read(path).unwrap().into());
            }
        }
    }
    Memory::from_content(content)
}

/// Stores a pack of these blobs.
pub(crate) async fn add_pack(repository: &Repository, kind: BlobType, blobs: &[&[u8]]) -> IndexedPack {
    let mut writer = PackWriter::new(kind, 1 << 30);
    for blob in blobs {
        writer.add(&repository.sealer(Compression::Auto).seal_blob(kind, blob).unwrap()).unwrap();
    }
    let pack = writer.finish(repository.master_key(), &**repository.random()).unwrap();
    repository.storage().put(&FileKind::Pack.name(&pack.id), pack.body).await.unwrap();
    IndexedPack { id: pack.id, blobs: pack.entries }
}

/// Stores an index file.
pub(crate) async fn add_index(repository: &Repository, packs: &[IndexedPack]) -> Id {
    repository.save_file(FileKind::Index, &encode_index(packs)).await.unwrap()
}
