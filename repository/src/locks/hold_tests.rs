//! Tests of `hold`.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use proto::handles::Clock;
use proto::id::Id;

use super::error::{HoldError, LockError, Lost};
use super::files::LockFiles;
use super::take_over::take_over;
use super::test_site::{MINUTE, Site, of_job, request, restic_lock};
use super::unlock::{self, LockContent};
use super::{LOST_AFTER, RepositoryLock, SIGHTING_VALID};
use crate::storage::faulty::Fault;
use crate::storage::{Operation, StorageErrorKind};

const SECOND: Duration = Duration::from_secs(1);

async fn held(site: &Site) -> RepositoryLock {
    site.take(of_job(false, "job")).await.unwrap()
}

fn assert_lost<T: std::fmt::Debug>(result: Result<T, HoldError>, reason: Lost) {
    assert!(matches!(&result, Err(HoldError::Lost(lost)) if *lost == reason), "{result:?}");
}

#[tokio::test]
async fn a_refresh_puts_a_younger_file_in_the_place_of_the_old_one() {
    let site = Site::new();
    let lock = held(&site).await;
    let old = site.locks();
    site.clock.stop_process(5 * MINUTE);
    lock.refresh().await.unwrap();
    let new = site.locks();
    assert_eq!(new.len(), 1);
    assert_eq!(new[0].0, lock.id());
    assert_ne!(new[0].0, old[0].0);
    assert_eq!(new[0].1.time.since(old[0].1.time), 5 * MINUTE + super::SETTLE_TIME);
    assert_eq!(new[0].1.longshore_job.as_deref(), Some("job"));
    assert_eq!(lock.lost(), None);
}

#[tokio::test]
async fn a_lock_removed_before_a_refresh_is_lost_and_not_taken_again() {
    let site = Site::new();
    let lock = held(&site).await;
    site.remove(&lock.id());
    assert_lost(lock.refresh().await, Lost::Removed);
    assert!(site.ids().is_empty());
    assert_lost(lock.still_there().await, Lost::Removed);
    assert_lost(lock.refresh().await, Lost::Removed);
    assert_eq!(site.clock.drive(lock.keep()).await, Lost::Removed);
    assert_eq!(site.calls(Operation::Put), 1);
}

#[tokio::test]
async fn a_lock_removed_while_a_refresh_writes_is_lost() {
    for fault in [Fault::None, Fault::LostAnswer, Fault::LostRequest] {
        let site = Site::new();
        let lock = held(&site).await;
        let (memory, old) = (site.memory.clone(), LockFiles::name(&lock.id()));
        site.on(Operation::Put, move |_, _| {
            memory.tamper(&old, None);
            fault
        });
        assert_lost(lock.refresh().await, Lost::Removed);
        assert!(site.ids().is_empty(), "the new file stayed");
    }
}

#[tokio::test]
async fn a_refresh_whose_new_file_is_not_there_leaves_the_lock_as_it_was() {
    let site = Site::new();
    let lock = held(&site).await;
    let old = lock.id();
    for kind in [StorageErrorKind::Unavailable, StorageErrorKind::Denied, StorageErrorKind::Full] {
        site.on(Operation::Put, move |_, _| Fault::Refused(kind));
        assert!(matches!(lock.refresh().await, Err(HoldError::Trouble(LockError::Storage(_)))));
    }
    site.on(Operation::Put, |_, _| Fault::LostRequest);
    assert!(matches!(lock.refresh().await, Err(HoldError::Trouble(LockError::Storage(_)))));
    // Somebody removed the new file only.
    let memory = site.memory.clone();
    site.on(Operation::List, move |made, _| {
        if made == 1 {
            let own = |name: &String| *name != LockFiles::name(&old);
            memory.content().keys().filter(|name| own(name)).for_each(|name| memory.tamper(name, None));
        }
        Fault::None
    });
    assert!(matches!(lock.refresh().await, Err(HoldError::Trouble(LockError::Removed { .. }))));
    assert_eq!(site.ids(), [old]);
    lock.still_there().await.unwrap();
    // Either look fails.
    for failing in 0..2 {
        site.on(Operation::List, move |made, _| if made == failing { Fault::LostRequest } else { Fault::None });
        assert!(matches!(lock.refresh().await, Err(HoldError::Trouble(_))));
        assert_eq!(lock.id(), old);
    }
    site.on(Operation::Put, |_, _| Fault::LostAnswer);
    lock.refresh().await.unwrap();
    assert_eq!(site.ids(), [lock.id()], "the file of the refresh that failed half-way stayed");
    assert_ne!(lock.id(), old);
}

