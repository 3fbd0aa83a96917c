//! Blobs, trees and pack headers: restic's, damaged ones, and how many requests they cost.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use proto::id::Id;

use super::samples::{add_index, add_pack, faulty, fixture, flipped, garbled_once, gets, new_repository, open};
use super::*;
use crate::blob_index::BlobIndex;
use crate::format::index::IndexedPack;
use crate::format::pack::{BlobType, TRAILER_LENGTH, pack_length};
use crate::format::tree::TreeReader;
use crate::storage::faulty::Fault;
use crate::storage::{Memory, StorageErrorKind};

async fn whole_index(repository: &Repository) -> BlobIndex {
    let files: Vec<Id> = repository.list(FileKind::Index).await.unwrap().into_iter().map(|(id, _)| id).collect();
    BlobIndex::load(repository, &files, None).await.unwrap()
}

fn pack_name(pack: &IndexedPack) -> String {
    FileKind::Pack.name(&pack.id)
}

#[tokio::test]
async fn every_blob_of_restic_is_reached_from_the_snapshot() {
    for name in ["restic-0.19.1-v1", "restic-0.19.1-v2"] {
        let repository = open(Arc::new(fixture(name))).await;
        let index = whole_index(&repository).await;
        let (_, snapshot) = repository.load_snapshots().await.unwrap().snapshots.remove(0);
        let mut reached = BTreeSet::new();
        let mut trees = vec![snapshot.tree];
        while let Some(id) = trees.pop() {
            reached.insert((BlobType::Tree, id));
            let mut reader = TreeReader::new(repository.open_tree(&index, &id).await.unwrap());
            while let Some(node) = reader.next_raw().unwrap() {
                let node = node.decode().unwrap();
                trees.extend(node.subtree);
                for content in node.content.into_iter().flatten() {
                    let plain = repository.read_blob(&index, BlobType::Data, &content).await.unwrap();
                    assert_eq!(Id::of(&plain), content);
                    reached.insert((BlobType::Data, content));
                }
            }
        }
        let known: BTreeSet<(BlobType, Id)> = index.blobs().map(|(_, entry)| (entry.kind, entry.id)).collect();
        assert_eq!(reached, known);
        for pack in index.packs() {
            let size = repository.storage().size(&FileKind::Pack.name(&pack.id)).await.unwrap();
            assert_eq!(pack.length, size);
            let header = repository.find_pack_header(&pack.id, size).await.unwrap();
            assert!(header.iter().all(|entry| index.find(entry.kind, &entry.id).any(|copy| copy == (pack.id, *entry))));
        }
    }
}

/// Two packs that both hold `blob`, and an index of both.
async fn two_copies(memory: &Memory, kind: BlobType) -> (Repository, BlobIndex, [IndexedPack; 2]) {
    let repository = new_repository(memory).await;
    let packs =
        [add_pack(&repository, kind, &[b"blob", b"one"]).await, add_pack(&repository, kind, &[b"two", b"blob"]).await];
    add_index(&repository, &packs).await;
    let index = whole_index(&repository).await;
    (repository, index, packs)
}

async fn read_tree(repository: &Repository, index: &BlobIndex, id: &Id) -> Result<Vec<u8>, RepositoryError> {
    let mut plain = Vec::new();
    match repository.open_tree(index, id).await?.read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(error) => Err(error.downcast::<RepositoryError>().unwrap()),
    }
}

async fn read(repository: &Repository, index: &BlobIndex, kind: BlobType, id: &Id) -> Result<Vec<u8>, RepositoryError> {
    let plain = repository.read_blob(index, kind, id).await;
    if kind == BlobType::Tree {
        let streamed = read_tree(repository, index, id).await;
        assert_eq!(streamed.is_ok(), plain.is_ok());
    }
    plain.map(Vec::from)
}

#[tokio::test]
async fn any_whole_copy_will_do() {
    for kind in [BlobType::Data, BlobType::Tree] {
        let id = Id::of(b"blob");
        for broken in 0..2 {
            for is_gone in [false, true] {
                let memory = Memory::new();
                let (repository, index, packs) = two_copies(&memory, kind).await;
                match is_gone {
                    true => memory.tamper(&pack_name(&packs[broken]), None),
                    false => damage_blob(&memory, &packs[broken], &id),
                }
                assert_eq!(read(&repository, &index, kind, &id).await.unwrap(), b"blob");
            }
        }
    }
}

