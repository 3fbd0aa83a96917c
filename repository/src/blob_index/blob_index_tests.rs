//! The index against a plain map, with and without a cache, and what becomes of a damaged cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::format::index::IndexedPack;
use crate::format::pack::pack_length;
use crate::repository::FileKind;
use crate::repository::samples::{add_index, damage, faulty, gets, new_repository, open, seeded_repository};
use crate::storage::Memory;
use crate::storage::faulty::Fault;

const SMALL: Limits = Limits { draft_blobs: 20, runs_max: 2 };

/// A small world of ids, so that blobs are stored twice and types share an id.
fn id(number: u16) -> Id {
    let mut bytes = *Id::of(&number.to_le_bytes()).as_bytes();
    if number.is_multiple_of(3) {
        bytes[..4].fill(7); // some share a bucket
    }
    Id::from_bytes(bytes)
}

fn any_pack() -> impl Strategy<Value = IndexedPack> {
    let blob = (0..200u16, any::<bool>(), 32..1000u32, prop::option::of(1..u32::MAX));
    (any::<u16>(), prop::collection::vec(blob, 0..12)).prop_map(|(pack, blobs)| {
        let mut offset = 0;
        let entry = |(number, tree, length, uncompressed_length)| {
            let kind = if tree { BlobType::Tree } else { BlobType::Data };
            let entry = PackEntry { kind, id: id(number), offset, length, uncompressed_length };
            offset += length;
            entry
        };
        let blobs = blobs.into_iter().map(entry).collect();
        IndexedPack { id: Id::of(&pack.to_be_bytes()), blobs }
    })
}

fn any_files() -> impl Strategy<Value = Vec<Vec<IndexedPack>>> {
    prop::collection::vec(prop::collection::vec(any_pack(), 0..4), 0..8)
}

/// Pack, offset, length, plain length.
type Place = (Id, u32, u32, u32);

/// What the index files of `files` say, in the simplest way.
#[derive(Default)]
struct Model {
    copies: BTreeMap<(BlobType, Id), BTreeSet<Place>>,
    packs: BTreeSet<KnownPack>,
    len: usize,
}

impl Model {
    fn new<'a>(files: impl IntoIterator<Item = (&'a Id, &'a Vec<IndexedPack>)>) -> Self {
        let mut model = Self::default();
        for (file, packs) in files {
            for pack in packs {
                model.packs.insert(KnownPack { id: pack.id, length: pack_length(&pack.blobs), file: *file });
                for entry in &pack.blobs {
                    model.copies.entry((entry.kind, entry.id)).or_default().insert(place(&pack.id, entry));
                    model.len += 1;
                }
            }
        }
        model
    }

    fn check(&self, index: &BlobIndex) {
        assert_eq!(index.len(), self.len);
        assert_eq!(index.is_empty(), self.len == 0);
        assert_eq!(index.blobs().count(), self.len);
        for (kind, id) in (0..201).map(id).flat_map(|id| [(BlobType::Data, id), (BlobType::Tree, id)]) {
            let found: Vec<_> = index.find(kind, &id).collect();
            assert!(found.iter().all(|(_, entry)| entry.id == id && entry.kind == kind));
            let places: BTreeSet<_> = found.iter().map(|(pack, entry)| place(pack, entry)).collect();
            assert_eq!(places.len(), found.len(), "the same copy twice");
            assert_eq!(Some(&places).filter(|places| !places.is_empty()), self.copies.get(&(kind, id)));
            assert_eq!(index.contains(kind, &id), self.copies.contains_key(&(kind, id)));
        }
        assert_eq!(index.packs().collect::<BTreeSet<_>>(), self.packs);
    }
}

fn place(pack: &Id, entry: &PackEntry) -> Place {
    (*pack, entry.offset, entry.length, entry.uncompressed_length.unwrap_or(0))
}

/// A repository with these index files.
struct World {
    memory: Memory,
    repository: Repository,
    files: Vec<(Id, Vec<IndexedPack>)>,
    cache: tempfile::TempDir,
}

impl World {
    async fn new(contents: Vec<Vec<IndexedPack>>) -> Self {
        let memory = Memory::new();
        let repository = new_repository(&memory).await;
        let mut files = Vec::new();
        for packs in contents {
            files.push((add_index(&repository, &packs).await, packs));
        }
        Self { memory, repository, files, cache: tempfile::tempdir().unwrap() }
    }

    /// Loads the files that `chosen` has a bit for, and compares them with the model.
    async fn check(&self, chosen: u8, cache: Option<&Path>) -> BlobIndex {
        let chosen = self.files.iter().enumerate().filter(|(number, _)| chosen >> number & 1 == 1);
        let chosen: Vec<&(Id, Vec<IndexedPack>)> = chosen.map(|(_, file)| file).collect();
        let ids: Vec<Id> = chosen.iter().map(|(id, _)| *id).collect();
        let index = BlobIndex::load_with(&self.repository, &ids, cache, SMALL).await.unwrap();
        Model::new(chosen.into_iter().map(|(id, packs)| (id, packs))).check(&index);
        index
    }

