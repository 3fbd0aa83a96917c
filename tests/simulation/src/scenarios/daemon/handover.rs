//! A coordinator stops or dies, and its jobs go on.

use fleet::queue::{Address, Message, TaskQueue};
use fleet::state::{JobState, Position, REPORTS_MAX};
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::report::Payload;
use proto::task::{CheckWork, Task, Work};

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

/// The job of a key goes on under another name, which does not follow from the key.
#[tokio::test(start_paused = true)]
async fn a_successor_has_no_idempotency_key() {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let first = stage.coordinate("first").await;
    let keyed = Submission { idempotency_key: Some("nightly".to_owned()), ..stage.backup_submission().await };
    let job = Submission::job_of_key(&keyed.repository, "nightly");
    stage.site.publish_job(&keyed).await;
    stage.until_on_record(&job, "checkpoint-").await;
    stage.site.unlock_all();
    let document = stage.until_shown(&job, |document| document.superseded_by.is_some()).await;
    let by = document.superseded_by.unwrap();
    stage.until_on_record(&by, "epoch-00000001").await;
    first.leadership.stop();
    let _second = stage.coordinate("second").await;
    let document = stage.followed(&keyed.job).await;
    assert_eq!(document.job, by);
    stage.assert_shown_as_without_faults(&document).await;
    let repository = stage.site.bare_repository().await;
    let name = proto::names::job_record(&by, proto::names::Record::Submitted);
    let json = repository.get_private(&name).await.unwrap().unwrap();
    let submitted: Submission = serde_json::from_slice(&json).unwrap();
    assert_eq!((submitted.job, submitted.idempotency_key), (by, None));
}

/// A notice of a job whose reports are full does not hold up those of others.
#[tokio::test(start_paused = true)]
async fn notices_do_not_wait_for_a_job_that_takes_none() {
    let stage = Stage::calm().await;
    let _coordinator = stage.coordinate("coordinator").await;
    let repository = stage.site.bare_repository().await;
    let key = MessageKey::derive(&*repository.master_key().material(), &repository.id());
    let state = stage.site.fleet().state;
    let [full, other] = ["full", "other"].map(|job| JobId::new(job).unwrap());
    for _ in 0..REPORTS_MAX {
        state.append_report(&full, Vec::new().into()).await.unwrap();
    }
    for job in [&full, &other] {
        let work = Work::Check(CheckWork { number: 0, packs: Payload::default() });
        let (id, facts) = (Task::id_for(job, &work, 0), Id::default());
        let body = Task { id, job: job.clone(), round: 0, stage: 0, facts, refused_by: Vec::new(), work };
        let expires_at = stage.site.clock.now().plus(Duration::from_secs(3600));
        let envelope =
            Envelope { minor: SCHEMA_MINOR, repository: repository.id(), job: job.clone(), expires_at, body };
        let body = envelope.seal(&key).unwrap().into();
        let message = Message { body, attempt: 9, last_error: Some("panic".to_owned()), subject: id.to_string() };
        stage.site.fleet().queue.publish(&Address::DeadTasks, message).await.unwrap();
    }
    stage.sleep(60).await;
    let reports = state.read_reports(&other, &Position::default(), 9, Duration::ZERO).await.unwrap();
    assert_eq!(reports.len(), 1);
}
