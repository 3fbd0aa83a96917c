//! Restores through the fleet.

use std::path::Path;

use fleet::state::{JobState, Position};
use proto::job::{RestoreRequest, SnapshotChoice};
use sources::files::roots::Root;

use super::*;

/// A stage with a snapshot, and a worker that may restore below `/restored`.
async fn with_snapshot(mount: &Path) -> (Stage, Coordinator) {
    with_snapshot_of(small_tree(), mount).await
}

/// The same with this data set.
pub(super) async fn with_snapshot_of(tree: Arc<GeneratedTree>, mount: &Path) -> (Stage, Coordinator) {
    let mut stage = Stage::over(tree, Rates::default(), boundless()).await;
    let root = Root { path: b"/restored".to_vec(), mount: mount.as_os_str().as_encoded_bytes().to_vec() };
    *stage.site.restore_roots.lock().unwrap() = vec![root];
    stage.worker.drain.begin();
    let coordinator = stage.coordinate("coordinator").await;
    stage.worker = stage.hire("restorer").await;
    let submission = stage.publish_backup().await;
    assert_eq!(stage.followed(&submission.job).await.state, JobPhase::Done);
    (stage, coordinator)
}

pub(super) fn request(target: &str, budget: Budget) -> Request {
    let choice = Some(SnapshotChoice { snapshot: "latest".to_owned(), ..SnapshotChoice::default() });
    let budget = Some(budget);
    Request::Restore(Box::new(RestoreRequest {
        target: target.as_bytes().into(),
        choice,
        budget,
        ..RestoreRequest::default()
    }))
}

fn assert_restored(folder: &Path) {
    for (path, content) in small_files() {
        let restored = std::fs::read(folder.join(&path[1..])).unwrap();
        assert!(restored == bytes(&content), "{path} has another content");
    }
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data"], "nothing of the job is left");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_written_back_and_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, _coordinator) = with_snapshot(folder.path()).await;
    for files in [12, 0] {
        let submission = stage.publish(request("/restored/here", crumbs())).await;
        let document = stage.followed(&submission.job).await;
        assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
        let result = document.result.unwrap();
        assert_eq!((result["files_restored"].as_u64(), result["errors"].as_u64()), (Some(files), Some(0)), "{result}");
        assert_restored(&folder.path().join("here"));
        // The same submission once more is the same job.
        stage.site.fleet().state.flush();
        stage.site.publish_job(&submission).await;
        assert_eq!(stage.followed(&submission.job).await.result, Some(result));
    }
    assert_eq!(stage.assert_undamaged().await.snapshots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_target_outside_the_restore_roots_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, _coordinator) = with_snapshot(folder.path()).await;
    let submission = stage.publish(request("/etc/evil", crumbs())).await;
    let document = stage.followed(&submission.job).await;
    let message = failure(&document).1;
    assert!(message.contains("no worker can restore there") && message.contains("restore roots"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restore_whose_coordinator_is_gone_is_done_by_another_one() {
    for is_killed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (stage, first) = with_snapshot(folder.path()).await;
        let submission = stage.publish(request("/restored/here", crumbs())).await;
        stage.until("something is restored", || folder.path().join("here/data/dir0").exists()).await;
        if is_killed {
            first.actor.kill();
        } else {
            first.leadership.stop();
        }
        let _second = stage.coordinate("second").await;
        let document = stage.followed(&submission.job).await;
        assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
        assert_ne!(document.job, submission.job, "a restore is begun anew");
        assert_restored(&folder.path().join("here"));
        stage.assert_undamaged_but_locks().await;
    }
}

/// It is cancelled in the moment in which it is left to others.
#[tokio::test(start_paused = true)]
async fn a_cancelled_restore_is_not_begun_anew() {
    for is_killed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (stage, first) = with_snapshot(folder.path()).await;
        let submission = stage.publish(request("/restored/here", crumbs())).await;
        stage.until("something is restored", || folder.path().join("here/data/dir0").exists()).await;
        stage.site.fleet().state.request_cancel(&submission.job).await.unwrap();
        if is_killed {
            first.actor.kill();
        } else {
            first.leadership.stop();
        }
        let _second = stage.coordinate("second").await;
        let document = stage.followed(&submission.job).await;
        assert_eq!((document.state, &document.job), (JobPhase::Cancelled, &submission.job));
    }
}

/// It waits for its doors, and is not heard: its lock is refreshed meanwhile.
#[tokio::test(start_paused = true)]
async fn a_restore_that_waits_for_its_doors_keeps_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, _coordinator) = with_snapshot(folder.path()).await;
    stage.site.faults.set(Rates { state: 1000, ..Rates::default() });
    let locks =
        || stage.site.memory.content().into_keys().filter(|name| name.starts_with("locks/")).collect::<Vec<_>>();
    let submission = stage.publish(request("/restored/here", crumbs())).await;
    stage.until("it has its lock", || !locks().is_empty()).await;
    stage.sleep(5).await;
    let first = locks();
    stage.sleep(400).await;
    let second = locks();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second, "it was refreshed");
    stage.site.faults.set(Rates::default());
    assert_eq!(stage.followed(&submission.job).await.state, JobPhase::Done);
    assert_restored(&folder.path().join("here"));
}

/// Reports that were read make room for others.
#[tokio::test(start_paused = true)]
async fn reports_of_a_restore_are_dropped_once_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, _coordinator) = with_snapshot(folder.path()).await;
    let submission = stage.publish(request("/restored/here", crumbs())).await;
    let state = stage.site.fleet().state;
    let reports =
        async || state.read_reports(&submission.job, &Position::default(), 100, Duration::ZERO).await.unwrap();
    let mut read = false;
    let start = stage.site.clock.monotonic();
    while !stage.site.document(&submission.job).await.is_some_and(|document| document.state.is_final()) {
        assert!(stage.site.clock.monotonic() - start < PATIENCE);
        stage.site.clock.sleep(Duration::from_millis(20)).await;
        let behind = reports().await.len();
        if behind > 1 && !read {
            read = true;
            stage.worker.actor.stop(Duration::from_secs(60));
            stage.sleep(5).await;
            assert_eq!(reports().await.len(), 0);
        }
    }
    assert!(read, "it had reports");
}

impl Stage {
    async fn assert_undamaged_but_locks(&self) {
        self.site.witness.judge(false).unwrap();
        assert_eq!(self.snapshots(), 1);
    }
}
