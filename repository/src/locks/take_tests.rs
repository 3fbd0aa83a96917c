//! Tests of `take`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join;
use proto::handles::Clock;
use proto::id::Id;

use super::error::{HoldError, LockDamage, LockError, Lost};
use super::files::LockFiles;
use super::take::Taker;
use super::test_site::{MINUTE, Site, of_job, request, restic_lock};
use super::{
    Conflict, RepositoryLock, SETTLE_TIME, fleet_hostname, list_locks, process_is_alive, remove_all_locks,
    remove_ended_locks, remove_stale_locks,
};
use crate::format::key::{KeyOwner, ScryptParameters};
use crate::repository::Repository;
use crate::storage::faulty::Fault;
use crate::storage::{Operation, Storage, StorageErrorKind};
use crate::test_random::SeededRandom;

fn conflict(taken: Result<RepositoryLock, LockError>) -> Conflict {
    match taken {
        Err(LockError::Locked(conflict)) => *conflict,
        other => panic!("no conflict: {other:?}"),
    }
}

#[tokio::test]
async fn a_lock_says_who_holds_it_and_goes_away_with_its_release() {
    let site = Site::new();
    let lock = site.take(of_job(true, "0190-a")).await.unwrap();
    let stored = site.locks();
    assert_eq!(stored.len(), 1);
    let (id, content) = &stored[0];
    assert_eq!(*id, lock.id());
    assert_eq!((content.pid, content.uid, content.gid, content.exclusive), (4711, 0, 100, true));
    assert_eq!(content.username, "keeper");
    assert_eq!(content.longshore_job.as_deref(), Some("0190-a"));
    assert_eq!(content.hostname, format!("longshore.{}", &Id::of(b"repository").to_string()[..8]));
    assert_eq!(site.clock.monotonic(), SETTLE_TIME);
    lock.release().await.unwrap();
    assert!(site.ids().is_empty());
    assert!(matches!(lock.still_there().await, Err(HoldError::Lost(Lost::Released))));
    assert!(matches!(lock.refresh().await, Err(HoldError::Lost(Lost::Released))));
}

#[tokio::test]
async fn shared_locks_suffer_each_other_and_nothing_else_does() {
    let site = Site::new();
    let first = site.take(request(false)).await.unwrap();
    let second = site.take(request(false)).await.unwrap();
    assert_eq!(site.ids().len(), 2);
    let refused = conflict(site.take(request(true)).await);
    assert!(!refused.exclusive);
    first.release().await.unwrap();
    second.release().await.unwrap();
    let lock = site.take(request(true)).await.unwrap();
    for exclusive in [false, true] {
        let refused = conflict(site.take(request(exclusive)).await);
        assert_eq!(refused.id, lock.id());
        assert!(refused.exclusive);
    }
    assert_eq!(site.ids(), [lock.id()]);
}

#[tokio::test]
async fn a_lock_of_restic_is_honoured_and_described() {
    let site = Site::new();
    let id = site.plant(&restic_lock(true, 12, &site.clock));
    let refused = conflict(site.take(of_job(false, "j")).await);
    let (hostname, username) = ("harbour".to_owned(), "root".to_owned());
    let since = site.clock.now();
    let expected = Conflict { id, hostname, username, pid: 12, since, exclusive: true, job: None, stale: false };
    assert_eq!(refused, expected);
    assert_eq!(
        refused.to_string(),
        format!(
            "the repository is locked exclusively by process 12 on harbour since 2023-11-14T22:13:20Z (lock {})",
            id.short()
        )
    );
    assert_eq!(site.calls(Operation::Put), 0);

    // Old: it blocks all the same, and the error says what helps.
    site.clock.stop_process(31 * MINUTE);
    let refused = conflict(site.take(of_job(false, "j")).await);
    assert!(refused.stale && refused.to_string().contains("`restic unlock`"), "{refused}");
    // A process that has ended on this host; on another host nobody can tell.
    let site = Site::new();
    site.plant(&restic_lock(true, 12, &site.clock));
    for (hostname, stale) in [("harbour", true), ("pier", false)] {
        let asking = super::LockRequest { hostname: hostname.to_owned(), is_alive: |pid| pid != 12, ..request(true) };
        assert_eq!(conflict(site.take(asking).await).stale, stale);
    }
}

