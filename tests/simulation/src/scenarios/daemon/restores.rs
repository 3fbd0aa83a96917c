//! Restores through the fleet.

use std::path::Path;

use proto::job::{RestoreRequest, SnapshotChoice};
use sources::files::roots::Root;

use super::*;

/// A stage with a snapshot, and a worker that may restore below `/restored`.
async fn with_snapshot(mount: &Path) -> (Stage, Coordinator) {
    let stage = Stage::calm().await;
    let root = Root { path: b"/restored".to_vec(), mount: mount.as_os_str().as_encoded_bytes().to_vec() };
    *stage.site.restore_roots.lock().unwrap() = vec![root];
    stage.worker.drain.begin();
    let coordinator = stage.coordinate("coordinator").await;
    let _restorer = stage.hire("restorer").await;
    let submission = stage.publish_backup().await;
    assert_eq!(stage.followed(&submission.job).await.state, JobPhase::Done);
    (stage, coordinator)
}

fn request(target: &str) -> Request {
    let choice = Some(SnapshotChoice { snapshot: "latest".to_owned(), ..SnapshotChoice::default() });
    let budget = Some(crumbs());
    Request::Restore(Box::new(RestoreRequest {
        target: target.as_bytes().into(),
        choice,
        budget,
        ..RestoreRequest::default()
    }))
}

fn assert_restored(folder: &Path) {
    for dir in 0..4 {
        for file in 0..3_u64 {
            let path = folder.join(format!("data/dir{dir}/file{file}"));
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 500 + file * 900, "{}", path.display());
        }
    }
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data"], "nothing of the job is left");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_written_back_and_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, _coordinator) = with_snapshot(folder.path()).await;
    for files in [12, 0] {
        let submission = stage.publish(request("/restored/here")).await;
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
    let submission = stage.publish(request("/etc/evil")).await;
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
        let submission = stage.publish(request("/restored/here")).await;
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
        assert_restored_but_markers(&folder.path().join("here"));
        stage.assert_undamaged_but_locks().await;
    }
}

/// The job that was abandoned may have left its marker.
fn assert_restored_but_markers(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().as_encoded_bytes().starts_with(b".longshore-restore-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_restored(folder);
}

impl Stage {
    async fn assert_undamaged_but_locks(&self) {
        self.site.witness.judge(false).unwrap();
        assert_eq!(self.snapshots(), 1);
    }
}