fn damage_blob(memory: &Memory, pack: &IndexedPack, id: &Id) {
    let entry = pack.blobs.iter().find(|entry| entry.id == *id).unwrap();
    let bytes = memory.content()[&pack_name(pack)].clone();
    memory.tamper(&pack_name(pack), Some(flipped(&bytes, entry.offset as usize + 20)));
}

#[tokio::test]
async fn when_all_copies_are_damaged_a_pack_is_named() {
    for kind in [BlobType::Data, BlobType::Tree] {
        let memory = Memory::new();
        let (repository, index, packs) = two_copies(&memory, kind).await;
        let id = Id::of(b"blob");
        packs.iter().for_each(|pack| damage_blob(&memory, pack, &id));
        match read(&repository, &index, kind, &id).await.unwrap_err() {
            RepositoryError::Damaged { name, source, .. } => {
                assert!(packs.iter().any(|pack| pack_name(pack) == name));
                assert!(matches!(*source, FileDamage::Blob(damage) if damage.id == id));
            }
            error => panic!("{error:?}"),
        }
        packs.iter().for_each(|pack| memory.tamper(&pack_name(pack), None));
        match read(&repository, &index, kind, &id).await.unwrap_err() {
            RepositoryError::Damaged { source, .. } => assert!(matches!(*source, FileDamage::Missing(_))),
            error => panic!("{error:?}"),
        }
        let other = if kind == BlobType::Data { BlobType::Tree } else { BlobType::Data };
        let missing = repository.read_blob(&index, other, &id).await.unwrap_err();
        assert!(matches!(missing, RepositoryError::BlobMissing { kind, .. } if kind == other));
    }
}

#[tokio::test]
async fn trouble_of_the_storage_counts_more_than_damage() {
    let memory = Memory::new();
    let (_, index, packs) = two_copies(&memory, BlobType::Data).await;
    let id = Id::of(b"blob");
    damage_blob(&memory, &packs[0], &id);
    let away = pack_name(&packs[1]);
    let storage = faulty(&memory, move |call| match call.name == away {
        true => Fault::Refused(StorageErrorKind::Unavailable),
        false => Fault::None,
    });
    let error = open(storage).await.read_blob(&index, BlobType::Data, &id).await.unwrap_err();
    assert!(error.is_transient());
}

#[tokio::test]
async fn damage_on_the_way_is_read_once_more() {
    for kind in [BlobType::Data, BlobType::Tree] {
        let memory = Memory::new();
        let repository = new_repository(&memory).await;
        let pack = add_pack(&repository, kind, &[b"blob"]).await;
        add_index(&repository, &[pack]).await;
        let index = whole_index(&repository).await;
        let plain = open(garbled_once(&memory, "data/")).await.read_blob(&index, kind, &Id::of(b"blob")).await;
        assert_eq!(plain.unwrap(), &b"blob"[..]);
    }
}

#[tokio::test]
async fn the_end_of_a_tree_says_if_it_was_another() {
    let memory = Memory::new();
    let repository = new_repository(&memory).await;
    let mut pack = add_pack(&repository, BlobType::Tree, &[b"blob"]).await;
    let alias = Id::of(b"something else");
    pack.blobs[0].id = alias;
    add_index(&repository, std::slice::from_ref(&pack)).await;
    let index = whole_index(&repository).await;
    match read_tree(&repository, &index, &alias).await.unwrap_err() {
        RepositoryError::Damaged { name, .. } => assert_eq!(name, pack_name(&pack)),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn neighbouring_trees_cost_few_requests() {
    let memory = Memory::new();
    let writer = new_repository(&memory).await;
    let trees: Vec<Vec<u8>> = (0..200u32).map(|number| number.to_le_bytes().repeat(50)).collect();
    let pack = add_pack(&writer, BlobType::Tree, &trees.iter().map(|tree| &tree[..]).collect::<Vec<_>>()).await;
    add_index(&writer, &[pack]).await;
    let index = whole_index(&writer).await;
    let storage = faulty(&memory, |_| Fault::None);
    let repository = open(storage.clone()).await;
    for tree in trees.iter().rev() {
        assert_eq!(read_tree(&repository, &index, &Id::of(tree)).await.unwrap(), *tree);
    }
    assert_eq!(gets(&storage, "data/"), 1);
}

#[tokio::test]
async fn a_cut_pack_gives_what_is_left_of_it() {
    let memory = Memory::new();
    let repository = new_repository(&memory).await;
    let pack = add_pack(&repository, BlobType::Tree, &[b"first", b"second"]).await;
    add_index(&repository, std::slice::from_ref(&pack)).await;
    let index = whole_index(&repository).await;
    let bytes = memory.content()[&pack_name(&pack)].clone();
    memory.tamper(&pack_name(&pack), Some(bytes.slice(..pack.blobs[0].length as usize)));
    assert_eq!(read_tree(&repository, &index, &Id::of(b"first")).await.unwrap(), b"first");
    let error = read_tree(&repository, &index, &Id::of(b"second")).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Damaged { name, .. } if name == pack_name(&pack)));
}

