//! What becomes of a submission.

use fleet::state::JobState;
use repository::locks::LockRequest;
use serde_json::json;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_submission_becomes_a_snapshot() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let _coordinator = stage.coordinate("coordinator").await;
    let submission = stage.publish_backup().await;
    let document = stage.followed(&submission.job).await;
    let snapshot = stage.assert_shown_as_without_faults(&document).await;
    assert!(document.progress.tasks_done > 1 && document.progress.entries > 12, "{:?}", document.progress);
    assert!(
        stage.site.recorded(&submission.job).await
            == crate::heirs::Recorded::Ended(proto::job::JobOutcome::Done { snapshot })
    );
    let jobs = stage.site.fleet().state.jobs(&submission.repository).await.unwrap();
    assert_eq!(jobs, std::slice::from_ref(&submission.job));
    assert_eq!(stage.site.fleet().state.generation(&submission.job).await.unwrap(), None, "its state is closed");
}

#[tokio::test(start_paused = true)]
async fn whoever_submits_again_attaches() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let _one = stage.coordinate("one").await;
    let _two = stage.coordinate("two").await;
    let submission = stage.publish_backup().await;
    for _ in 0..3 {
        stage.site.publish_job(&submission).await; // at once, for both coordinators
    }
    stage.until_on_record(&submission.job, "start").await;
    stage.site.publish_job(&submission).await; // while it runs
    let first = stage.followed(&submission.job).await;
    stage.assert_shown_as_without_faults(&first).await;
    stage.site.fleet().state.flush();
    stage.site.publish_job(&submission).await; // after its end, when nobody but the record knows of it
    let again = stage.followed(&submission.job).await;
    assert_eq!(again.result, first.result);
    let jobs = stage.site.fleet().state.jobs(&submission.repository).await.unwrap();
    assert_eq!(jobs, std::slice::from_ref(&submission.job), "it is listed again");
    assert_eq!((stage.snapshots(), stage.site.dead_submissions().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn submissions_with_one_key_are_one_job() {
    let stage = Stage::calm().await;
    let _coordinator = stage.coordinate("coordinator").await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let keyed = Submission { idempotency_key: Some("nightly".to_owned()), ..stage.backup_submission().await };
        stage.site.publish_job(&keyed).await;
        jobs.push(keyed.job.clone());
        stage.site.fleet().state.flush();
    }
    let ends = [stage.followed(&jobs[0]).await, stage.followed(&jobs[1]).await];
    let repository = stage.backup_submission().await.repository;
    let expected = Submission::job_of_key(&repository, "nightly");
    assert!(ends.iter().all(|end| end.job == expected && end.state == JobPhase::Done), "{ends:?}");
    assert_eq!(stage.snapshots(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_will_do_is_dead_lettered_with_its_reason() {
    let stage = Stage::calm().await;
    let _coordinator = stage.coordinate("coordinator").await;
    let (site, foreign) = (&stage.site, Id::of(b"another repository"));
    let expect = async |count: usize, reason: &str| {
        stage.until(reason, || stage.site.dead_submissions().len() == count).await;
        assert_eq!(stage.site.dead_submissions()[count - 1], reason);
    };
    site.publish_submission(b"\x80garbage".to_vec()).await;
    expect(1, "malformed").await;
    site.publish_foreign(vec![b'['; 300 << 10]);
    expect(2, "size").await;
    let other = Submission { repository: foreign, ..stage.backup_submission().await };
    site.publish_job(&other).await;
    expect(3, "repository").await;
    let mut body = serde_json::to_value(stage.backup_submission().await).unwrap();
    body["request"]["paths"] = json!(["relative"]);
    body["request"]["targets"] = json!([]);
    site.publish_submission(serde_json::to_vec(&body).unwrap()).await;
    expect(4, "malformed").await;
    let unknown = Submission { pool: "nobody".to_owned(), ..stage.backup_submission().await };
    site.publish_job(&unknown).await;
    expect(5, "pool").await;
    for (job, words) in [(&other.job, "another"), (&unknown.job, "nobody")] {
        let document = stage.until_shown(job, |document| document.state == JobPhase::Failed).await;
        let (class, message) = failure(&document);
        assert_eq!(class, FailureClass::Usage);
        assert!(message.contains(if words == "another" { "repository" } else { words }), "{message}");
    }
    assert_eq!(site.recorded(&unknown.job).await, crate::heirs::Recorded::Nothing);
    // All that does no harm to what can be done.
    let submission = stage.publish_backup().await;
    let document = stage.followed(&submission.job).await;
    stage.assert_shown_as_without_faults(&document).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_known_when_a_worker_of_it_lives() {
    let stage = Stage::calm().await;
    let _coordinator = stage.site.coordinate("coordinator", &[]).await;
    let submission = stage.publish_backup().await;
    assert_eq!(stage.followed(&submission.job).await.state, JobPhase::Done);
}

/// A job state that was just emptied knows no worker for a heartbeat.
#[tokio::test(start_paused = true)]
async fn a_pool_that_only_its_workers_know_outlives_a_flush() {
    let stage = Stage::calm().await;
    let _coordinator = stage.site.coordinate("coordinator", &[]).await;
    stage.site.fleet().state.flush();
    let submission = stage.publish_backup().await;
    let document = stage.followed(&submission.job).await;
    assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
}

/// Whoever follows a submission that cannot be read is told so.
#[tokio::test(start_paused = true)]
async fn a_submission_that_cannot_be_read_ends_for_its_follower() {
    let stage = Stage::calm().await;
    let _coordinator = stage.coordinate("coordinator").await;
    let mut body = serde_json::to_value(stage.backup_submission().await).unwrap();
    body["job"] = json!("of-a-newer-release");
    body["request"]["kind"] = json!("of a newer release");
    stage.site.publish_submission(serde_json::to_vec(&body).unwrap()).await;
    let document = stage.followed(&JobId::new("of-a-newer-release").unwrap()).await;
    assert_eq!((document.state, failure(&document).0), (JobPhase::Failed, FailureClass::Usage));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_is_shown_again_after_a_flush() {
    let stage = Stage::calm().await;
    let _coordinator = stage.coordinate("coordinator").await;
    let submission = stage.publish_backup().await;
    let before = stage.followed(&submission.job).await;
    stage.site.fleet().state.flush();
    let after = stage.followed(&submission.job).await;
    assert_eq!((after.state, after.result), (before.state, before.result));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_ends_within_seconds_and_is_resumed() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let _coordinator = stage.coordinate("coordinator").await;
    let submission = stage.publish_backup().await;
    stage.until_packs(2).await;
    stage.site.fleet().state.request_cancel(&submission.job).await.unwrap();
    let asked_at = stage.site.clock.monotonic();
    let document = stage.followed(&submission.job).await;
    assert!(stage.site.clock.monotonic() - asked_at < Duration::from_secs(10));
    assert_eq!((document.state, failure(&document).0), (JobPhase::Cancelled, FailureClass::Cancelled));
    let next = stage.publish_backup().await;
    let document = stage.followed(&next.job).await;
    stage.assert_shown_as_without_faults(&document).await;
    assert_eq!(document.result.unwrap()["resumed"], json!(submission.job));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_cannot_be_had_ends_the_job() {
    let stage = Stage::calm().await;
    let actor = stage.site.actor("restic");
    let repository = stage.site.repository(&actor).await;
    let clock = stage.site.actor_clock(&actor);
    let request = LockRequest {
        exclusive: true,
        hostname: "host".to_owned(),
        username: String::new(),
        pid: 7,
        uid: 0,
        gid: 0,
        job: None,
        is_alive: |_| true,
    };
    let lock = RepositoryLock::take(&repository, request, clock, None).await.unwrap();
    let _coordinator = stage.coordinate("coordinator").await;
    let submission = stage.publish_backup().await;
    let document = stage.followed(&submission.job).await;
    assert_eq!(failure(&document).0, FailureClass::Locked);
    lock.release().await.unwrap();
    stage.sleep(120).await;
    assert_eq!(stage.snapshots(), 0, "it has ended");
    assert_ne!(fleet_hostname(&repository.id()), "host");
}

/// Everything but a failure of the storage is lived through.
#[tokio::test(start_paused = true)]
async fn submissions_outlive_unreliable_services() {
    let rates = Rates { queue: 100, state: 100, ..Rates::default() };
    let stage = Stage::set(rates, crumbs()).await;
    let _one = stage.coordinate("one").await;
    let _two = stage.coordinate("two").await;
    let mut submissions = Vec::new();
    for number in 0..4 {
        let mut submission = stage.backup_submission().await;
        if let Request::Backup(request) = &mut submission.request {
            request.hostname = format!("host-{number}");
        }
        stage.site.publish_job(&submission).await;
        submissions.push(submission);
    }
    stage.site.fleet().state.flush();
    for submission in submissions {
        let document = stage.followed(&submission.job).await;
        assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
    }
    assert_eq!(stage.snapshots(), 4);
    stage.assert_undamaged().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_to_the_worker_that_has_the_root() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let _outside = stage.site.hire("outside", &["/elsewhere"], 2, 0, None).await;
    let _coordinator = stage.coordinate("coordinator").await;
    let submission = stage.publish_backup().await;
    let document = stage.followed(&submission.job).await;
    stage.assert_shown_as_without_faults(&document).await;
}

#[tokio::test(start_paused = true)]
async fn a_path_outside_all_roots_gives_no_snapshot() {
    let mut stage = Stage::calm().await;
    let _outside = stage.site.hire("outside", &["/elsewhere"], 2, 0, None).await;
    let _coordinator = stage.coordinate("coordinator").await;
    stage.request.paths = vec![b"/etc/secret".as_slice().into()];
    stage.request.targets = Vec::new();
    let submission = stage.publish_backup().await;
    let document = stage.followed(&submission.job).await;
    let (class, message) = failure(&document);
    assert_eq!(class, FailureClass::Failed);
    assert!(message.contains("/etc/secret") && message.contains("outside the roots"), "{message}");
    assert_eq!(stage.snapshots(), 0);
}

#[tokio::test(start_paused = true)]
async fn paths_that_are_not_there_give_no_snapshot() {
    for workers in 1..3 {
        let mut stage = Stage::calm().await;
        let _other = if workers == 2 { Some(stage.hire("other").await) } else { None };
        let _coordinator = stage.coordinate("coordinator").await;
        stage.request.paths = vec![format!("{ROOT}/gone/1").into_bytes().into()];
        stage.request.targets = Vec::new();
        let submission = stage.publish_backup().await;
        let document = stage.followed(&submission.job).await;
        assert!(failure(&document).1.contains("is there on any worker"), "{:?}", document.failure);
        assert_eq!(stage.snapshots(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_asked_to_drain_leaves_and_the_job_goes_on() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let other = stage.hire("other").await;
    let _coordinator = stage.coordinate("coordinator").await;
    let submission = stage.publish_backup().await;
    stage.until_packs(1).await;
    let worker = proto::id::WorkerId::new(other.actor.name()).unwrap();
    stage.site.fleet().state.request_drain(&worker).await.unwrap();
    let asked_at = stage.site.clock.monotonic();
    other.ended.await.unwrap();
    assert!(stage.site.clock.monotonic() - asked_at < Duration::from_secs(60));
    let workers = stage.site.fleet().state.workers().await.unwrap();
    assert!(workers.iter().all(|heartbeat| heartbeat.worker != worker));
    let document = stage.followed(&submission.job).await;
    stage.assert_shown_as_without_faults(&document).await;
}
