//! A large file changes while it is read in ranges.

use sources::generated::Change;

use super::*;

const FILE: &str = "/data/large";

fn ranges() -> Budget {
    Budget { range_bytes: 1 << 20, range_threshold_bytes: 1 << 20, ..boundless() }
}

fn content(seed: u64) -> Content {
    Content::seeded(seed, 5 << 20)
}

/// The change comes just before the n-th read of the file, for every n: no snapshot holds a mixture that is not listed,
/// and the next run reads the file again.
async fn changed_between_reads(change: impl Fn() -> Change) {
    for read in 0..8 {
        let tree = small_tree();
        tree.file(FILE, content(1));
        let stage = Stage::over(tree, Rates::default(), ranges()).await;
        stage.site.tree.apply_at_read(FILE, read, change());
        let first = stage.back_up().await;
        let audit = stage.assert_undamaged().await;
        assert!(audit.snapshots.contains_key(&first.snapshot));
        stage.site.tree.forget_planted();
        let second = stage.back_up().await;
        stage.assert_as_without_faults(&second).await;
        stage.assert_undamaged().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_file_takes_the_name() {
    changed_between_reads(|| Change::Replace(FILE.into(), content(2))).await;
}

#[tokio::test(start_paused = true)]
async fn the_content_changes_in_place() {
    changed_between_reads(|| Change::Rewrite(FILE.into(), content(3))).await;
}

#[tokio::test(start_paused = true)]
async fn the_file_becomes_shorter() {
    changed_between_reads(|| Change::Rewrite(FILE.into(), Content::seeded(4, 2 << 20))).await;
}