#[tokio::test]
async fn a_new_file_that_appears_late_is_removed_by_the_next_refresh() {
    let site = Site::new();
    let lock = held(&site).await;
    site.on(Operation::Put, |_, _| Fault::Late(SECOND));
    assert!(lock.refresh().await.is_err());
    site.on(Operation::Put, |_, _| Fault::None);
    site.clock.drive(site.clock.sleep(2 * SECOND)).await;
    assert_eq!(site.ids().len(), 2);
    lock.refresh().await.unwrap();
    assert_eq!(site.ids(), [lock.id()]);
}

#[tokio::test]
async fn an_old_file_that_cannot_be_removed_goes_with_the_next_refresh() {
    let site = Site::new();
    let lock = held(&site).await;
    site.on(Operation::Delete, |made, _| if made == 0 { Fault::LostRequest } else { Fault::None });
    lock.refresh().await.unwrap();
    assert_eq!(site.ids().len(), 2);
    lock.refresh().await.unwrap();
    assert_eq!(site.ids(), [lock.id()]);
}

#[tokio::test]
async fn a_paused_holder_has_lost_its_lock_by_either_clock() {
    type Pause = fn(&Site, Duration);
    let pauses: [Pause; 2] =
        [|site, time| site.clock.stop_process(time), |site, time| site.clock.set_wall_forward(time)];
    for pause in pauses {
        for call in 0..3 {
            let site = Site::new();
            let lock = held(&site).await;
            pause(&site, LOST_AFTER - SECOND);
            lock.still_there().await.unwrap();
            lock.refresh().await.unwrap();
            pause(&site, LOST_AFTER);
            let lists = site.calls(Operation::List);
            let lost = match call {
                0 => lock.refresh().await,
                1 => lock.still_there().await.map(|_| ()),
                _ => Err(site.clock.drive(lock.keep()).await.into()),
            };
            assert_lost(lost, Lost::NotRefreshed { age: LOST_AFTER });
            assert_eq!(site.calls(Operation::List), lists);
            assert_eq!(site.ids(), [lock.id()], "who looks sees the old time");
            lock.release().await.unwrap();
            assert!(site.ids().is_empty());
        }
    }
}

#[tokio::test]
async fn a_pause_in_the_middle_of_a_refresh_counts() {
    for operation in [Operation::Put, Operation::List] {
        let site = Site::new();
        let lock = held(&site).await;
        let clock = site.clock.clone();
        site.on(operation, move |made, _| {
            if made == 0 {
                clock.set_wall_forward(LOST_AFTER);
            }
            Fault::None
        });
        assert!(matches!(lock.refresh().await, Err(HoldError::Lost(Lost::NotRefreshed { .. }))));
        assert_eq!(site.ids(), [lock.id()]);
    }
}

#[tokio::test]
async fn a_wall_clock_set_back_harms_nothing() {
    let site = Site::new();
    let lock = held(&site).await;
    site.clock.set_wall_back(60 * MINUTE);
    lock.still_there().await.unwrap();
    lock.refresh().await.unwrap();
    site.clock.stop_process(LOST_AFTER);
    assert_lost(lock.still_there().await, Lost::NotRefreshed { age: LOST_AFTER });
}

