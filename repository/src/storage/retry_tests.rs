//! Tests of [`super::Retry`].

use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use super::*;
use crate::storage::faulty::{Fault, FaultRates, Faulty};
use crate::storage::test_handles::{JumpingClock, SeededRandom};
use crate::storage::{Memory, contract};

struct Stage {
    memory: Memory,
    faulty: Arc<Faulty>,
    clock: Arc<JumpingClock>,
    storage: Retry,
}

fn stage(faults: impl IntoIterator<Item = Fault, IntoIter: Send + 'static>) -> Stage {
    let memory = Memory::new();
    let clock = Arc::new(JumpingClock::default());
    let faulty = Arc::new(Faulty::scripted(Arc::new(memory.clone()), clock.clone(), faults));
    let random = Arc::new(SeededRandom::new(1));
    let storage = Retry::new(faulty.clone(), Backoff::default(), clock.clone(), random, Arc::default());
    Stage { memory, faulty, clock, storage }
}

impl Stage {
    fn operations(&self) -> Vec<Operation> {
        self.faulty.records().into_iter().map(|record| record.call.operation).collect()
    }
}

const AWAY: Fault = Fault::Refused(StorageErrorKind::Unavailable);

#[tokio::test]
async fn keeps_the_contract() {
    contract::run(|| Arc::new(stage([]).storage)).await;
}

/// The whole contract, exactly one winner included, although a quarter of all requests fail.
#[tokio::test]
async fn keeps_the_contract_over_a_bad_network() {
    let rates =
        FaultRates { refused: 100, lost_answer: 80, lost_request: 80, slow: 0, late: 0, delay_max: Duration::ZERO };
    for seed in 0..4 {
        let seeds = Mutex::new(seed * 1_000);
        contract::run_with_lost_answers(|| {
            let mut seed = seeds.lock().unwrap();
            *seed += 1;
            let clock = Arc::new(JumpingClock::default());
            let random = Arc::new(SeededRandom::new(*seed));
            let faulty = Faulty::seeded(Arc::new(Memory::new()), clock.clone(), random.clone(), rates);
            // The clock is shared by all racers, and jumps for each of them.
            let backoff = Backoff { give_up_after: Duration::MAX, ..Backoff::default() };
            Arc::new(Retry::new(Arc::new(faulty), backoff, clock, random, Arc::default()))
        })
        .await;
    }
}

#[tokio::test]
async fn an_own_write_whose_answer_was_lost_is_success() {
    let stage = stage([Fault::LostAnswer]);
    stage.storage.put("config", b"mine".to_vec().into()).await.unwrap();
    assert_eq!(stage.operations(), [Operation::Put, Operation::Put, Operation::Size, Operation::Get]);
}

#[tokio::test]
async fn a_put_whose_request_was_lost_is_made_again() {
    let stage = stage([Fault::LostRequest]);
    stage.storage.put("config", b"mine".to_vec().into()).await.unwrap();
    assert_eq!(stage.operations(), [Operation::Put; 2]);
    assert_eq!(stage.memory.content()["config"], "mine");
}

#[tokio::test]
async fn what_somebody_else_wrote_meanwhile_is_not_ours() {
    // The same length, another length.
    for theirs in ["them", "they were first"] {
        let stage = stage([Fault::LostRequest]);
        stage.memory.tamper("config", Some(theirs.into()));
        let error = stage.storage.put("config", b"mine".to_vec().into()).await.unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::AlreadyThere);
        assert_eq!(stage.memory.content()["config"], theirs);
    }
}

#[tokio::test]
async fn a_taken_name_is_not_read_back_unless_an_answer_was_lost() {
    for faults in [vec![], vec![AWAY]] {
        let tries = faults.len() + 1;
        let stage = stage(faults);
        stage.memory.tamper("config", Some("mine".into()));
        let error = stage.storage.put("config", b"mine".to_vec().into()).await.unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::AlreadyThere);
        assert_eq!(stage.operations(), vec![Operation::Put; tries]);
    }
}

