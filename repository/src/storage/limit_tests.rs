//! Tests of [`super::Limit`].

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::storage::test_handles::JumpingClock;
use crate::storage::{Memory, contract};

fn limits(requests_at_once: usize, bytes_per_second: Option<u64>) -> Limits {
    let rate = bytes_per_second.and_then(NonZeroU64::new);
    Limits {
        requests_at_once: NonZeroUsize::new(requests_at_once).unwrap(),
        upload_bytes_per_second: rate,
        download_bytes_per_second: rate,
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    let memory = || Arc::new(Memory::new());
    contract::run(|| Arc::new(Limit::new(memory(), Limits::default(), Arc::new(JumpingClock::default())))).await;
    contract::run(|| Arc::new(Limit::new(memory(), limits(1, Some(1 << 20)), Arc::new(JumpingClock::default())))).await;
}

/// Stays in `size` for some turns of the executor and knows how many are in it.
#[derive(Debug, Default)]
struct Crowd {
    inside: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Storage for Crowd {
    fn location(&self) -> String {
        "crowd".to_owned()
    }

    async fn put(&self, _: &str, _: Body) -> Result<(), StorageError> {
        unreachable!("not called")
    }

    async fn get(&self, _: &str, _: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        unreachable!("not called")
    }

    async fn size(&self, _: &str) -> Result<u64, StorageError> {
        self.most.fetch_max(self.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(0)
    }

    async fn list(&self, _: &str, _: Option<&str>) -> Result<Page, StorageError> {
        unreachable!("not called")
    }

    async fn delete(&self, _: &str) -> Result<(), StorageError> {
        unreachable!("not called")
    }

    async fn create(&self) -> Result<(), StorageError> {
        unreachable!("not called")
    }
}

#[tokio::test]
async fn as_many_at_once_as_allowed_and_no_more() {
    for allowed in [1, 3] {
        let crowd = Arc::new(Crowd::default());
        let storage = Limit::new(crowd.clone(), limits(allowed, None), Arc::new(JumpingClock::default()));
        let results = futures::future::join_all((0..10).map(|_| storage.size("config"))).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(crowd.most.load(Ordering::SeqCst), allowed);
    }
}

#[tokio::test]
async fn a_dropped_request_gives_its_place_back() {
    let storage = Limit::new(Arc::new(Crowd::default()), limits(1, None), Arc::new(JumpingClock::default()));
    {
        let mut first = std::pin::pin!(storage.size("config"));
        assert!(futures::poll!(&mut first).is_pending());
    }
    storage.size("config").await.unwrap();
}

/// A request that was begun and is not polled any more is what a loop has that waits for something else.
#[tokio::test]
async fn a_request_that_nobody_polls_keeps_nobody_waiting() {
    let storage = Limit::new(Arc::new(Crowd::default()), limits(1, None), Arc::new(JumpingClock::default()));
    let mut first = std::pin::pin!(storage.size("config"));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = std::pin::pin!(storage.size("config"));
    assert!(futures::poll!(&mut second).is_pending());
    storage.size("config").await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
}

#[tokio::test]
async fn bytes_are_spread_over_time() {
    let clock = Arc::new(JumpingClock::default());
    let storage = Limit::new(Arc::new(Memory::new()), limits(5, Some(100)), clock.clone());
    for name in ["a", "b", "c"] {
        storage.put(name, vec![0; 250].into()).await.unwrap();
    }
    // The first is free, each other one waits for the one before.
    assert_eq!(clock.sleeps(), [Duration::from_millis(2_500); 2]);
    // Downloads have a limit of their own; a whole object is paid for afterwards.
    storage.get("a", None).await.unwrap();
    storage.get("a", Some(0..50)).await.unwrap();
    storage.get("a", Some(0..50)).await.unwrap();
    assert_eq!(clock.sleeps()[2..], [Duration::from_millis(2_500), Duration::from_millis(500)]);
}

#[tokio::test]
async fn what_is_not_used_is_not_saved_up() {
    let clock = Arc::new(JumpingClock::default());
    let storage = Limit::new(Arc::new(Memory::new()), limits(5, Some(100)), clock.clone());
    storage.put("a", vec![0; 100].into()).await.unwrap();
    clock.sleep(Duration::from_secs(3600)).await;
    storage.put("b", vec![0; 100].into()).await.unwrap();
    storage.put("c", vec![0; 100].into()).await.unwrap();
    assert_eq!(clock.sleeps()[1..], [Duration::from_secs(1)]);
}
