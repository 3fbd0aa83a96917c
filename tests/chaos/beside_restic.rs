//! Stock restic works beside us, and after us when we die.

use tests::cli::Longshore;
use tests::frozen::{Frozen, packs_in};
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
        let packs_before = packs_in(self.restic.repository());
        let child = self.longshore.start(self.scratch.path(), ["backup", "--json", "tree"]);
        Frozen::in_the_middle(child, self.restic.repository(), packs_before + 3)
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
