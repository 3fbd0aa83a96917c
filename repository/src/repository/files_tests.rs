//! Files that are named by their digest, snapshots, and private objects.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proto::id::Id;

use super::samples::{damage, faulty, fixture, garbled_once, gets, new_repository, open};
use super::*;
use crate::storage::faulty::Fault;
use crate::storage::{Memory, StorageErrorKind};

const NOW: &str = "2026-11-23T15:37:02.412801701+01:00";

fn snapshot_json(host: &str) -> Vec<u8> {
    let tree = Id::of(host.as_bytes());
    format!(r#"{{"time":"{NOW}","tree":"{tree}","paths":["/srv"],"hostname":"{host}"}}"#).into_bytes()
}

#[tokio::test]
async fn what_was_saved_is_loaded() {
    for memory in [Memory::new(), fixture("restic-0.19.1-v1")] {
        let repository = match memory.content().is_empty() {
            true => new_repository(&memory).await,
            false => open(Arc::new(memory.clone())).await,
        };
        let long = snapshot_json(&"x".repeat(200_000));
        for json in [&snapshot_json("harbour")[..], &long] {
            let id = repository.save_file(FileKind::Snapshot, json).await.unwrap();
            let stored = memory.content()[&FileKind::Snapshot.name(&id)].clone();
            assert_eq!(Id::of(&stored), id);
            assert_eq!(repository.load_stored(FileKind::Snapshot, &id).await.unwrap(), stored);
            assert_eq!(repository.load_file(FileKind::Snapshot, &id).await.unwrap(), json);
            // The name is the digest of the content: to store it again is success.
            repository.put_sealed(FileKind::Snapshot, &id, stored).await.unwrap();
            repository.remove(FileKind::Snapshot, &id).await.unwrap();
            repository.remove(FileKind::Snapshot, &id).await.unwrap();
            let gone = repository.load_file(FileKind::Snapshot, &id).await.unwrap_err();
            assert!(matches!(gone, RepositoryError::NotFound { name, .. } if name == FileKind::Snapshot.name(&id)));
        }
        let key = repository.load_file(FileKind::Key, &repository.key_id()).await.unwrap();
        assert_eq!(Id::of(&key), repository.key_id(), "keys are given as they are stored");
        assert_eq!(repository.save_file(FileKind::Key, &key).await.unwrap(), repository.key_id());
    }
}

#[tokio::test]
async fn lists_are_whole_and_skip_other_names() {
    let memory = Memory::new().with_page_entries(1);
    let repository = new_repository(&memory).await;
    let mut expected = Vec::new();
    for number in 0..5u8 {
        let id = repository.save_file(FileKind::Lock, &[b'{', number, b'}']).await.unwrap();
        expected.push((id, memory.content()[&FileKind::Lock.name(&id)].len() as u64));
    }
    expected.sort_unstable();
    let stray = Id::of(b"stray");
    let odd_names = [
        "locks/README".to_owned(),
        format!("locks/{stray}-tmp-1"),
        format!("locks/sub/{stray}"),
        format!("data/zz/{stray}"),
        format!("data/{stray}"),
    ];
    for name in &odd_names {
        memory.tamper(name, Some(Bytes::from_static(b"x")));
    }
    assert_eq!(repository.list(FileKind::Lock).await.unwrap(), expected);
    assert_eq!(repository.list(FileKind::Pack).await.unwrap(), []);
    let pack = FileKind::Pack.name(&stray);
    memory.tamper(&pack, Some(Bytes::from_static(b"pack")));
    assert_eq!(repository.list(FileKind::Pack).await.unwrap(), [(stray, 4)]);
}

#[tokio::test]
async fn damage_is_named_and_read_once_more() {
    let memory = Memory::new();
    let repository = new_repository(&memory).await;
    let json = snapshot_json("harbour");
    let id = repository.save_file(FileKind::Snapshot, &json).await.unwrap();
    let lucky = open(garbled_once(&memory, "snapshots/")).await;
    assert_eq!(lucky.load_file(FileKind::Snapshot, &id).await.unwrap(), json);
    let name = FileKind::Snapshot.name(&id);
    damage(&memory, &name);
    let storage = faulty(&memory, |_| Fault::None);
    let error = open(storage.clone()).await.load_file(FileKind::Snapshot, &id).await.unwrap_err();
    assert!(error.is_damage() && !error.is_transient());
    assert!(matches!(error, RepositoryError::Damaged { name: named, .. } if named == name));
    assert_eq!(gets(&storage, "snapshots/"), 2);
    // The right digest, and yet nothing of ours.
    let alien = Id::of(b"not sealed by this key at all, but long enough");
    memory.tamper(
        &FileKind::Index.name(&alien),
        Some(Bytes::from_static(b"not sealed by this key at all, but long enough")),
    );
    let error = repository.load_file(FileKind::Index, &alien).await.unwrap_err();
    match error {
        RepositoryError::Damaged { name, source, .. } => {
            assert_eq!(name, FileKind::Index.name(&alien));
            assert!(matches!(*source, FileDamage::Sealed(_)));
        }
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn ids_may_be_cut_short_if_they_stay_unique() {
    let memory = Memory::new();
    let repository = new_repository(&memory).await;
    let mut ids = Vec::new();
    for number in 0..40 {
        let json = snapshot_json(&format!("host {number}"));
        ids.push(repository.save_file(FileKind::Snapshot, &json).await.unwrap());
    }
    for id in &ids {
        let digits = id.to_string();
        assert_eq!(repository.find_snapshot(&digits).await.unwrap(), *id);
        let same_start = ids.iter().filter(|other| other.to_string().starts_with(&digits[..1])).count();
        match repository.find_snapshot(&digits[..1]).await {
            Ok(found) => assert!(same_start == 1 && found == *id),
            Err(RepositoryError::AmbiguousId { matches, .. }) => assert_eq!(matches, same_start),
            Err(error) => panic!("{error:?}"),
        }
    }
    match repository.find_snapshot("xyz").await.unwrap_err() {
        error @ RepositoryError::UnknownId { .. } => assert_eq!(error.to_string(), "no snapshot begins with \"xyz\""),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn broken_snapshots_are_named_and_left_out() {
    let memory = Memory::new();
    let repository = new_repository(&memory).await;
    let mut ids = Vec::new();
    for host in ["a", "b", "c"] {
        ids.push(repository.save_file(FileKind::Snapshot, &snapshot_json(host)).await.unwrap());
    }
    let no_snapshot = repository.save_file(FileKind::Snapshot, b"{}").await.unwrap();
    damage(&memory, &FileKind::Snapshot.name(&ids[1]));
    let loaded = repository.load_snapshots().await.unwrap();
    let mut hosts: Vec<&str> = loaded.snapshots.iter().map(|(_, snapshot)| snapshot.hostname.as_str()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["a", "c"]);
    let mut expected = [ids[1], no_snapshot];
    expected.sort_unstable();
    assert_eq!(loaded.broken.iter().map(|(id, _)| *id).collect::<Vec<_>>(), expected);
    assert!(loaded.broken.iter().all(|(_, error)| error.is_damage()));
    let away = faulty(&memory, |call| match call.name.starts_with("snapshots/") && call.name.len() > 20 {
        true => Fault::Refused(StorageErrorKind::Unavailable),
        false => Fault::None,
    });
    assert!(open(away).await.load_snapshots().await.unwrap_err().is_transient());
}

#[tokio::test]
async fn snapshots_of_restic_are_read() {
    for name in ["restic-0.19.1-v1", "restic-0.19.1-v2"] {
        let repository = open(Arc::new(fixture(name))).await;
        let loaded = repository.load_snapshots().await.unwrap();
        assert!(loaded.broken.is_empty());
        let [(id, snapshot)] = &loaded.snapshots[..] else { panic!("there is one") };
        assert_eq!(snapshot.program_version, "restic 0.19.1");
        assert_eq!(
            repository.load_snapshot(&repository.find_snapshot(&id.short()).await.unwrap()).await.unwrap(),
            *snapshot
        );
    }
}

#[tokio::test]
async fn private_objects_are_created_once() {
    let memory = Memory::new().with_page_entries(2);
    let repository = new_repository(&memory).await;
    assert_eq!(repository.get_private("jobs/1/start").await.unwrap(), None);
    repository.put_private("jobs/1/start", b"mine").await.unwrap();
    let sealed = memory.content()["longshore/jobs/1/start"].clone();
    assert!(!sealed.windows(4).any(|bytes| bytes == b"mine"));
    let again = repository.put_private("jobs/1/start", b"mine").await.unwrap_err();
    assert!(matches!(again, RepositoryError::AlreadyThere { name, .. } if name == "longshore/jobs/1/start"));
    for name in ["jobs/1/epoch-1", "jobs/2/start", "jobs/2/commit", "known"] {
        repository.put_private(name, name.as_bytes()).await.unwrap();
    }
    assert_eq!(repository.list_private("jobs/2/").await.unwrap(), ["jobs/2/commit", "jobs/2/start"]);
    assert_eq!(repository.list_private("").await.unwrap().len(), 5);
    repository.remove_private("jobs/2/commit").await.unwrap();
    repository.remove_private("jobs/2/commit").await.unwrap();
    assert_eq!(repository.list_private("jobs/2/").await.unwrap(), ["jobs/2/start"]);
    let lucky = open(garbled_once(&memory, "longshore/")).await;
    assert_eq!(lucky.get_private("known").await.unwrap().unwrap(), b"known");
    damage(&memory, "longshore/known");
    let damaged = repository.get_private("known").await.unwrap_err();
    assert!(matches!(damaged, RepositoryError::Damaged { name, .. } if name == "longshore/known"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn private_objects_hold_any_bytes(
        plain in prop::collection::vec(any::<u8>(), 0..500),
        start in prop::option::of(prop::sample::select(&b"{[\x02\x00"[..])),
        is_old in any::<bool>(),
    ) {
        let plain: Vec<u8> = start.into_iter().chain(plain).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let loaded = runtime.block_on(async {
            let repository = match is_old {
                true => open(Arc::new(fixture("restic-0.19.1-v1"))).await,
                false => new_repository(&Memory::new()).await,
            };
            repository.put_private("x", &plain).await.unwrap();
            repository.get_private("x").await.unwrap()
        });
        prop_assert_eq!(loaded, Some(plain));
    }
}
