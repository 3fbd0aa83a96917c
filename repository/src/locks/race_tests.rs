//! Many takers, keepers and unlockers over a consistent storage that is slow and loses messages: two
//! holders whose locks conflict are never seen at the same time.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use proptest::prelude::*;
use proto::handles::{Clock, Random, RandomExt};

use super::error::LockError;
use super::take::Taker;
use super::test_clock::VirtualClock;
use super::test_site::{MINUTE, Site, request};
use super::unlock::remove_stale;
use crate::storage::faulty::{FaultRates, Faulty};
use crate::storage::{Body, Operation, Page, Storage, StorageError, StorageErrorKind};
use crate::test_random::SeededRandom;

/// Lets time pass before and after each call, so that an answer is old when it arrives; now and then
/// nothing gets through for a while.
#[derive(Clone)]
struct Distant {
    inner: Arc<dyn Storage>,
    clock: VirtualClock,
    random: Arc<dyn Random>,
    delay_max_millis: u64,
    /// How many minutes of each hour nothing gets through.
    outage_minutes: u32,
}

impl Distant {
    async fn travel(&self) {
        self.clock.sleep(Duration::from_millis(self.random.below(self.delay_max_millis))).await;
    }

    async fn round_trip<T>(
        &self,
        operation: Operation,
        name: &str,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        self.travel().await;
        let minute = self.clock.monotonic().as_secs() / 60 % 60;
        if minute >= 60 - u64::from(self.outage_minutes) {
            return Err(StorageError::new(operation, name, self.location(), StorageErrorKind::Unavailable.into()));
        }
        let result = call.await;
        self.travel().await;
        result
    }
}

impl std::fmt::Debug for Distant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Distant").field(&self.inner).finish()
    }
}

#[async_trait]
impl Storage for Distant {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        self.round_trip(Operation::Put, name, self.inner.put(name, body)).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        self.round_trip(Operation::Get, name, self.inner.get(name, range)).await
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.round_trip(Operation::Size, name, self.inner.size(name)).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.round_trip(Operation::List, prefix, self.inner.list(prefix, from)).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.round_trip(Operation::Delete, name, self.inner.delete(name)).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.round_trip(Operation::Create, "", self.inner.create()).await
    }
}

/// Who holds what, as the holders themselves believe.
#[derive(Default)]
struct Auditor {
    shared: usize,
    exclusive: usize,
    taken: usize,
    lost: usize,
    refused: usize,
}

impl Auditor {
    fn enter(&mut self, exclusive: bool) {
        self.taken += 1;
        *(if exclusive { &mut self.exclusive } else { &mut self.shared }) += 1;
        assert!(
            self.exclusive == 0 || self.exclusive + self.shared == 1,
            "{} exclusive and {} shared locks are held at the same time",
            self.exclusive,
            self.shared
        );
    }

    fn leave(&mut self, exclusive: bool) {
        *(if exclusive { &mut self.exclusive } else { &mut self.shared }) -= 1;
    }
}

/// How hard it gets.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Each kind of fault, in parts of 1,000 calls.
    faults: u16,
    delay_max_millis: u64,
    outage_minutes: u32,
    hold_max: Duration,
}

struct Race {
    site: Site,
    storage: Arc<dyn Storage>,
    random: Arc<dyn Random>,
    auditor: Mutex<Auditor>,
    hold_max: Duration,
}

