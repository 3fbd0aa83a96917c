//! A coordinator falls silent, and another one takes its job over.

use fleet::state::JobState;

use super::*;

/// Longer than any takeover takes, and shorter than what costs the lock.
const NAP: Duration = Duration::from_secs(15 * 60);
/// So long that the lock is lost by age.
const COMA: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_job_without_a_checkpoint_begins_again_under_its_own_name() {
    let stage = Stage::calm().await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "epoch-00000001").await;
    started.actor.kill();
    let done = stage.taken_over().await;
    assert_eq!(done.job, started.job);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_from_its_checkpoint() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-").await;
    started.actor.kill();
    let done = stage.taken_over().await;
    assert_eq!(done.job, started.job);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

/// A checkpoint names the trees of finished directories, which no worker could report again.
#[tokio::test(start_paused = true)]
async fn finished_directories_outlive_their_coordinator() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until("some packs are there", || stage.packs() >= 7).await;
    stage.worker.actor.stop(Duration::from_secs(200));
    stage.sleep(30).await;
    let reported = stage.packs();
    stage.until_recorded(&started, "checkpoint-00000001-00000002").await;
    assert!(stage.packs() > reported, "the trees of the finished directories");
    started.actor.kill();
    let done = stage.taken_over().await;
    assert_eq!(done.job, started.job);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

