//! Blobs that a job does not store, because others are said to have stored them.

use fleet::state::JobState;

use super::*;

/// A job whose packs are stored and in no index, and whose coordinator is stopped; and one that borrows all of them.
pub(super) async fn lent(stage: &Stage) -> (Started, Started) {
    let lender = stage.submit().await;
    stage.until_packs(2).await;
    lender.actor.stop(Duration::from_secs(600));
    stage.sleep(5).await;
    let packs = stage.packs();
    let messages = stage.site.messages().len();
    let borrower =
        stage.site.submit("borrower", &BackupRequest { hostname: "borrower".into(), ..stage.request.clone() }).await;
    stage.until("the borrower has a task", || stage.site.messages().len() > messages).await;
    borrower.actor.stop(Duration::from_secs(60));
    stage.sleep(20).await;
    assert_eq!(stage.packs(), packs, "all of it is borrowed");
    (lender, borrower)
}

/// The snapshot holds what it should, even after what no index names is gone.
async fn assert_stands_alone(stage: &Stage, done: &BackupDone) {
    stage.assert_as_without_faults(done).await;
    stage.site.remove_unindexed_packs().await;
    assert_eq!(stage.assert_undamaged().await.snapshots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_lends_is_cancelled() {
    let stage = Stage::calm().await;
    let (lender, borrower) = lent(&stage).await;
    stage.site.fleet().state.request_cancel(&lender.job).await.unwrap();
    lender.actor.spare();
    assert!(matches!(stage.end(lender).await, Some(Err(JobError::Cancelled))));
    let done = done(stage.end(borrower).await);
    assert_stands_alone(&stage, &done).await;
}

#[tokio::test(start_paused = true)]
async fn who_lends_is_killed() {
    let stage = Stage::calm().await;
    let (lender, borrower) = lent(&stage).await;
    lender.actor.kill();
    let done = done(stage.end(borrower).await);
    stage.assert_as_without_faults(&done).await;
    assert!(stage.site.remove_unindexed_packs().await > 0, "what was lent is nowhere");
    let mut audit = Audit::of(&stage.site).await.unwrap();
    audit.flatten(&done.snapshot).await.unwrap();
}

/// Its packs are stored, and known to all. The next worker borrows them, and nothing is stored twice.
#[tokio::test(start_paused = true)]
async fn a_worker_dies_between_known_blobs_and_report() {
    let stage = Stage::calm().await;
    // Two packs: data and trees.
    stage.worker.actor.kill_in(&["add_known_blobs", "add_known_blobs", "append_report"]);
    let started = stage.submit().await;
    stage.until("the worker is dead", || stage.worker.actor.is_dead()).await;
    let packs = stage.packs();
    let _other = stage.hire("other").await;
    let done = done(stage.end(started).await);
    stage.assert_as_without_faults(&done).await;
    // The tree of the snapshot itself is the coordinator's.
    assert_eq!(stage.packs(), packs + 1, "nothing is stored again");
    stage.assert_undamaged().await;
}