    /// The files of the cache.
    fn cached(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.cache.path().join("index")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn lookups_are_those_of_a_map(
        contents in any_files(),
        rounds in prop::collection::vec((any::<u8>(), any::<bool>()), 1..5),
    ) {
        block_on(async {
            let world = World::new(contents).await;
            for (chosen, cached) in rounds {
                world.check(chosen, cached.then(|| world.cache.path())).await;
            }
        });
    }

    #[test]
    fn a_damaged_cache_is_made_anew(
        contents in any_files(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8), 1..4),
    ) {
        block_on(async {
            let world = World::new(contents).await;
            world.check(0xff, Some(world.cache.path())).await;
            for (file, at, how) in damages {
                let files = world.cached();
                if files.is_empty() {
                    return;
                }
                let path = file.get(&files);
                let mut bytes = std::fs::read(path).unwrap();
                let at = at.index(bytes.len());
                match how {
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 0x10,
                    2 => bytes.extend_from_slice(b"more"),
                    _ => bytes[at..].fill(0),
                }
                std::fs::write(path, &bytes).unwrap();
                world.check(0xff, Some(world.cache.path())).await;
            }
        });
    }
}

fn one_blob(number: u16) -> Vec<IndexedPack> {
    let entry = PackEntry { kind: BlobType::Data, id: id(number), offset: 0, length: 40, uncompressed_length: None };
    vec![IndexedPack { id: Id::of(&number.to_be_bytes()), blobs: vec![entry] }]
}

#[tokio::test]
async fn what_is_cached_is_not_read_again() {
    let world = World::new((0..8).map(one_blob).collect()).await;
    world.check(0x0f, Some(world.cache.path())).await;
    let storage = faulty(&world.memory, |_| Fault::None);
    let watched = World { repository: open(storage.clone()).await, ..world };
    watched.check(0x0f, Some(watched.cache.path())).await;
    assert_eq!(gets(&storage, "index/"), 0);
    watched.check(0x3f, Some(watched.cache.path())).await;
    assert_eq!(gets(&storage, "index/"), 2);
    let damaged = watched.cached().remove(0);
    std::fs::write(&damaged, b"LSINDEX1").unwrap();
    watched.check(0x3f, Some(watched.cache.path())).await;
    assert!(gets(&storage, "index/") > 2);
    assert!(watched.cached().iter().all(|path| std::fs::metadata(path).unwrap().len() > 100));
}

#[tokio::test]
async fn few_files_are_kept_however_many_were_loaded() {
    let world = World::new((0..8).map(one_blob).collect()).await;
    for count in 1..=8 {
        let index = world.check(((1u16 << count) - 1) as u8, Some(world.cache.path())).await;
        assert!(index.runs.len() <= SMALL.runs_max);
        assert_eq!(world.cached().len(), index.runs.len());
    }
    // After a prune: other index files, the old ones are never asked for again.
    world.check(0x80, Some(world.cache.path())).await;
    assert_eq!(world.cached().len(), 1);
    world.check(0x01, Some(world.cache.path())).await;
    assert_eq!(world.cached().len(), 1, "what holds nothing that is wanted is removed");
}

#[tokio::test]
async fn a_cache_of_another_repository_is_not_believed() {
    let world = World::new(vec![one_blob(1)]).await;
    world.check(1, Some(world.cache.path())).await;
    let path = world.cached().remove(0);
    let cache_of = |repository: Id| cache::Cache::open(world.cache.path(), repository).unwrap();
    assert!(cache_of(world.repository.id()).read(&path).is_some());
    let other = seeded_repository(&Memory::new(), 12).await;
    assert!(cache_of(other.id()).read(&path).is_none());
    // The same file again, in another repository that does not hold it.
    let files = [world.files[0].0];
    let missing = BlobIndex::load(&other, &files, Some(world.cache.path())).await.map(drop);
    assert!(matches!(missing, Err(RepositoryError::NotFound { .. })));
}

#[tokio::test]
async fn without_a_usable_folder_the_index_stays_in_memory() {
    let world = World::new((0..8).map(one_blob).collect()).await;
    let file = world.cache.path().join("file");
    std::fs::write(&file, b"").unwrap();
    world.check(0xff, Some(&file)).await;
    assert_eq!(std::fs::read(&file).unwrap(), b"");
}

#[tokio::test]
async fn damaged_and_missing_index_files_are_named() {
    let world = World::new(vec![one_blob(1), one_blob(2)]).await;
    let ids: Vec<Id> = world.files.iter().map(|(id, _)| *id).collect();
    let name = FileKind::Index.name(&ids[1]);
    damage(&world.memory, &name);
    match BlobIndex::load(&world.repository, &ids, Some(world.cache.path())).await.map(drop).unwrap_err() {
        RepositoryError::Damaged { name: named, .. } => assert_eq!(named, name),
        error => panic!("{error:?}"),
    }
    world.memory.tamper(&name, None);
    match BlobIndex::load(&world.repository, &ids, None).await.map(drop).unwrap_err() {
        RepositoryError::NotFound { name: named, .. } => assert_eq!(named, name),
        error => panic!("{error:?}"),
    }
    let no_index = world.repository.save_file(FileKind::Index, b"[]").await.unwrap();
    match BlobIndex::load(&world.repository, &[no_index], None).await.map(drop).unwrap_err() {
        RepositoryError::Damaged { name, .. } => assert_eq!(name, FileKind::Index.name(&no_index)),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn many_tasks_share_one_index() {
    let world = World::new((0..8).map(one_blob).collect()).await;
    let index = Arc::new(world.check(0xff, Some(world.cache.path())).await);
    let ask = |number| {
        let index = index.clone();
        tokio::spawn(async move { index.contains(BlobType::Data, &id(number)) })
    };
    let asked: Vec<_> = (0..8).map(ask).collect();
    for answer in asked {
        assert!(answer.await.unwrap());
    }
}
