use super::*;
use crate::blob_index::BlobIndex;
use crate::format::key::{KeyOwner, ScryptParameters};
use crate::format::pack::BlobType;
use crate::storage::Memory;
use crate::test_random::SeededRandom;

const CHEAP: ScryptParameters = ScryptParameters { n: 2, r: 1, p: 1 };

#[tokio::test]
async fn what_was_made_can_be_opened() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let random = Arc::new(SeededRandom::new(1));
    let made = Repository::init_with_cost(storage.clone(), b"secret", KeyOwner::default(), CHEAP, random.clone());
    let made = made.await.unwrap();
    let opened = Repository::open(storage.clone(), b"secret", None, random.clone()).await.unwrap();
    assert_eq!(opened.id(), made.id());
    let wrong = Repository::open(storage, b"Secret", None, random).await.unwrap_err();
    assert!(matches!(wrong, RepositoryError::WrongPassword { tried: 1, .. }));
    assert!(BlobIndex::load(&opened, &[], None).await.unwrap().is_empty());
}

fn sendable<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test]
async fn every_call_can_be_spawned() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let random = Arc::new(SeededRandom::new(1));
    let making = Repository::init_with_cost(storage.clone(), b"x", KeyOwner::default(), CHEAP, random.clone());
    let made = sendable(making).await.unwrap();
    sendable(Repository::open(storage, b"x", None, random)).await.unwrap();
    sendable(made.load_snapshots()).await.unwrap();
    let index = sendable(BlobIndex::load(&made, &[], None)).await.unwrap();
    sendable(made.read_blob(&index, BlobType::Data, &Id::of(b""))).await.unwrap_err();
    assert!(sendable(made.open_tree(&index, &Id::of(b""))).await.is_err());
    sendable(made.put_private("a/b", b"x")).await.unwrap();
    sendable(made.get_private("a/b")).await.unwrap();
    sendable(made.read_pack_header(&Id::of(b""), 1000, 100)).await.unwrap_err();
    sendable(made.save_file(FileKind::Index, b"{}")).await.unwrap();
}