#[tokio::test]
async fn a_sighting_dates_from_before_the_listing() {
    let site = Site::new();
    let lock = held(&site).await;
    let start = site.clock.monotonic();
    site.on(Operation::List, |_, _| Fault::Slow(4 * SECOND));
    let seen = site.clock.drive(lock.still_there()).await.unwrap();
    assert_eq!(seen.monotonic, start);
    assert_eq!(seen.age(&site.clock), 4 * SECOND);
    site.clock.stop_process(SIGHTING_VALID - 4 * SECOND);
    assert!(seen.is_recent(&site.clock));
    site.clock.set_wall_forward(SECOND);
    assert!(!seen.is_recent(&site.clock));

    site.on(Operation::List, |_, _| Fault::LostRequest);
    assert!(matches!(lock.still_there().await, Err(HoldError::Trouble(_))));
    assert_eq!(lock.lost(), None);
    site.remove(&lock.id());
    site.on(Operation::List, |_, _| Fault::None);
    assert_lost(lock.still_there().await, Lost::Removed);
}

#[tokio::test]
async fn looking_while_a_refresh_is_under_way_raises_no_false_alarm() {
    for stagger in 0..40 {
        let site = Site::new();
        let lock = held(&site).await;
        let mut calls = 0;
        site.faulty.replace_plan(move |_| {
            calls += 1;
            Fault::Slow(Duration::from_millis(calls * 7 % 31))
        });
        let looks = async {
            site.clock.sleep(Duration::from_millis(stagger)).await;
            for _ in 0..20 {
                lock.still_there().await.unwrap();
            }
        };
        let refreshes = async {
            for _ in 0..10 {
                lock.refresh().await.unwrap();
            }
        };
        site.clock.drive(join(looks, refreshes)).await;
        assert_eq!(site.ids(), [lock.id()]);
    }
}

#[tokio::test]
async fn a_kept_lock_stays_young() {
    let site = Site::new();
    let lock = held(&site).await;
    let start = site.clock.now();
    let watch = async {
        for _ in 0..120 {
            site.clock.sleep(MINUTE).await;
            let locks = site.locks();
            assert_eq!(locks.len(), 1);
            assert!(site.clock.now().since(locks[0].1.time) <= 5 * MINUTE);
        }
    };
    tokio::select! {
        lost = site.clock.drive(lock.keep()) => panic!("{lost}"),
        () = watch => (),
    }
    assert!(site.clock.now().since(start) >= 120 * MINUTE);
    let puts = site.calls(Operation::Put);
    assert!((24..=26).contains(&puts), "{puts}");
    // Nobody refreshes it any more, and it is still there.
    site.clock.drive(site.clock.sleep(10 * MINUTE)).await;
    assert_eq!(site.calls(Operation::Put), puts);
    assert_eq!(site.ids(), [lock.id()]);
}

#[tokio::test]
async fn keeping_outlasts_a_short_outage_and_reports_a_long_one() {
    for (outage, survives) in [(19 * MINUTE, true), (24 * MINUTE, false)] {
        for fault in [Fault::LostRequest, Fault::Refused(StorageErrorKind::Denied), Fault::Slow(60 * MINUTE)] {
            let site = Site::new();
            let lock = held(&site).await;
            let (clock, end) = (site.clock.clone(), site.clock.monotonic() + outage);
            site.faulty.replace_plan(move |_| if clock.monotonic() < end { fault } else { Fault::None });
            let enough = async {
                site.clock.sleep(40 * MINUTE).await;
                None
            };
            let keep = async { Some(lock.keep().await) };
            let lost = site
                .clock
                .drive(async {
                    tokio::select! { lost = keep => lost, never = enough => never }
                })
                .await;
            match lost {
                None => assert!(survives, "{fault:?}"),
                Some(Lost::NotRefreshed { age }) => {
                    assert!(!survives, "{fault:?}");
                    assert!(age >= LOST_AFTER && age < LOST_AFTER + 11 * SECOND, "{age:?}");
                }
                Some(other) => panic!("{other}"),
            }
            site.faulty.replace_plan(|_| Fault::None);
            lock.release().await.unwrap();
            assert!(site.ids().is_empty());
        }
    }
}