#[tokio::test]
async fn long_objects_are_told_by_their_length() {
    let stage = stage([Fault::LostAnswer]);
    let body = vec![7; COMPARED_BYTES_MAX as usize + 1];
    stage.storage.put("data/00/long", body.into()).await.unwrap();
    assert_eq!(stage.operations(), [Operation::Put, Operation::Put, Operation::Size]);
}

#[tokio::test]
async fn reading_back_is_tried_again_too() {
    let stage = stage([Fault::LostAnswer, Fault::None, AWAY, Fault::None, Fault::LostAnswer]);
    stage.storage.put("config", b"mine".to_vec().into()).await.unwrap();
    use Operation::{Get, Put, Size};
    assert_eq!(stage.operations(), [Put, Put, Size, Size, Get, Get]);
}

#[tokio::test]
async fn an_own_write_that_was_deleted_meanwhile_is_an_open_outcome() {
    let stage = stage([]);
    let memory = stage.memory.clone();
    stage.faulty.replace_plan(move |call| match call.operation {
        Operation::Put if call.number == 0 => Fault::LostAnswer,
        Operation::Size => {
            memory.tamper("config", None);
            Fault::None
        }
        _ => Fault::None,
    });
    let error = stage.storage.put("config", b"mine".to_vec().into()).await.unwrap_err();
    assert_eq!((error.kind, error.action, error.name.as_str()), (StorageErrorKind::Unknown, "write", "config"));
}

#[tokio::test]
async fn an_outcome_stays_open_when_the_service_goes_away_for_good() {
    let stage = stage(std::iter::once(Fault::LostAnswer).chain(std::iter::repeat(AWAY)));
    let error = stage.storage.put("config", b"mine".to_vec().into()).await.unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Unknown);
}

#[tokio::test]
async fn every_operation_is_tried_again() {
    let stage = stage([]);
    stage.faulty.replace_plan(|call| if call.number % 2 == 0 { AWAY } else { Fault::None });
    stage.storage.create().await.unwrap();
    stage.storage.put("keys/a", b"abc".to_vec().into()).await.unwrap();
    assert_eq!(stage.storage.get("keys/a", Some(1..3)).await.unwrap(), "bc");
    assert_eq!(stage.storage.size("keys/a").await.unwrap(), 3);
    assert_eq!(stage.storage.list("keys/", None).await.unwrap().entries.len(), 1);
    stage.storage.delete("keys/a").await.unwrap();
    assert_eq!(stage.faulty.records().len(), 12);
    assert_eq!(stage.storage.counters.snapshot().retries, 6);
}

#[tokio::test]
async fn what_will_not_help_is_not_tried() {
    for kind in StorageErrorKind::ALL {
        let stage = stage([Fault::Refused(kind)]);
        let transient = matches!(kind, StorageErrorKind::Unavailable | StorageErrorKind::Unknown);
        assert_eq!(stage.storage.list("", None).await.is_ok(), transient, "{kind:?}");
        assert_eq!(stage.faulty.records().len(), 1 + usize::from(transient), "{kind:?}");
    }
}

#[tokio::test]
async fn waits_grow_with_jitter_and_end_in_time() {
    let stage = stage(std::iter::repeat(AWAY));
    let error = stage.storage.size("config").await.unwrap_err();
    assert_eq!((error.kind, error.name.as_str()), (StorageErrorKind::Unavailable, "config"));
    let waits = stage.clock.sleeps();
    let limits = Backoff::default();
    let mut bound = limits.first;
    for wait in &waits {
        assert!(*wait > Duration::ZERO && *wait <= bound + Duration::from_millis(1), "{wait:?} of {bound:?}");
        bound = (bound * 2).min(limits.longest);
    }
    let total: Duration = waits.iter().sum();
    assert!(total <= limits.give_up_after && total + limits.longest >= limits.give_up_after, "{total:?}");
    assert!(waits.iter().any(|wait| *wait > Duration::from_secs(15)), "{waits:?}");
    assert_eq!(stage.faulty.records().len(), waits.len() + 1);
}

