//! Somebody prunes: between jobs, or under the hands of one.

use fleet::state::JobState;

use super::*;

/// A worker keeps the index of the jobs before. What a prune took away since is stored again.
#[tokio::test(start_paused = true)]
async fn a_warm_cache_outlives_a_prune() {
    let stage = Stage::calm().await;
    let cache = tempfile::tempdir().unwrap();
    stage.worker.actor.kill();
    let _cached = stage.site.hire("cached", &[ROOT], 2, 0, Some(cache.path().to_owned())).await;
    stage.back_up().await;
    stage.site.tree.file(&format!("{ROOT}/dir0/new"), Content::seeded(99, 700));
    stage.back_up().await; // only now the first index is in the cache
    assert!(stage.forget_and_prune().await > 0);
    for number in 0..2 {
        stage.site.tree.file(&format!("{ROOT}/dir1/new{number}"), Content::seeded(100 + number, 700));
        let done = stage.back_up().await;
        stage.assert_as_without_faults(&done).await;
    }
    assert_eq!(stage.assert_undamaged().await.snapshots.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_after_lock_and_packs_are_gone() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_packs(6).await;
    stage.site.unlock_all();
    assert!(matches!(stage.site.prune().await, Pruned::Removed(packs) if packs > 0));
    let job = started.job.clone();
    let done = done(stage.end(started).await);
    assert_ne!(done.job, job, "everything known was doubtful");
    stage.assert_as_without_faults(&done).await;
    assert_eq!(stage.assert_undamaged().await.snapshots.len(), 1);
}

/// The checkpoint of a cancelled job is a parent whose blobs are gone.
#[tokio::test(start_paused = true)]
async fn a_cancelled_job_is_resumed_after_a_prune() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_packs(6).await;
    stage.site.fleet().state.request_cancel(&started.job).await.unwrap();
    let cancelled = started.job.clone();
    assert!(matches!(stage.end(started).await, Some(Err(JobError::Cancelled))));
    assert!(stage.forget_and_prune().await > 0);
    let done = stage.back_up().await;
    assert_eq!(done.resumed, Some(cancelled));
    stage.assert_as_without_faults(&done).await;
    assert_eq!(stage.assert_undamaged().await.snapshots.len(), 1);
}