/// All are said to be known: the first report borrows everything, and nothing of it is anywhere.
#[tokio::test(start_paused = true)]
async fn what_an_unsettled_report_borrows_is_not_forgotten() {
    let stage = Stage::set(Rates { lies: 1000, ..Rates::default() }, boundless()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-").await;
    started.actor.kill();
    assert_eq!(stage.packs(), 0, "everything is borrowed");
    let done = stage.taken_over().await;
    assert_eq!(done.job, started.job);
    stage.assert_as_without_faults(&done).await;
}

#[tokio::test(start_paused = true)]
async fn the_job_state_is_lost_before_the_takeover() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-").await;
    started.actor.kill();
    stage.site.fleet().state.flush();
    let done = stage.taken_over().await;
    assert_eq!(done.job, started.job);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

/// Stopped just before `call`; taken over and committed by another; all of that forgotten and pruned; then woken.
async fn stopped_before(call: &str, duration: Duration) {
    let stage = Stage::calm().await;
    let started = stage.submit().await;
    started.actor.stop_before(call, duration);
    stage.until("it is stopped", || started.actor.is_stopped()).await;
    let done = stage.taken_over().await;
    stage.assert_as_without_faults(&done).await;
    assert!(started.actor.is_stopped());
    assert!(stage.forget_and_prune().await > 0);
    started.actor.spare();
    assert_fenced(&stage.end(started).await);
    let audit = stage.assert_undamaged().await;
    assert!(audit.snapshots.is_empty(), "it put its snapshot");
}

#[tokio::test(start_paused = true)]
async fn stopped_before_the_snapshot_and_woken_after_a_prune() {
    stopped_before("Put snapshots/", NAP).await;
}

#[tokio::test(start_paused = true)]
async fn stopped_before_an_index_file_and_woken_after_a_prune() {
    stopped_before("Put index/", NAP).await;
}

#[tokio::test(start_paused = true)]
async fn stopped_for_an_hour_before_the_snapshot() {
    stopped_before("Put snapshots/", COMA).await;
}

/// The snapshot was decided on: exactly its bytes are put, under the job's own name.
#[tokio::test(start_paused = true)]
async fn a_decided_snapshot_is_put_by_the_next_one() {
    let stage = Stage::calm().await;
    let started = stage.submit().await;
    started.actor.stop_before("Put snapshots/", NAP);
    stage.until("it is stopped", || started.actor.is_stopped()).await;
    started.actor.kill();
    let before = stage.packs();
    let done = stage.taken_over().await;
    assert_eq!(done.job, started.job);
    assert_eq!(stage.packs(), before, "nothing was stored again");
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

/// Whoever cancelled is told of no failure when the coordinator dies before it says so.
#[tokio::test(start_paused = true)]
async fn a_cancelled_job_is_ended_as_cancelled_by_the_next_one() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-").await;
    started.actor.kill_before(&format!("Put {}", stored(&job_record(&started.job, Record::Commit))));
    stage.site.fleet().state.request_cancel(&started.job).await.unwrap();
    let abandoned = stage.abandoned().await;
    let heir = stage.site.take_over("heir", &abandoned).await;
    let ended = stage.end(heir).await;
    assert!(matches!(ended, Some(Err(JobError::Cancelled))), "{ended:?}");
    assert!(stage.assert_undamaged().await.snapshots.is_empty());
}

/// The snapshot was decided on, but the lock was removed meanwhile: nothing is put, a new job goes on.
#[tokio::test(start_paused = true)]
async fn a_decided_snapshot_is_not_put_after_a_gap() {
    let stage = Stage::calm().await;
    let started = stage.submit().await;
    started.actor.stop_before("Put snapshots/", NAP);
    stage.until("it is stopped", || started.actor.is_stopped()).await;
    stage.site.unlock_all();
    assert!(matches!(stage.site.prune().await, Pruned::Removed(packs) if packs > 0));
    let done = stage.taken_over().await;
    assert_ne!(done.job, started.job);
    stage.assert_as_without_faults(&done).await;
    let superseded = proto::job::JobOutcome::Superseded { by: done.job.clone() };
    assert_eq!(stage.site.recorded(&started.job).await, crate::heirs::Recorded::Ended(superseded));
    started.actor.spare();
    assert_fenced(&stage.end(started).await);
    assert_eq!(stage.assert_undamaged().await.snapshots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_who_take_over_one_leads() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-").await;
    started.actor.kill();
    let abandoned = stage.abandoned().await;
    let first = stage.site.take_over("first", &abandoned).await;
    let second = stage.site.take_over("second", &abandoned).await;
    let (first, second) = (stage.end(first).await, stage.end(second).await);
    let (winner, loser) = if matches!(first, Some(Ok(_))) { (first, second) } else { (second, first) };
    assert_fenced(&loser);
    stage.assert_as_without_faults(&done(winner)).await;
    assert_eq!(stage.assert_undamaged().await.snapshots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_took_over_is_taken_over() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-00000001-").await;
    started.actor.kill();
    let heir = stage.site.take_over("heir", &stage.abandoned().await).await;
    stage.until_recorded(&started, "checkpoint-00000002-").await;
    heir.actor.kill();
    let abandoned = stage.abandoned().await;
    assert_eq!(abandoned.epoch, 2);
    let done = stage.taken_over().await;
    assert_eq!(done.job, started.job);
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

/// A takeover waits for nobody who lives.
#[tokio::test(start_paused = true)]
async fn a_coordinator_that_lives_is_left_alone() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    stage.worker.actor.stop(Duration::from_secs(100));
    let started = stage.submit().await;
    let doors = stage.site.coordinator_doors(&stage.site.actor("watch")).await;
    let mut watch = Watch::default();
    for _ in 0..16 {
        stage.sleep(5).await;
        assert_eq!(watch.look(&doors).await.unwrap(), []);
    }
    stage.site.fleet().state.flush();
    assert_eq!(watch.look(&doors).await.unwrap(), []);
    stage.sleep(6).await;
    assert_eq!(watch.look(&doors).await.unwrap(), []);
    let done = done(stage.end(started).await);
    stage.assert_as_without_faults(&done).await;
}

/// It cannot find out that it was taken over: it leaves the job alone.
#[tokio::test(start_paused = true)]
async fn who_cannot_see_epochs_ends_no_record() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-").await;
    started.actor.stop(Duration::from_secs(100));
    let heir = stage.site.take_over("heir", &stage.abandoned().await).await;
    stage.until_recorded(&started, "checkpoint-00000002-").await;
    heir.actor.stop(NAP);
    started.actor.blind_to(&format!("List {}", stored("jobs/")));
    let job = started.job.clone();
    let left = stage.end(started).await;
    assert!(matches!(left, Some(Err(JobError::HandedOver { .. }))), "{left:?}");
    assert_eq!(stage.site.recorded(&job).await, crate::heirs::Recorded::Open);
    assert!(heir.actor.is_stopped());
    heir.actor.spare();
    let done = done(stage.end(heir).await);
    assert_eq!(done.job, job);
    stage.assert_as_without_faults(&done).await;
}

/// Everything was done but to write the result down, and then the lock went: whoever does that says all of it.
#[tokio::test(start_paused = true)]
async fn the_summary_outlives_its_coordinator() {
    for keeps_lock in [true, false] {
        let stage = Stage::set(Rates::default(), crumbs()).await;
        let started = stage.submit().await;
        let result = stored(&format!("jobs/{}/result", started.job));
        started.actor.kill_before(&format!("Put {result}"));
        stage.until("it is dead", || started.actor.is_dead()).await;
        if !keeps_lock {
            stage.site.unlock_all();
        }
        let done = stage.taken_over().await;
        assert_eq!(done.job, started.job);
        assert_eq!((done.progress.subtree_partitions > 0, done.packs > 0), (true, true));
        stage.assert_as_without_faults(&done).await;
        let repository = stage.site.bare_repository().await;
        let name = proto::names::job_record(&done.job, proto::names::Record::Result);
        let json = repository.get_private(&name).await.unwrap().unwrap();
        let result: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(result["outcome"], "done");
        assert_eq!(result["summary"]["packs"].as_u64(), Some(done.packs), "keeps its lock: {keeps_lock}; {result}");
    }
}
