//! Checks through the fleet.

use fleet::state::JobState;
use proto::job::CheckRequest;
use repository::storage::Storage;

use super::*;

fn request() -> Request {
    Request::Check(CheckRequest { task_bytes: Some(1), ..CheckRequest::default() })
}

async fn with_snapshot() -> (Stage, Coordinator) {
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let coordinator = stage.coordinate("coordinator").await;
    let submission = stage.publish_backup().await;
    assert_eq!(stage.followed(&submission.job).await.state, JobPhase::Done);
    (stage, coordinator)
}

#[tokio::test(start_paused = true)]
async fn a_whole_repository_is_found_whole() {
    let (stage, _coordinator) = with_snapshot().await;
    let submission = stage.publish(request()).await;
    let document = stage.followed(&submission.job).await;
    assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
    let result = document.result.unwrap();
    assert_eq!((result["num_errors"].as_u64(), result["packs_read"].as_u64()), (Some(0), Some(stage.packs() as u64)));
    assert_eq!(document.progress.tasks_done, stage.packs() as u64);
    assert_eq!(document.progress.bytes_total, Some(document.progress.bytes_done));
    stage.assert_undamaged().await;
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_found_and_named() {
    let (stage, _coordinator) = with_snapshot().await;
    let content = stage.site.memory.content();
    let (name, bytes) = content.iter().find(|(name, _)| name.starts_with("data/")).unwrap();
    let mut damaged = bytes.to_vec();
    damaged[10] ^= 1;
    stage.site.memory.delete(name).await.unwrap();
    stage.site.memory.put(name, damaged.into()).await.unwrap();
    let submission = stage.publish(request()).await;
    let document = stage.followed(&submission.job).await;
    assert_eq!(document.state, JobPhase::Done, "damage is a result");
    let result = document.result.unwrap();
    assert!(result["num_errors"].as_u64() > Some(0));
    let findings = result["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["file"].as_str() == Some(name)), "{findings:?}");
}

#[tokio::test(start_paused = true)]
async fn a_check_whose_coordinator_died_is_done_by_another_one() {
    let (stage, first) = with_snapshot().await;
    stage.worker.actor.stop(Duration::from_secs(60));
    let submission = stage.publish(request()).await;
    stage.until_shown(&submission.job, |document| document.progress.tasks_open > 0).await;
    first.actor.kill();
    let _second = stage.coordinate("second").await;
    let document = stage.followed(&submission.job).await;
    assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
    assert_ne!(document.job, submission.job);
    assert_eq!(document.result.unwrap()["num_errors"].as_u64(), Some(0));
}

/// It has no lock whose loss it would see, no epochs, and nobody hears it: it notices that it was begun anew elsewhere.
#[tokio::test(start_paused = true)]
async fn a_check_without_a_lock_notices_that_it_was_superseded() {
    let (stage, first) = with_snapshot().await;
    stage.worker.actor.stop(Duration::from_secs(400));
    let unlocked = CheckRequest { task_bytes: Some(1), no_lock: true, ..CheckRequest::default() };
    let submission = stage.publish(Request::Check(unlocked)).await;
    stage.until_shown(&submission.job, |document| document.progress.tasks_open > 0).await;
    first.actor.stop(Duration::from_secs(80));
    let _second = stage.coordinate("second").await;
    let document = stage.until_shown(&submission.job, |document| document.superseded_by.is_some()).await;
    stage.site.fleet().state.flush(); // with it the request to stop
    stage.sleep(150).await;
    let led = stage.site.fleet().state.coordinators().await.unwrap();
    assert_eq!(led.len(), 2);
    let leads: Vec<_> = led.into_iter().flat_map(|coordinator| coordinator.leads).collect();
    assert_eq!(leads, [document.superseded_by.unwrap()]);
}
