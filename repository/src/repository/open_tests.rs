//! Making repositories, and opening them with right and wrong passwords and damaged keys.

use std::sync::Arc;

use bytes::Bytes;
use proto::id::Id;

use super::samples::{CHEAP, PASSWORD, damage, faulty, fixture, flipped, garbled_once, new_repository, open, random};
use super::*;
use crate::blob_index::BlobIndex;
use crate::format::key::{KeyFile, KeyFileError, KeyOwner};
use crate::format::pack::BlobType;
use crate::storage::faulty::Fault;
use crate::storage::{Local, Memory, Operation, StorageErrorKind};

async fn try_open(memory: &Memory, password: &[u8], hint: Option<&str>) -> Result<Repository, RepositoryError> {
    Repository::open(Arc::new(memory.clone()), password, hint, random()).await
}

async fn try_init(storage: Arc<dyn Storage>) -> Result<Repository, RepositoryError> {
    Repository::init_with_cost(storage, PASSWORD, KeyOwner::default(), CHEAP, random()).await
}

/// Adds a key for another password; gives its id.
fn add_key(memory: &Memory, repository: &Repository, password: &[u8]) -> Id {
    let owner = KeyOwner { hostname: String::from_utf8_lossy(password).into_owned(), ..KeyOwner::default() };
    let file = KeyFile::create(repository.master_key(), password, CHEAP, owner, &**repository.random()).unwrap();
    put_key(memory, file.encode().unwrap())
}

fn put_key(memory: &Memory, json: Vec<u8>) -> Id {
    let id = Id::of(&json);
    memory.tamper(&FileKind::Key.name(&id), Some(json.into()));
    id
}

/// The key file, changed as text.
fn edited_key(memory: &Memory, id: &Id, from: &str, to: &str) -> Vec<u8> {
    let json = String::from_utf8(memory.content()[&FileKind::Key.name(id)].to_vec()).unwrap();
    assert!(json.contains(from));
    json.replace(from, to).into_bytes()
}

#[tokio::test]
async fn what_was_made_can_be_opened() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    assert_eq!(made.version(), RepositoryVersion::V2);
    made.check_writable().unwrap();
    let names: Vec<String> = memory.content().into_keys().collect();
    assert_eq!(names, ["config".to_owned(), FileKind::Key.name(&made.key_id())]);
    let opened = open(Arc::new(memory)).await;
    assert_eq!((opened.id(), opened.key_id(), opened.config()), (made.id(), made.key_id(), made.config()));
    assert_eq!(opened.master_key(), made.master_key());
    assert_eq!(opened.chunker().polynomial(), made.config().chunker_polynomial);
}

#[tokio::test]
async fn nothing_is_made_where_something_is() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let snapshot = FileKind::Snapshot.name(&Id::of(b"any"));
    for name in ["config".to_owned(), FileKind::Key.name(&made.key_id()), snapshot] {
        let rest = Memory::new();
        rest.tamper(&name, Some(Bytes::from_static(b"anything")));
        let before = rest.content();
        match try_init(Arc::new(rest.clone())).await.unwrap_err() {
            RepositoryError::Exists { name: named, .. } => assert_eq!(named, name),
            error => panic!("{error:?}"),
        }
        assert_eq!(rest.content(), before);
    }
}

#[tokio::test]
async fn of_two_makers_one_wins() {
    let memory = Memory::new();
    let first = new_repository(&memory).await;
    let winner = memory.content();
    let race = Memory::new();
    let (target, content) = (race.clone(), winner.clone());
    // The other one finishes just before we put our configuration.
    let storage = faulty(&race, move |call| {
        if call.operation == Operation::Put && call.name == "config" {
            content.iter().for_each(|(name, bytes)| target.tamper(name, Some(bytes.clone())));
        }
        Fault::None
    });
    let second = Repository::init_with_cost(storage, b"other", KeyOwner::default(), CHEAP, random()).await;
    assert!(matches!(second, Err(RepositoryError::Exists { .. })));
    assert_eq!(race.content(), winner, "no key is left behind that the winner's password does not open");
    assert_eq!(open(Arc::new(race)).await.id(), first.id());
}