#[tokio::test]
async fn an_empty_file_and_a_stray_name_block_nobody() {
    let site = Site::new();
    site.memory.tamper(&LockFiles::name(&Id::of(b"x")), Some(Bytes::new()));
    site.memory.tamper("locks/tmp-7", Some(Bytes::from_static(b"x")));
    site.take(request(true)).await.unwrap();
    assert_eq!(site.calls(Operation::Get), 0);
}

#[tokio::test]
async fn a_damaged_lock_blocks_after_four_tries_and_is_named() {
    let site = Site::new();
    let name = LockFiles::name(&Id::of(b"x"));
    site.memory.tamper(&name, Some(Bytes::from_static(b"garbage")));
    match site.take(request(false)).await {
        Err(LockError::Damaged { name: named, source }) => {
            assert_eq!(named, name);
            assert!(matches!(source.damage, LockDamage::WrongName { .. }));
            assert_eq!(source.stored_bytes, 7);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(site.clock.monotonic(), Duration::from_secs(5 + 10 + 20));
    assert_eq!(site.calls(Operation::Get), 4);
    assert_eq!(site.calls(Operation::Put), 0);
}

#[tokio::test]
async fn sealed_nonsense_and_giants_are_damaged() {
    let site = Site::new();
    let id = site.plant("{\"time\":1}");
    let taken = site.take(request(false)).await;
    assert!(
        matches!(&taken, Err(LockError::Damaged { source, .. }) if matches!(source.damage, LockDamage::Content(_)))
    );
    site.remove(&id);
    site.memory.tamper(&LockFiles::name(&id), Some(vec![0; 2 << 20].into()));
    let gets = site.calls(Operation::Get);
    let taken = site.take(request(false)).await;
    assert!(matches!(&taken, Err(LockError::Damaged { source, .. }) if matches!(source.damage, LockDamage::TooLong)));
    assert_eq!(site.calls(Operation::Get), gets);
}

#[tokio::test]
async fn a_lock_that_can_be_read_in_the_end_is_judged_then() {
    for (exclusive, is_taken) in [(false, true), (true, false)] {
        let site = Site::new();
        let id = site.plant(&restic_lock(exclusive, 1, &site.clock));
        site.on(Operation::Get, |made, _| match made {
            0..=2 => Fault::Refused(StorageErrorKind::Denied),
            _ => Fault::None,
        });
        let taken = site.take(request(false)).await;
        assert_eq!(taken.is_ok(), is_taken, "{taken:?}");
        assert!(site.ids().contains(&id));
    }
    let site = Site::new();
    site.plant(&restic_lock(false, 1, &site.clock));
    site.on(Operation::Get, |_, _| Fault::Refused(StorageErrorKind::Denied));
    let taken = site.take(request(false)).await;
    assert!(matches!(&taken, Err(LockError::Storage(error)) if error.kind == StorageErrorKind::Denied), "{taken:?}");
}

#[tokio::test]
async fn a_lock_that_is_refreshed_between_listing_and_reading_is_not_missed() {
    let site = Site::new();
    let old = site.plant(&restic_lock(true, 1, &site.clock));
    let (new, sealed) = site.foreign(&restic_lock(true, 2, &site.clock));
    let memory = site.memory.clone();
    site.on(Operation::Get, move |made, _| {
        if made == 0 {
            memory.tamper(&LockFiles::name(&new), Some(sealed.clone()));
            memory.tamper(&LockFiles::name(&old), None);
        }
        Fault::None
    });
    assert_eq!(conflict(site.take(request(false)).await).id, new);
    assert_eq!(site.clock.monotonic(), Duration::ZERO);
}

#[tokio::test]
async fn a_conflict_at_the_second_look_takes_the_own_lock_away() {
    let site = Site::new();
    let (foreign, sealed) = site.foreign(&restic_lock(true, 1, &site.clock));
    let memory = site.memory.clone();
    site.on(Operation::Put, move |_, _| {
        memory.tamper(&LockFiles::name(&foreign), Some(sealed.clone()));
        Fault::None
    });
    assert_eq!(conflict(site.take(request(false)).await).id, foreign);
    assert_eq!(site.ids(), [foreign]);
}

#[tokio::test]
async fn an_own_lock_that_somebody_removes_at_once_is_not_taken() {
    let site = Site::new();
    let memory = site.memory.clone();
    site.on(Operation::List, move |made, _| {
        if made == 1 {
            memory.content().keys().for_each(|name| memory.tamper(name, None));
        }
        Fault::None
    });
    let taken = site.take(request(false)).await;
    assert!(matches!(taken, Err(LockError::Removed { .. })), "{taken:?}");
}

#[tokio::test]
async fn a_put_of_open_outcome_counts_if_the_file_is_seen() {
    let site = Site::new();
    site.on(Operation::Put, |_, _| Fault::LostAnswer);
    let lock = site.take(request(true)).await.unwrap();
    assert_eq!(site.ids(), [lock.id()]);

    for kind in [StorageErrorKind::Unavailable, StorageErrorKind::Denied] {
        let site = Site::new();
        site.on(Operation::Put, move |_, _| Fault::Refused(kind));
        let taken = site.take(request(true)).await;
        assert!(matches!(&taken, Err(LockError::Storage(error)) if error.kind == kind), "{taken:?}");
    }

    let site = Site::new();
    site.on(Operation::Put, |_, _| Fault::LostRequest);
    let taken = site.take(request(true)).await;
    assert!(matches!(&taken, Err(LockError::Storage(error)) if error.kind == StorageErrorKind::Unknown), "{taken:?}");
    assert!(site.ids().is_empty());
}

#[tokio::test]
async fn a_lock_that_appears_too_late_blocks_and_can_be_unlocked() {
    let site = Site::new();
    site.on(Operation::Put, |_, _| Fault::Late(MINUTE));
    assert!(site.take(request(true)).await.is_err());
    site.clock.drive(site.clock.sleep(2 * MINUTE)).await;
    assert_eq!(conflict(site.take(request(true)).await).pid, 4711);
    site.clock.stop_process(29 * MINUTE);
    let removed = super::unlock::remove_stale(&site.files(), site.clock.now(), "", |_| true).await.unwrap();
    assert_eq!(removed.len(), 1);
    assert!(site.ids().is_empty());
}

#[tokio::test]
async fn waiting_ends_when_the_lock_is_free_or_the_time_is_over() {
    let site = Site::new();
    let held = site.take(request(true)).await.unwrap();
    let start = site.clock.monotonic();
    let taker = Taker::new(site.files(), request(true), Arc::new(site.clock.clone()));
    let release = async {
        site.clock.sleep(Duration::from_secs(30)).await;
        held.release().await.unwrap();
    };
    let (taken, ()) = site.clock.drive(join(taker.take(Some(10 * MINUTE)), release)).await;
    let lock = taken.unwrap();
    let waited = site.clock.monotonic() - start;
    // Attempts at 0, 5, 15, 35 s, each pause up to a quarter shorter.
    assert!((30..=36).contains(&waited.as_secs()), "{waited:?}");

    let start = site.clock.monotonic();
    let refused = conflict(site.take_within(request(true), Some(2 * MINUTE)).await);
    assert_eq!(refused.id, lock.id());
    assert_eq!(site.clock.monotonic() - start, 2 * MINUTE);
    let lists = site.calls(Operation::List);
    conflict(site.take_within(request(true), None).await);
    assert_eq!(site.calls(Operation::List) - lists, 1);
}

#[tokio::test]
async fn an_own_file_that_could_not_be_removed_does_not_block_the_next_attempt() {
    let site = Site::new();
    let (foreign, sealed) = site.foreign(&restic_lock(true, 1, &site.clock));
    let memory = site.memory.clone();
    // The foreign lock appears with the first put and is gone 3 s later; deletes fail once.
    let mut deletes = 0;
    let clock = site.clock.clone();
    site.faulty.replace_plan(move |call| match call.operation {
        Operation::Put if clock.monotonic() < Duration::from_secs(1) => {
            memory.tamper(&LockFiles::name(&foreign), Some(sealed.clone()));
            Fault::None
        }
        Operation::Delete => {
            deletes += 1;
            memory.tamper(&LockFiles::name(&foreign), None);
            if deletes == 1 { Fault::LostRequest } else { Fault::None }
        }
        _ => Fault::None,
    });
    let lock = site.take_within(request(true), Some(MINUTE)).await.unwrap();
    assert_eq!(site.ids().len(), 2);
    lock.refresh().await.unwrap();
    assert_eq!(site.ids(), [lock.id()]);
    lock.release().await.unwrap();
    assert!(site.ids().is_empty());
}

#[tokio::test]
async fn of_two_who_race_for_an_exclusive_lock_at_most_one_wins() {
    let mut won = [0; 3];
    for offset in (0..600).step_by(25) {
        let site = Site::new();
        let site = &site;
        let racer = |delay: u64| async move {
            site.clock.sleep(Duration::from_millis(delay)).await;
            Taker::new(site.files(), request(true), Arc::new(site.clock.clone())).take(None).await.ok()
        };
        let (first, second) = site.clock.drive(join(racer(0), racer(offset))).await;
        let winners = usize::from(first.is_some()) + usize::from(second.is_some());
        won[winners] += 1;
        assert_eq!(site.ids().len(), winners, "a loser left its lock behind");
    }
    assert_eq!(won[2], 0);
    assert!(won[1] > 0);
}

#[tokio::test]
async fn two_who_lost_to_each_other_do_not_meet_for_ever() {
    let site = Site::new();
    let start = Arc::new(Mutex::new(0));
    // Every first put happens with the other's: both are listed before either has looked again.
    let racer = || async {
        let taker = Taker::new(site.files(), request(true), Arc::new(site.clock.clone()));
        let lock = taker.take(Some(10 * MINUTE)).await.unwrap();
        *start.lock().unwrap() += 1;
        site.clock.sleep(Duration::from_secs(1)).await;
        lock.release().await.unwrap();
    };
    site.clock.drive(join(racer(), racer())).await;
    assert_eq!(*start.lock().unwrap(), 2);
}

#[tokio::test]
async fn locks_through_the_whole_storage_stack_survive_lost_answers() {
    use crate::storage::{Options, stack};
    let site = Site::new();
    let options = Options::new(Arc::new(site.clock.clone()), Arc::new(SeededRandom::new(3)));
    let storage: Arc<dyn Storage> = stack(site.faulty.clone(), options);
    site.faulty.replace_plan(|call| match call.number % 3 {
        0 => Fault::LostAnswer,
        1 => Fault::LostRequest,
        _ => Fault::None,
    });
    let taker = Taker::new(site.files_of(storage), request(true), Arc::new(site.clock.clone()));
    let lock = site.clock.drive(taker.take(None)).await.unwrap();
    site.clock.drive(lock.refresh()).await.unwrap();
    assert_eq!(site.ids(), [lock.id()]);
    site.clock.drive(lock.release()).await.unwrap();
    assert!(site.ids().is_empty());
}

fn sendable<F: Future + Send>(work: F) -> F {
    work
}

#[tokio::test]
async fn every_call_works_on_a_repository_and_can_be_spawned() {
    let clock = super::test_clock::VirtualClock::default();
    let handle: Arc<dyn Clock> = Arc::new(clock.clone());
    let random = Arc::new(SeededRandom::new(1));
    let cheap = ScryptParameters { n: 2, r: 1, p: 1 };
    let storage: Arc<dyn Storage> = Arc::new(crate::storage::Memory::new());
    let made = Repository::init_with_cost(storage, b"x", KeyOwner::default(), cheap, random).await.unwrap();
    let taking = sendable(RepositoryLock::take(&made, of_job(false, "a"), handle.clone(), None));
    let first = clock.drive(taking).await.unwrap();
    let lock = sendable(RepositoryLock::take_over(&made, of_job(false, "a"), handle, &[first.id()])).await.unwrap();
    sendable(lock.still_there()).await.unwrap();
    sendable(lock.refresh()).await.unwrap();
    drop(sendable(lock.keep()));
    let now = clock.now();
    assert_eq!(sendable(list_locks(&made, now, "", |_| true)).await.unwrap().len(), 1);
    assert!(sendable(remove_stale_locks(&made, now, "", |_| true)).await.unwrap().is_empty());
    assert_eq!(sendable(remove_ended_locks(&made, |_| async { true })).await.unwrap(), [lock.id()]);
    assert!(sendable(remove_all_locks(&made)).await.unwrap().is_empty());
    sendable(lock.release()).await.unwrap();
}

#[test]
fn a_fleet_has_a_name_that_no_host_has() {
    assert_eq!(fleet_hostname(&Id::from_bytes([0xab; 32])), "longshore.abababab");
}

#[test]
fn processes_are_asked_for() {
    assert!(process_is_alive(i64::from(std::process::id())));
    assert!(process_is_alive(1));
    for nobody in [0, -1, i64::from(i32::MAX), i64::MAX] {
        assert!(!process_is_alive(nobody), "{nobody}");
    }
}