fn header_bytes(pack: &IndexedPack) -> u32 {
    let blobs: u64 = pack.blobs.iter().map(|entry| u64::from(entry.length)).sum();
    (pack_length(&pack.blobs) - blobs) as u32 - TRAILER_LENGTH as u32
}

#[tokio::test]
async fn a_header_costs_one_request() {
    let memory = Memory::new();
    let writer = new_repository(&memory).await;
    let blobs: Vec<Vec<u8>> = (0..100u32).map(|number| number.to_le_bytes().to_vec()).collect();
    for (count, requests_without_length) in [(1, 1), (15, 1), (16, 2), (100, 2)] {
        let blobs: Vec<&[u8]> = blobs[..count].iter().map(|blob| &blob[..]).collect();
        let pack = add_pack(&writer, BlobType::Data, &blobs).await;
        let size = pack_length(&pack.blobs);
        let storage = faulty(&memory, |_| Fault::None);
        let repository = open(storage.clone()).await;
        assert_eq!(repository.read_pack_header(&pack.id, size, header_bytes(&pack)).await.unwrap(), pack.blobs);
        assert_eq!(gets(&storage, "data/"), 1);
        assert_eq!(repository.find_pack_header(&pack.id, size).await.unwrap(), pack.blobs);
        assert_eq!(gets(&storage, "data/"), 1 + requests_without_length);
    }
}

#[tokio::test]
async fn a_pack_that_was_not_so_reported_is_told_from_trouble() {
    let memory = Memory::new();
    let repository = new_repository(&memory).await;
    let pack = add_pack(&repository, BlobType::Data, &[b"one", b"two"]).await;
    let (size, header) = (pack_length(&pack.blobs), header_bytes(&pack));
    let absent = Id::of(b"absent");
    for (id, size, header) in [
        (&absent, size, header),
        (&pack.id, size - 1, header),
        (&pack.id, size + 1, header),
        (&pack.id, size, header - 1),
        (&pack.id, size, header + 1),
        (&pack.id, 10, header),
        (&pack.id, size, u32::MAX),
    ] {
        let error = repository.read_pack_header(id, size, header).await.unwrap_err();
        assert!(matches!(error, RepositoryError::NotAsReported { .. }), "{error:?}");
    }
    for size in [size - 1, size + 1, 10, 0] {
        let error = repository.find_pack_header(&pack.id, size).await.unwrap_err();
        assert!(matches!(error, RepositoryError::NotAsReported { .. }), "{error:?}");
    }
    let bytes = memory.content()[&pack_name(&pack)].clone();
    memory.tamper(&pack_name(&pack), Some(flipped(&bytes, bytes.len() - 30)));
    let error = repository.read_pack_header(&pack.id, size, header).await.unwrap_err();
    assert!(matches!(error, RepositoryError::NotAsReported { .. }));
    let storage = faulty(&memory, |call| match call.name.starts_with("data/") {
        true => Fault::Refused(StorageErrorKind::Unavailable),
        false => Fault::None,
    });
    assert!(open(storage).await.read_pack_header(&pack.id, size, header).await.unwrap_err().is_transient());
}