#[tokio::test]
async fn where_nobody_made_a_repository_there_is_none() {
    let missing = try_open(&Memory::new(), PASSWORD, None).await;
    assert!(matches!(missing, Err(RepositoryError::NoRepository { .. })));
    let folder = tempfile::tempdir().unwrap();
    let local: Arc<dyn Storage> = Arc::new(Local::new(folder.path().join("nothing")));
    let missing = Repository::open(local, PASSWORD, None, random()).await;
    assert!(matches!(missing, Err(RepositoryError::NoRepository { .. })));
}

#[tokio::test]
async fn a_directory_can_be_made_and_opened() {
    let folder = tempfile::tempdir().unwrap();
    let local: Arc<dyn Storage> = Arc::new(Local::new(folder.path().join("repository")));
    let made = try_init(local.clone()).await.unwrap();
    assert_eq!(open(local.clone()).await.id(), made.id());
    assert!(matches!(try_init(local).await, Err(RepositoryError::Exists { .. })));
}

#[tokio::test]
async fn a_password_opens_its_own_key() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let second = add_key(&memory, &made, b"second");
    assert_eq!(try_open(&memory, b"second", None).await.unwrap().key_id(), second);
    assert_eq!(try_open(&memory, PASSWORD, None).await.unwrap().key_id(), made.key_id());
    match try_open(&memory, b"third", None).await.unwrap_err() {
        RepositoryError::WrongPassword { tried: 2, untried: 0, .. } => {}
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn keys_of_restic_cost_are_added_and_opened() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let added = made.add_key(b"dear", KeyOwner::default()).await.unwrap();
    let opened = try_open(&memory, b"dear", Some(&added.short())).await.unwrap();
    assert_eq!((opened.key_id(), opened.id()), (added, made.id()));
}

#[tokio::test]
async fn twenty_keys_are_tried_and_a_hint_chooses_them() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let passwords: Vec<String> = (1..30).map(|number| format!("password {number}")).collect();
    let ids: Vec<Id> = passwords.iter().map(|password| add_key(&memory, &made, password.as_bytes())).collect();
    let storage = faulty(&memory, |_| Fault::None);
    match Repository::open(storage.clone(), b"none", None, random()).await.unwrap_err() {
        RepositoryError::WrongPassword { tried: 20, untried: 10, .. } => {}
        error => panic!("{error:?}"),
    }
    assert_eq!(super::samples::gets(&storage, "keys/"), 20);
    let mut opened = 0;
    for (password, id) in passwords.iter().zip(&ids) {
        opened += usize::from(try_open(&memory, password.as_bytes(), None).await.is_ok());
        let hinted = try_open(&memory, password.as_bytes(), Some(&id.to_string()[..8])).await.unwrap();
        assert_eq!(hinted.key_id(), *id);
    }
    assert!((19..=20).contains(&opened), "{opened} of 30 keys are among the first 20 without a hint");
}

#[tokio::test]
async fn a_damaged_key_is_told_from_a_wrong_password() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let name = FileKind::Key.name(&made.key_id());
    damage(&memory, &name);
    for password in [PASSWORD, b"wrong"] {
        match try_open(&memory, password, None).await.unwrap_err() {
            RepositoryError::Damaged { name: named, source, .. } => {
                assert_eq!(named, name);
                assert!(matches!(*source, FileDamage::WrongDigest { .. }));
            }
            error => panic!("{error:?}"),
        }
    }
    // Another key is opened all the same.
    let other = add_key(&memory, &made, b"other");
    assert_eq!(try_open(&memory, b"other", None).await.unwrap().key_id(), other);
}