#[tokio::test]
async fn keeping_ends_soon_when_the_loss_is_seen_elsewhere() {
    let site = Site::new();
    let lock = held(&site).await;
    let start = site.clock.monotonic();
    let other = async {
        site.clock.sleep(SECOND).await;
        site.remove(&lock.id());
        assert_lost(lock.still_there().await, Lost::Removed);
    };
    let (lost, ()) = site.clock.drive(join(lock.keep(), other)).await;
    assert_eq!(lost, Lost::Removed);
    assert_eq!(site.clock.monotonic() - start, SECOND);
}

#[tokio::test]
async fn keeping_may_be_dropped_at_any_point_of_a_refresh() {
    for millis in (0..1_000).step_by(50) {
        let site = Site::new();
        let lock = held(&site).await;
        site.faulty.replace_plan(|_| Fault::Slow(Duration::from_millis(170)));
        site.clock.stop_process(5 * MINUTE);
        let enough = site.clock.sleep(Duration::from_millis(millis));
        site.clock
            .drive(async {
                tokio::select! { lost = lock.keep() => panic!("{lost}"), () = enough => () }
            })
            .await;
        site.clock.drive(lock.still_there()).await.unwrap();
        site.clock.drive(lock.refresh()).await.unwrap();
        assert_eq!(site.ids(), [lock.id()]);
        site.clock.drive(lock.release()).await.unwrap();
        assert!(site.ids().is_empty());
    }
}

#[tokio::test]
async fn a_release_beside_a_refresh_leaves_nothing() {
    for millis in (0..1_000).step_by(50) {
        let site = Site::new();
        let lock = held(&site).await;
        site.faulty.replace_plan(|_| Fault::Slow(Duration::from_millis(170)));
        site.clock.stop_process(5 * MINUTE);
        let release = async {
            site.clock.sleep(Duration::from_millis(millis)).await;
            lock.release().await.unwrap();
        };
        let (lost, ()) = site.clock.drive(join(lock.keep(), release)).await;
        assert_eq!(lost, Lost::Released);
        assert!(site.ids().is_empty(), "{millis}");
    }
}

#[tokio::test]
async fn a_release_that_failed_can_be_called_again() {
    let site = Site::new();
    let lock = held(&site).await;
    site.on(Operation::Delete, |made, _| if made == 0 { Fault::LostRequest } else { Fault::None });
    assert!(lock.release().await.is_err());
    lock.release().await.unwrap();
    assert!(site.ids().is_empty());
}

async fn taken_over(site: &Site, previous: &[Id]) -> Result<RepositoryLock, LockError> {
    let work = take_over(site.files(), of_job(false, "job"), Arc::new(site.clock.clone()), previous);
    site.clock.drive(work).await
}

#[tokio::test]
async fn a_lock_is_taken_over_while_the_last_one_stands() {
    for fault in [Fault::None, Fault::LostAnswer] {
        let site = Site::new();
        let last = held(&site).await;
        site.clock.stop_process(20 * MINUTE);
        site.on(Operation::Put, move |_, _| fault);
        let next = taken_over(&site, &[Id::of(b"older"), last.id()]).await.unwrap();
        assert_eq!(site.ids(), [next.id()]);
        assert_lost(last.still_there().await, Lost::Removed);
        last.release().await.unwrap();
        site.on(Operation::Put, |_, _| Fault::None);
        next.refresh().await.unwrap();
        assert_eq!(site.ids(), [next.id()]);
    }
}

