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

/// What the first snapshot may hold beside one of the two versions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mixture {
    /// A file that is open keeps its content, and a range of another file is not taken for one of it.
    Never,
    /// restic lists none, and has them: we say which files changed while they were read.
    IfListed,
}

/// The change comes just before the n-th read of the file, for every n: no snapshot holds a mixture that is not listed,
/// and the next run reads the file again.
async fn changed_between_reads(change: impl Fn(String, Content) -> Change, after: Content, allowed: Mixture) {
    let versions = [bytes(&content(1)), bytes(&after)];
    let mut seen = [0; 2];
    for read in 0..8 {
        let tree = small_tree();
        tree.file(FILE, content(1));
        let stage = Stage::over(tree, Rates::default(), ranges()).await;
        stage.site.tree.apply_at_read(FILE, read, change(FILE.into(), after.clone()));
        let first = stage.back_up().await;
        let stored = stored_content(&stage, &first).await;
        match versions.iter().position(|version| *version == stored) {
            Some(version) => seen[version] += 1,
            None => {
                assert!(allowed == Mixture::IfListed, "a mixture: changed before read {read}");
                assert!(first.counts.changed_while_read > 0, "a mixture is not listed: changed before read {read}");
            }
        }
        stage.site.tree.forget_planted();
        let second = stage.back_up().await;
        stage.assert_as_without_faults(&second).await;
        stage.assert_undamaged().await;
    }
    assert_ne!(seen, [8, 0], "the change never came in between");
}

/// What the snapshot has as content of the large file.
async fn stored_content(stage: &Stage, done: &BackupDone) -> Vec<u8> {
    let mut audit = stage.assert_undamaged().await;
    let flat = audit.flatten(&done.snapshot).await.unwrap();
    audit.content(&flat.nodes[FILE.as_bytes()]).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn another_file_takes_the_name() {
    changed_between_reads(Change::Replace, content(2), Mixture::Never).await;
}

#[tokio::test(start_paused = true)]
async fn the_content_changes_in_place() {
    changed_between_reads(Change::Rewrite, content(3), Mixture::IfListed).await;
}

#[tokio::test(start_paused = true)]
async fn the_file_becomes_shorter() {
    changed_between_reads(Change::Rewrite, Content::seeded(4, 2 << 20), Mixture::IfListed).await;
}