#[tokio::test]
async fn a_key_of_another_kind_ends_the_search() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let foreign = put_key(&memory, edited_key(&memory, &made.key_id(), "scrypt", "argon2"));
    match try_open(&memory, PASSWORD, Some(&foreign.short())).await.unwrap_err() {
        RepositoryError::ForeignKey { name, source: KeyFileError::UnknownDerivation { kdf }, .. } => {
            assert_eq!((name, kdf.as_str()), (FileKind::Key.name(&foreign), "argon2"));
        }
        error => panic!("{error:?}"),
    }
    let dear = edited_key(&memory, &made.key_id(), "\"N\":2", "\"N\":2147483648");
    let dear = put_key(&memory, dear);
    let refused = try_open(&memory, PASSWORD, Some(&dear.short())).await;
    assert!(matches!(refused, Err(RepositoryError::ForeignKey { .. })));
    let garbage = put_key(&memory, b"garbage".to_vec());
    memory.tamper(&FileKind::Key.name(&made.key_id()), None);
    memory.tamper(&FileKind::Key.name(&foreign), None);
    memory.tamper(&FileKind::Key.name(&dear), None);
    match try_open(&memory, PASSWORD, None).await.unwrap_err() {
        RepositoryError::Damaged { name, .. } => assert_eq!(name, FileKind::Key.name(&garbage)),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_damaged_configuration_is_named() {
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let good = memory.content()["config"].clone();
    let empty = made.master_key().seal(b"{}", &*random()).unwrap();
    for bad in [flipped(&good, 20), Bytes::new(), empty.into()] {
        memory.tamper("config", Some(bad));
        match try_open(&memory, PASSWORD, None).await.unwrap_err() {
            RepositoryError::Damaged { name, .. } => assert_eq!(name, "config"),
            error => panic!("{error:?}"),
        }
    }
    memory.tamper("config", Some(good));
    let id = made.id();
    for prefix in ["config", "keys/"] {
        assert_eq!(open(garbled_once(&memory, prefix)).await.id(), id, "damage on the way is read once more");
    }
}

#[tokio::test]
async fn trouble_of_the_storage_is_neither_damage_nor_a_wrong_password() {
    let memory = Memory::new();
    new_repository(&memory).await;
    for (kind, is_transient) in [(StorageErrorKind::Denied, false), (StorageErrorKind::Unavailable, true)] {
        for call in 0..3 {
            let storage =
                faulty(&memory, move |made| if made.number == call { Fault::Refused(kind) } else { Fault::None });
            let error = Repository::open(storage, PASSWORD, None, random()).await.unwrap_err();
            assert_eq!(error.is_transient(), is_transient);
            assert!(!error.is_damage());
            assert!(matches!(error, RepositoryError::Storage(error) if error.kind == kind));
        }
    }
}

#[tokio::test]
async fn what_a_writer_must_not_touch_is_refused() {
    let old = open(Arc::new(fixture("restic-0.19.1-v1"))).await;
    let error = old.check_writable().unwrap_err();
    assert!(matches!(error, RepositoryError::VersionOne { .. }));
    assert!(error.to_string().contains("restic migrate upgrade_repo_v2"), "{error}");
    let memory = Memory::new();
    let made = new_repository(&memory).await;
    let mut json = made.config().encode();
    json.pop();
    json.extend_from_slice(br#","is_hot":true,"chunk_size":4096}"#);
    memory.tamper("config", Some(made.master_key().seal(&json, &*random()).unwrap().into()));
    match open(Arc::new(memory)).await.check_writable().unwrap_err() {
        RepositoryError::ForeignSettings { settings, .. } => assert_eq!(settings, "chunk_size, is_hot"),
        error => panic!("{error:?}"),
    }
    open(Arc::new(fixture("restic-0.19.1-v2"))).await.check_writable().unwrap();
}

fn sendable<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test]
async fn every_call_can_be_spawned() {
    let memory = Memory::new();
    let made = sendable(try_init(Arc::new(memory.clone()))).await.unwrap();
    sendable(try_open(&memory, PASSWORD, None)).await.unwrap();
    sendable(made.load_snapshots()).await.unwrap();
    let index = sendable(BlobIndex::load(&made, &[], None)).await.unwrap();
    sendable(made.read_blob(&index, BlobType::Data, &Id::of(b""))).await.unwrap_err();
    assert!(sendable(made.open_tree(&index, &Id::of(b""))).await.is_err());
    sendable(made.put_private("a/b", b"x")).await.unwrap();
    sendable(made.get_private("a/b")).await.unwrap();
    sendable(made.read_pack_header(&Id::of(b""), 1000, 100)).await.unwrap_err();
    sendable(made.save_file(FileKind::Index, b"{}")).await.unwrap();
    assert_eq!(format!("{made:?}"), format!("Repository {{ location: \"memory:\", id: {:?}, .. }}", made.id()));
}
