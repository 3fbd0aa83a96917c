//! Stock restic works beside us, and after us when we die.

use std::process::{Child, Command};

use tests::cli::Longshore;
use tests::process::Outcome;
use tests::restic::Restic;
use tests::scratch::Scratch;

/// Bytes of the source; enough for a job to be met in the middle.
const SOURCE_MIB: usize = 400;

/// A repository, and a source whose backup takes some seconds.
struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
}

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new("beside-restic");
        let tree = scratch.folder("tree");
        let mut bytes = tests::bytes::Bytes::new(3);
        for number in 0..SOURCE_MIB {
            std::fs::write(tree.join(format!("{number:03}")), bytes.vec(1 << 20)).expect("written");
        }
        let restic = Restic::init(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        let longshore = longshore.budget(20, 16 << 20, 1 << 40, 1 << 40);
        Self { scratch, restic, longshore }
    }

    /// A backup that is stopped once its lock and some packs are there.
    fn frozen(&self) -> Frozen {
        let packs_before = self.packs();
        let mut child = self.longshore.start(self.scratch.path(), ["backup", "--json", "tree"]);
        while !self.is_locked() || self.packs() < packs_before + 3 {
            assert!(child.try_wait().expect("asked").is_none(), "the backup ended before it was met in the middle");
            std::thread::yield_now();
        }
        signal("-STOP", &child);
        Frozen { child: Some(child) }
    }

    fn is_locked(&self) -> bool {
        complete_files(&self.restic.repository().join("locks")) > 0
    }

    fn packs(&self) -> usize {
        let folders = std::fs::read_dir(self.restic.repository().join("data")).into_iter().flatten().flatten();
        folders.map(|folder| complete_files(&folder.path())).sum()
    }

    /// The snapshot is right: the tree is the one that restic writes now, and every byte is there.
    #[track_caller]
    fn assert_right(&self, snapshot: &str) {
        self.restic.assert_clean();
        let expected = self.restic.backup(self.scratch.path(), &["--force"], ["tree"]);
        assert_eq!(self.restic.tree_of(snapshot), expected.tree);
        assert_eq!((expected.count("data_blobs"), expected.count("tree_blobs")), (0, 0), "{}", expected.summary);
    }
}

/// Files that have their final name.
fn complete_files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().len() == 64).count()
}

/// A stopped process that does not outlive the test.
struct Frozen {
    child: Option<Child>,
}

impl Frozen {
    /// Lets it go on and waits for its end.
    fn finish(mut self) -> Outcome {
        let child = self.child.take().expect("it was not finished yet");
        signal("-CONT", &child);
        Outcome::new(
            "longshore backup (stopped and continued)".to_owned(),
            child.wait_with_output().expect("waited for"),
        )
    }

    /// `kill -9`.
    fn kill(mut self) {
        let mut child = self.child.take().expect("it was not finished yet");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(name: &str, child: &Child) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success(), "kill {name}");
}

#[test]
fn heavy_a_prune_is_kept_out_while_a_backup_is_frozen() {
    let ground = Ground::new();
    let frozen = ground.frozen();
    let outcome = ground.restic.run(["prune"]).expect_code(11);
    assert!(outcome.stderr.contains("already locked"), "{}", outcome.stderr);
    ground.restic.run(["check", "--no-lock", "--read-data"]).expect_code(0);
    let backup = Longshore::backed_up(&frozen.finish().expect_code(0));
    assert!(ground.restic.ids("locks").is_empty(), "nothing is left locked");
    ground.assert_right(&backup.snapshot);
}

#[test]
fn heavy_after_a_kill_the_next_run_uses_what_was_indexed() {
    let ground = Ground::new();
    // The second of two runs is killed, so that something is indexed for certain.
    ground.longshore.backup(ground.scratch.path(), &[], ["tree/000", "tree/001"]);
    ground.frozen().kill();
    ground.restic.run(["unlock"]).expect_code(0);
    ground.restic.assert_clean();
    assert_eq!(ground.restic.snapshots().len(), 1, "a killed job leaves no snapshot");
    let backup = ground.longshore.backup(ground.scratch.path(), &[], ["tree"]);
    assert!(backup.count("data_added") < (SOURCE_MIB as u64) << 20, "{}", backup.summary);
    ground.restic.run(["prune"]).expect_code(0);
    ground.assert_right(&backup.snapshot);
}

#[test]
fn heavy_a_removed_lock_and_a_prune_in_mid_job() {
    let ground = Ground::new();
    let frozen = ground.frozen();
    ground.restic.run(["unlock", "--remove-all"]).expect_code(0);
    ground.restic.run(["prune"]).expect_code(0);
    let outcome = frozen.finish().expect_code(0);
    let backup = Longshore::backed_up(&outcome);
    assert!(outcome.stderr.contains("lock"), "the gap is told: {}", outcome.stderr);
    ground.assert_right(&backup.snapshot);
}
