//! Tests of [`super::Faulty`].

use super::*;
use crate::storage::test_handles::{JumpingClock, SeededRandom};
use crate::storage::{Memory, contract};

fn scripted(faults: impl IntoIterator<Item = Fault, IntoIter: Send + 'static>) -> (Faulty, Memory) {
    let memory = Memory::new();
    (Faulty::scripted(Arc::new(memory.clone()), Arc::new(JumpingClock::default()), faults), memory)
}

#[tokio::test]
async fn keeps_the_contract_without_faults() {
    contract::run(|| Arc::new(scripted([]).0)).await;
}

#[tokio::test]
async fn a_put_has_four_outcomes() {
    for (fault, reported, happened) in [
        (Fault::None, Ok(()), true),
        (Fault::Refused(StorageErrorKind::Unavailable), Err(StorageErrorKind::Unavailable), false),
        (Fault::LostAnswer, Err(StorageErrorKind::Unknown), true),
        (Fault::LostRequest, Err(StorageErrorKind::Unknown), false),
    ] {
        let (storage, memory) = scripted([fault]);
        let result = storage.put("config", b"x".to_vec().into()).await;
        assert_eq!(result.map_err(|error| error.kind), reported, "{fault:?}");
        assert_eq!(memory.content().contains_key("config"), happened, "{fault:?}");
        let call = Call { number: 0, operation: Operation::Put, name: "config".into(), bytes: 1 };
        assert_eq!(storage.records(), [Record { call, fault, outcome: Some(reported) }]);
    }
}

#[tokio::test]
async fn a_delete_has_four_outcomes() {
    for (fault, reported, happened) in [
        (Fault::None, Ok(()), true),
        (Fault::Refused(StorageErrorKind::Denied), Err(StorageErrorKind::Denied), false),
        (Fault::LostAnswer, Err(StorageErrorKind::Unknown), true),
        (Fault::LostRequest, Err(StorageErrorKind::Unknown), false),
    ] {
        let (storage, memory) = scripted([fault]);
        memory.tamper("config", Some(Bytes::new()));
        assert_eq!(storage.delete("config").await.map_err(|error| error.kind), reported, "{fault:?}");
        assert_eq!(!memory.content().contains_key("config"), happened, "{fault:?}");
    }
}

#[tokio::test]
async fn every_call_is_recorded_and_can_fail() {
    let refused = Fault::Refused(StorageErrorKind::Unavailable);
    let (storage, _) = scripted([refused; 6]);
    assert!(storage.create().await.is_err());
    assert!(storage.put("a", vec![1, 2].into()).await.is_err());
    assert!(storage.get("a", Some(3..10)).await.is_err());
    assert!(storage.size("a").await.is_err());
    assert!(storage.list("a/", None).await.is_err());
    assert!(storage.delete("a").await.is_err());
    let calls: Vec<_> =
        storage.records().into_iter().map(|record| (record.call.operation, record.call.bytes)).collect();
    let expected = [
        (Operation::Create, 0),
        (Operation::Put, 2),
        (Operation::Get, 7),
        (Operation::Size, 0),
        (Operation::List, 0),
        (Operation::Delete, 0),
    ];
    assert_eq!(calls, expected);
    assert!(storage.records().iter().all(|record| record.outcome == Some(Err(StorageErrorKind::Unavailable))));
}

#[tokio::test]
async fn a_late_put_happens_after_it_was_given_up() {
    let (storage, memory) = scripted([Fault::Late(Duration::from_secs(5))]);
    let error = storage.put("config", b"late".to_vec().into()).await.unwrap_err();
    assert_eq!((error.kind, memory.content().len()), (StorageErrorKind::Unknown, 0));
    while memory.content().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(memory.content()["config"], "late");
}

#[tokio::test]
async fn slow_calls_take_time_and_work() {
    let clock = Arc::new(JumpingClock::default());
    let delay = Duration::from_secs(7);
    let storage = Faulty::scripted(Arc::new(Memory::new()), clock.clone(), [Fault::Slow(delay)]);
    storage.put("config", vec![].into()).await.unwrap();
    assert_eq!(clock.sleeps(), [delay]);
}

#[test]
fn a_seed_gives_the_same_faults_again_at_the_stated_rates() {
    let rates = FaultRates {
        refused: 100,
        lost_answer: 50,
        lost_request: 50,
        slow: 200,
        late: 0,
        delay_max: Duration::from_secs(1),
    };
    let draw = |seed| {
        let random = SeededRandom::new(seed);
        (0..10_000).map(|_| rates.draw(&random)).collect::<Vec<_>>()
    };
    let faults = draw(1);
    assert_eq!(faults, draw(1));
    assert_ne!(faults, draw(2));
    let share = |wanted: fn(&Fault) -> bool| faults.iter().filter(|fault| wanted(fault)).count();
    assert!((900..1_100).contains(&share(|fault| matches!(fault, Fault::Refused(_)))));
    assert!((400..600).contains(&share(|fault| matches!(fault, Fault::LostAnswer))));
    assert!((400..600).contains(&share(|fault| matches!(fault, Fault::LostRequest))));
    assert!((1_800..2_200).contains(&share(|fault| matches!(fault, Fault::Slow(_)))));
    assert_eq!(share(|fault| matches!(fault, Fault::Late(_))), 0);
}

#[tokio::test]
async fn the_plan_can_look_at_the_call_and_be_replaced() {
    let storage = Faulty::new(Arc::new(Memory::new()), Arc::new(JumpingClock::default()), |call| {
        if call.name.starts_with("locks/") { Fault::Refused(StorageErrorKind::Denied) } else { Fault::None }
    });
    assert!(storage.put("keys/a", vec![].into()).await.is_ok());
    assert!(storage.put("locks/a", vec![].into()).await.is_err());
    storage.replace_plan(|_| Fault::None);
    assert!(storage.put("locks/a", vec![].into()).await.is_ok());
}