impl Race {
    fn new(seed: u64, weather: Weather) -> Self {
        let Weather { faults, delay_max_millis, outage_minutes, hold_max } = weather;
        let site = Site::with_seed(seed);
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed));
        let clock = site.clock.clone();
        let delay_max = Duration::from_secs(20);
        let (refused, lost_answer, lost_request, slow, late) = (faults, faults, faults, faults, faults);
        let rates = FaultRates { refused, lost_answer, lost_request, slow, late, delay_max };
        let faulty = Faulty::seeded(Arc::new(site.memory.clone()), Arc::new(clock.clone()), random.clone(), rates);
        let inner = Arc::new(faulty);
        let storage = Arc::new(Distant { inner, clock, random: random.clone(), delay_max_millis, outage_minutes });
        Self { site, storage, random, auditor: Mutex::default(), hold_max }
    }

    fn below(&self, bound: Duration) -> Duration {
        Duration::from_millis(self.random.below(bound.as_millis() as u64))
    }

    /// Takes, keeps and releases again and again.
    async fn taker(&self, rounds: usize) {
        let clock = &self.site.clock;
        for _ in 0..rounds {
            clock.sleep(self.below(self.hold_max / 16)).await;
            let exclusive = self.random.below(4) > 0;
            let files = self.site.files_of(self.storage.clone());
            let taker = Taker::new(files, request(exclusive), Arc::new(clock.clone()));
            let retry_for = Duration::from_secs(30 * self.random.below(3));
            let lock = match taker.take(Some(retry_for)).await {
                Ok(lock) => lock,
                Err(LockError::Damaged { name, .. }) => panic!("{name} is damaged"),
                Err(_) => {
                    self.auditor.lock().unwrap().refused += 1;
                    continue;
                }
            };
            self.auditor.lock().unwrap().enter(exclusive);
            let is_lost = tokio::select! {
                biased;
                _ = lock.keep() => true,
                () = clock.sleep(self.below(self.hold_max)) => false,
            };
            self.auditor.lock().unwrap().leave(exclusive);
            self.auditor.lock().unwrap().lost += usize::from(is_lost);
            // What cannot be removed is left for the unlockers.
            let _ = lock.release().await;
        }
    }

    /// Removes stale locks now and then, as `unlock` does.
    async fn unlocker(&self) {
        let files = self.site.files_of(self.storage.clone());
        loop {
            self.site.clock.sleep(self.below(10 * MINUTE)).await;
            let _ = remove_stale(&files, self.site.clock.now(), "", |_| true).await;
        }
    }

    async fn run(self, takers: usize, rounds: usize) -> Auditor {
        let all = join_all((0..takers).map(|_| self.taker(rounds)));
        let work = async {
            tokio::select! { _ = all => (), () = self.unlocker() => () }
        };
        self.site.clock.drive(work).await;
        self.auditor.into_inner().unwrap()
    }
}

fn race(seed: u64, weather: Weather, rounds: usize) -> Auditor {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Race::new(seed, weather).run(3, rounds))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn conflicting_locks_are_never_held_together(
        seed in any::<u64>(),
        faults in prop_oneof![Just(0u16), 1u16..60, 60u16..150],
        delay_max_millis in prop_oneof![1u64..20, 100u64..1_000, 1_000u64..30_000],
        outage_minutes in prop_oneof![Just(0u32), 1u32..30],
        hold_max_minutes in prop_oneof![Just(1u32), Just(60)],
    ) {
        race(seed, Weather { faults, delay_max_millis, outage_minutes, hold_max: hold_max_minutes * MINUTE }, 8);
    }
}

#[test]
fn the_races_are_worth_running() {
    let crowd = Weather { faults: 20, delay_max_millis: 300, outage_minutes: 0, hold_max: MINUTE };
    let seen: Vec<_> = (0..8).map(|seed| race(seed, crowd, 40)).collect();
    let (taken, refused) = (seen.iter().map(|s| s.taken).sum::<usize>(), seen.iter().map(|s| s.refused).sum::<usize>());
    assert!(taken > 10 && refused > 10, "{taken} taken, {refused} refused");
    // Locks get lost, and the unlocker makes room.
    let storm = Weather { faults: 20, delay_max_millis: 2_000, outage_minutes: 25, hold_max: 120 * MINUTE };
    let seen: Vec<_> = (0..8).map(|seed| race(seed, storm, 40)).collect();
    let (taken, lost) = (seen.iter().map(|s| s.taken).sum::<usize>(), seen.iter().map(|s| s.lost).sum::<usize>());
    assert!(taken > 10 && lost > 3, "{taken} taken, {lost} lost");
}
