//! A coordinator stops or dies, and its jobs go on.

use super::*;

/// A job in the middle, with a checkpoint, and who leads it.
async fn in_mid_job(stage: &Stage) -> (Coordinator, Submission) {
    let coordinator = stage.coordinate("first").await;
    let submission = stage.publish_backup().await;
    stage.until_on_record(&submission.job, "checkpoint-").await;
    (coordinator, submission)
}

#[tokio::test(start_paused = true)]
async fn another_coordinator_goes_on_after_a_kill() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let (first, submission) = in_mid_job(&stage).await;
    let _second = stage.coordinate("second").await;
    first.actor.kill();
    let document = stage.followed(&submission.job).await;
    assert_eq!(document.job, submission.job);
    stage.assert_shown_as_without_faults(&document).await;
    stage.until_on_record(&submission.job, "epoch-00000002").await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_coordinator_goes_on_with_its_own_job() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let (first, submission) = in_mid_job(&stage).await;
    first.actor.kill();
    let _again = stage.coordinate("again").await;
    let document = stage.followed(&submission.job).await;
    assert_eq!(document.job, submission.job);
    stage.assert_shown_as_without_faults(&document).await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_hands_over_at_once() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let (first, submission) = in_mid_job(&stage).await;
    let _second = stage.coordinate("second").await;
    let asked_at = stage.site.clock.monotonic();
    first.leadership.stop();
    assert!(matches!(first.ended.await, Ok(Some(Ok(())))));
    assert!(stage.site.clock.monotonic() - asked_at < Duration::from_secs(30));
    stage.until_on_record(&submission.job, "epoch-00000002").await;
    assert!(stage.site.clock.monotonic() - asked_at < Duration::from_secs(30), "nobody waits for a silent leader");
    let document = stage.followed(&submission.job).await;
    assert_eq!(document.job, submission.job);
    stage.assert_shown_as_without_faults(&document).await;
    assert_eq!(stage.snapshots(), 1);
}

/// The job waits for the next coordinator; after so long its lock is not to be trusted, and it goes on as a new one.
#[tokio::test(start_paused = true)]
async fn what_the_last_coordinator_leaves_waits_for_the_next() {
    for (seconds, keeps_its_name) in [(300, true), (3 * 3600, false)] {
        let stage = Stage::set(Rates::default(), crumbs()).await;
        let (first, submission) = in_mid_job(&stage).await;
        first.leadership.stop();
        assert!(matches!(first.ended.await, Ok(Some(Ok(())))));
        let shown = stage.site.document(&submission.job).await.unwrap();
        assert_eq!(shown.state, JobPhase::Queued);
        stage.sleep(seconds).await;
        let _next = stage.coordinate("next").await;
        let document = stage.followed(&submission.job).await;
        assert_eq!(document.job == submission.job, keeps_its_name);
        stage.assert_shown_as_without_faults(&document).await;
    }
}

/// Submitted, acknowledged, and not begun.
#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_its_turn_is_not_lost() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    stage.worker.actor.stop(Duration::from_secs(300));
    let first = stage.coordinate("first").await;
    let mut submissions = Vec::new();
    for number in 0..6 {
        let mut submission = stage.backup_submission().await;
        if let Request::Backup(request) = &mut submission.request {
            request.hostname = format!("host-{number}");
        }
        stage.site.publish_job(&submission).await;
        submissions.push(submission);
    }
    for submission in &submissions {
        stage.until_on_record(&submission.job, "submitted").await;
    }
    stage.sleep(5).await;
    let queued = stage.site.document(&submissions[5].job).await.unwrap();
    assert_eq!(queued.state, JobPhase::Queued);
    first.leadership.stop();
    let _second = stage.coordinate("second").await;
    for submission in &submissions {
        let document = stage.followed(&submission.job).await;
        assert_eq!((document.state, &document.job), (JobPhase::Done, &submission.job), "{:?}", document.failure);
    }
    assert_eq!(stage.snapshots(), 6);
    stage.assert_undamaged().await;
}

/// The job state is lost while a coordinator hands over, and its submission comes back by itself.
#[tokio::test(start_paused = true)]
async fn a_flush_does_not_take_a_job_from_who_leads_it() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let (_first, submission) = in_mid_job(&stage).await;
    let _second = stage.coordinate("second").await;
    stage.site.fleet().state.flush();
    stage.site.publish_job(&submission).await; // as whoever follows does when the document vanishes
    let document = stage.followed(&submission.job).await;
    stage.assert_shown_as_without_faults(&document).await;
    let prefix = stored(&format!("jobs/{}/epoch-", submission.job));
    let epochs = stage.site.memory.content().keys().filter(|name| name.starts_with(&prefix)).count();
    assert_eq!(epochs, 1, "it was taken over");
}