#[tokio::test]
async fn a_lock_is_not_taken_over_across_a_gap() {
    type Trouble = fn(&Site, Id);
    let troubles: [(&str, Trouble); 4] = [
        ("gone", |site, last| site.remove(&last)),
        ("too old", |site, _| site.clock.stop_process(LOST_AFTER)),
        ("removed meanwhile", |site, last| {
            let memory = site.memory.clone();
            site.on(Operation::Put, move |_, _| {
                memory.tamper(&LockFiles::name(&last), None);
                Fault::None
            });
        }),
        ("paused meanwhile", |site, _| {
            let clock = site.clock.clone();
            site.on(Operation::Put, move |_, _| {
                clock.set_wall_forward(LOST_AFTER);
                Fault::None
            });
        }),
    ];
    for (name, trouble) in troubles {
        let site = Site::new();
        let last = held(&site).await.id();
        trouble(&site, last);
        let taken = taken_over(&site, &[last]).await;
        assert!(matches!(&taken, Err(LockError::Gap { job }) if job == "job"), "{name}: {taken:?}");
        assert!(site.ids().iter().all(|id| *id == last), "{name}: the own lock stayed");
    }
}

#[tokio::test]
async fn only_a_lock_of_the_same_job_and_strength_is_taken_over() {
    let site = Site::new();
    let foreign = site.plant(&restic_lock(false, 1, &site.clock));
    let other = site.take(of_job(false, "other")).await.unwrap().id();
    assert!(matches!(taken_over(&site, &[foreign, other]).await, Err(LockError::Gap { .. })));
    let shared = held(&site).await.id();
    let previous = [shared];
    let work = take_over(site.files(), of_job(true, "job"), Arc::new(site.clock.clone()), &previous);
    assert!(matches!(site.clock.drive(work).await, Err(LockError::Gap { .. })));
    assert_eq!(site.ids().len(), 3);
}

#[tokio::test]
async fn unlocking_removes_what_is_stale_or_everything() {
    let site = Site::new();
    let old = site.plant(&restic_lock(true, 1, &site.clock));
    site.clock.stop_process(31 * MINUTE);
    let young = site.plant(&restic_lock(false, 2, &site.clock));
    let dead = site.plant(&restic_lock(false, 3, &site.clock));
    let (empty, garbage) = (Id::of(b"empty"), Id::of(b"garbage"));
    site.memory.tamper(&LockFiles::name(&empty), Some(bytes::Bytes::new()));
    site.memory.tamper(&LockFiles::name(&garbage), Some(bytes::Bytes::from_static(b"?")));

    let now = site.clock.now();
    let found = unlock::list(&site.files(), now, "harbour", |pid| pid != 3).await.unwrap();
    assert_eq!(found.len(), 5);
    for found in found {
        match found.content {
            LockContent::Lock { lock, stale } => assert_eq!(stale, lock.pid != 2, "{}", lock.pid),
            LockContent::Empty => assert_eq!((found.id, found.stored_bytes), (empty, 0)),
            LockContent::Damaged(_) => assert_eq!((found.id, found.stored_bytes), (garbage, 1)),
        }
    }
    let mut removed = unlock::remove_stale(&site.files(), now, "harbour", |pid| pid != 3).await.unwrap();
    removed.sort();
    let mut stale = [old, dead];
    stale.sort();
    assert_eq!(removed, stale);
    assert_eq!(site.ids().len(), 3);
    assert!(unlock::remove_stale(&site.files(), now, "elsewhere", |_| false).await.unwrap().is_empty());
    let removed = unlock::remove_all(&site.files()).await.unwrap();
    assert_eq!(removed.len(), 3);
    assert!(removed.contains(&young) && site.ids().is_empty());
}

#[tokio::test]
async fn locks_of_jobs_that_have_ended_are_removed() {
    let site = Site::new();
    site.plant(&restic_lock(false, 1, &site.clock));
    let ended = site.take(of_job(false, "ended")).await.unwrap().id();
    site.take(of_job(false, "running")).await.unwrap();
    site.take(request(false)).await.unwrap();
    let mut asked = Vec::new();
    let has_ended = |job: String| {
        asked.push(job.clone());
        async move { job == "ended" }
    };
    let removed = unlock::remove_ended(&site.files(), has_ended).await.unwrap();
    assert_eq!(removed, [ended]);
    assert_eq!(asked, ["ended", "running"]);
    assert_eq!(site.ids().len(), 3);
}