#[tokio::test]
async fn time_that_the_tries_take_counts() {
    let stage = stage([]);
    let clock = stage.clock.clone();
    stage.faulty.replace_plan(move |_| {
        // A try that takes 10 minutes: the second begins in time, a third would not.
        clock.pass(Duration::from_secs(600));
        AWAY
    });
    stage.storage.size("config").await.unwrap_err();
    assert_eq!(stage.faulty.records().len(), 2);
}

#[tokio::test]
async fn who_never_answered_is_given_up_sooner() {
    let with = |faults: Vec<Fault>| {
        let Stage { memory, faulty, clock, .. } = stage(faults);
        let backoff = Backoff { first_answer_within: Duration::from_secs(30), ..Backoff::default() };
        let random = Arc::new(SeededRandom::new(1));
        let storage = Retry::new(faulty.clone(), backoff, clock.clone(), random, Arc::default());
        Stage { memory, faulty, clock, storage }
    };
    let never = with(vec![AWAY; 1_000]);
    never.storage.size("config").await.unwrap_err();
    assert!(never.clock.monotonic() <= Duration::from_secs(30), "{:?}", never.clock.sleeps());
    let once = with([vec![Fault::None], vec![AWAY; 1_000]].concat());
    once.storage.size("config").await.unwrap_err();
    once.storage.size("config").await.unwrap_err();
    assert!(once.clock.monotonic() > Duration::from_secs(600), "{:?}", once.clock.sleeps());
}

/// Asks for a wait with its first errors.
#[derive(Debug)]
struct Throttled {
    memory: Memory,
    left: AtomicU32,
    is_answer: bool,
}

#[async_trait]
impl Storage for Throttled {
    fn location(&self) -> String {
        self.memory.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        self.memory.put(name, body).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        self.memory.get(name, range).await
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        if self.left.load(Ordering::Relaxed) == 0 {
            return self.memory.size(name).await;
        }
        self.left.fetch_sub(1, Ordering::Relaxed);
        let (retry_after, is_answer) = (Some(Duration::from_secs(70)), self.is_answer);
        let failure = Failure { retry_after, is_answer, ..Failure::from(StorageErrorKind::Unavailable) };
        Err(StorageError::new(Operation::Size, name, self.location(), failure))
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.memory.list(prefix, from).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.memory.delete(name).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.memory.create().await
    }
}

#[tokio::test]
async fn a_wait_that_the_service_asks_for_is_kept() {
    let (memory, clock) = (Memory::new(), Arc::new(JumpingClock::default()));
    memory.put("config", b"x".to_vec().into()).await.unwrap();
    let throttled = Arc::new(Throttled { memory, left: AtomicU32::new(1), is_answer: true });
    let random = Arc::new(SeededRandom::new(1));
    let storage = Retry::new(throttled, Backoff::default(), clock.clone(), random, Arc::default());
    assert_eq!(storage.size("config").await.unwrap(), 1);
    assert_eq!(clock.sleeps(), [Duration::from_secs(70)]);
}

/// It is busy for longer than a storage that nobody has heard of is waited for.
#[tokio::test]
async fn a_storage_that_says_that_it_is_busy_is_there() {
    for (is_answer, is_waited_for) in [(true, true), (false, false)] {
        let (memory, clock) = (Memory::new(), Arc::new(JumpingClock::default()));
        memory.put("config", b"x".to_vec().into()).await.unwrap();
        let throttled = Arc::new(Throttled { memory, left: AtomicU32::new(3), is_answer });
        let backoff = Backoff { first_answer_within: Duration::from_secs(30), ..Backoff::default() };
        let random = Arc::new(SeededRandom::new(1));
        let storage = Retry::new(throttled, backoff, clock.clone(), random, Arc::default());
        assert_eq!(storage.size("config").await.is_ok(), is_waited_for, "{:?}", clock.sleeps());
    }
}
