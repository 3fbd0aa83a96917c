//! Hosts that do not see the same.

use proto::id::Id;
use repository::format::node::Kind;

use super::*;

/// The data set is a file system of its own.
fn mounted_tree() -> Arc<GeneratedTree> {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory(ROOT);
    tree.mount(ROOT, 40);
    for number in 0..5 {
        tree.file(&format!("{ROOT}/file{number}"), Content::seeded(number, 800));
    }
    tree
}

#[tokio::test(start_paused = true)]
async fn an_unmounted_root_is_left_to_the_other_worker() {
    let stage = Stage::over(mounted_tree(), Rates::default(), crumbs()).await;
    let _other = stage.hire("other").await;
    stage.back_up().await;
    stage.worker.source.unmount(ROOT);
    stage.site.tree.file(&format!("{ROOT}/new"), Content::seeded(9, 800));
    let done = stage.back_up().await;
    stage.assert_as_without_faults(&done).await;
    stage.assert_undamaged().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_nobody_has_gives_no_snapshot() {
    let stage = Stage::over(mounted_tree(), Rates::default(), boundless()).await;
    let first: Id = stage.back_up().await.snapshot;
    stage.worker.source.unmount(ROOT);
    let ended = stage.end(stage.submit().await).await;
    assert!(matches!(ended, Some(Err(JobError::Failed { .. }))), "{ended:?}");
    let audit = stage.assert_undamaged().await;
    assert_eq!(audit.snapshots.into_keys().collect::<Vec<_>>(), [first]);
}

/// Equal inode and device would be hard links for whoever restores them.
#[tokio::test(start_paused = true)]
async fn two_file_systems_with_equal_inodes_stay_two() {
    let tree = small_tree();
    for (place, device) in [("/data/mount1", 70), ("/data/mount2", 71)] {
        tree.directory(place);
        tree.mount(place, device);
        tree.file(&format!("{place}/file"), Content::seeded(device, 300));
        tree.hard_link(&format!("{place}/file"), &format!("{place}/link"));
    }
    let stage = Stage::over(tree, Rates::default(), crumbs()).await;
    let _other = stage.site.hire("other", &[ROOT], 2, 1000, None).await;
    let done = stage.back_up().await;
    let mut audit = stage.assert_undamaged().await;
    let flat = audit.flatten(&done.snapshot).await.unwrap();
    let node = |path: &str| &flat.nodes[path.as_bytes()];
    let (one, other) = (node("/data/mount1/file"), node("/data/mount2/file"));
    assert_eq!(one.kind, Kind::File);
    assert_eq!(one.inode, other.inode, "the plant");
    assert_ne!(one.device_id, other.device_id);
    for place in ["/data/mount1", "/data/mount2"] {
        let (file, link) = (node(&format!("{place}/file")), node(&format!("{place}/link")));
        assert_eq!((file.inode, file.device_id), (link.inode, link.device_id));
    }
    let reference = Reference::of(&stage.site).await.unwrap();
    assert_eq!(difference(&flat, &reference.flat), None);
}
