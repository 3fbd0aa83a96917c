//! What an unfinished job did is taken up by the next one, but not under the hands of who still does it.

use proto::job::JobOutcome;

use super::*;
use crate::heirs::Recorded;

/// A backup in mid-job, with a checkpoint.
async fn in_mid_job() -> (Stage, Started) {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_recorded(&started, "checkpoint-").await;
    (stage, started)
}

/// Led, or its lock stands though its coordinator is not heard: it is left alone, and ends by itself.
#[tokio::test(start_paused = true)]
async fn a_job_that_somebody_does_is_left_alone() {
    for silent in [0, 60] {
        let (stage, first) = in_mid_job().await;
        let job = first.job.clone();
        first.actor.stop(Duration::from_secs(200));
        stage.sleep(silent).await;
        let second = stage.back_up().await;
        assert!(first.actor.is_stopped());
        assert_eq!(second.resumed, None, "after {silent} s");
        assert_eq!(stage.site.recorded(&job).await, Recorded::Open);
        first.actor.spare();
        let done = done(stage.end(first).await);
        assert_eq!(done.job, job);
        assert_eq!(stage.site.recorded(&job).await, Recorded::Ended(JobOutcome::Done { snapshot: done.snapshot }));
        stage.assert_as_without_faults(&done).await;
        stage.assert_undamaged().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_nobody_does_is_taken_up() {
    let (stage, first) = in_mid_job().await;
    first.actor.kill();
    stage.sleep(60).await;
    stage.site.unlock_all();
    let second = stage.back_up().await;
    assert_eq!(second.resumed, Some(first.job.clone()));
    let outcome = JobOutcome::Done { snapshot: second.snapshot };
    assert_eq!(stage.site.recorded(&first.job).await, Recorded::Ended(outcome));
    stage.assert_as_without_faults(&second).await;
    stage.assert_undamaged().await;
}

/// Of a dead holder: nobody can be asked, but the lock is old.
#[tokio::test(start_paused = true)]
async fn a_job_whose_lock_is_stale_is_taken_up() {
    let (stage, first) = in_mid_job().await;
    first.actor.kill();
    stage.sleep(3600).await;
    let second = stage.back_up().await;
    assert_eq!(second.resumed, Some(first.job));
    stage.assert_as_without_faults(&second).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_with_other_excludes_is_another_one() {
    let (stage, first) = in_mid_job().await;
    first.actor.kill();
    stage.sleep(60).await;
    stage.site.unlock_all();
    let other = BackupRequest { excludes: vec!["*.tmp".to_owned()], ..stage.request.clone() };
    let second = done(stage.end(stage.site.submit("client", &other).await).await);
    assert_eq!(second.resumed, None);
    let same = BackupRequest { tags: vec!["again".to_owned()], ..stage.request.clone() };
    let third = done(stage.end(stage.site.submit("client", &same).await).await);
    assert_eq!(third.resumed, Some(first.job));
}

/// Who waits for a lock of others hears that nobody wants its job any more.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_lock_hears_that_it_is_cancelled() {
    use fleet::state::JobState;
    use repository::locks::RepositoryLock;

    let stage = Stage::calm().await;
    let actor = stage.site.actor("restic");
    let repository = stage.site.repository(&actor).await;
    let lock = RepositoryLock::take(&repository, exclusive(), stage.site.actor_clock(&actor), None).await.unwrap();
    let started = stage.submit().await;
    stage.sleep(30).await;
    stage.site.fleet().state.request_cancel(&started.job).await.unwrap();
    let asked_at = stage.site.clock.monotonic();
    assert!(matches!(stage.end(started).await, Some(Err(JobError::Cancelled))));
    assert!(stage.site.clock.monotonic() - asked_at < Duration::from_secs(600), "before the wait was over");
    lock.release().await.unwrap();
    stage.assert_undamaged().await;
}

/// A lock that suffers no other.
fn exclusive() -> repository::locks::LockRequest {
    repository::locks::LockRequest {
        exclusive: true,
        hostname: "host".to_owned(),
        username: String::new(),
        pid: 7,
        uid: 0,
        gid: 0,
        job: None,
        is_alive: |_| true,
    }
}
