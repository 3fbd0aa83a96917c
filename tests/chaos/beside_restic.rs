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
        let ground = Self::without_source();
        let mut bytes = tests::bytes::Bytes::new(3);
        for number in 0..SOURCE_MIB {
            ground.scratch.file(format!("tree/{number:03}"), bytes.vec(1 << 20));
        }
        ground
    }

    /// With an empty tree.
    fn without_source() -> Self {
        let scratch = Scratch::new("beside-restic");
        scratch.folder("tree");
        let restic = Restic::quick(scratch.path());
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

/// Files of one directory, and directories; an index file is written whenever 50,000 blobs wait for one.
const SMALL_FILES: (usize, usize) = (1_000, 58);
/// Incompressible, and all different.
const SMALL_FILE_BYTES: usize = 300;

/// A source of many small files, and one of them in the repository already, so that there is an index file.
fn many_small_files() -> Ground {
    let ground = Ground::without_source();
    let mut bytes = tests::bytes::Bytes::new(5);
    for folder in 0..SMALL_FILES.1 {
        let folder = ground.scratch.folder(format!("tree/{folder:02}"));
        for number in 0..SMALL_FILES.0 {
            std::fs::write(folder.join(number.to_string()), bytes.vec(SMALL_FILE_BYTES)).expect("written");
        }
    }
    let ground = Ground { longshore: ground.longshore.budget(2_000, 1 << 40, 1 << 40, 1 << 40), ..ground };
    ground.longshore.backup(ground.scratch.path(), &[], ["tree/00/0"]);
    ground
}

#[test]
fn heavy_after_a_kill_the_next_run_uses_what_was_indexed() {
    let ground = many_small_files();
    let (restic, total) = (&ground.restic, (SMALL_FILES.0 * SMALL_FILES.1) as u64);
    let index_files = restic.ids("index").len();
    let words = ["backup", "--json", "--pack-size", "4", "--workers", "2", "tree"];
    let child = ground.longshore.start(ground.scratch.path(), words);
    let frozen = Frozen::with_index_files(child, restic.repository(), index_files + 1);
    restic.run(["check", "--no-lock", "--read-data"]).expect_code(0);
    assert_eq!((restic.ids("index").len(), restic.ids("locks").len()), (index_files + 1, 1), "it is not at its end");
    frozen.kill();
    restic.run(["unlock"]).expect_code(0);
    restic.assert_clean();
    assert_eq!(restic.snapshots().len(), 1, "a killed job leaves no snapshot");
    let indexed = restic.ids("blobs").iter().filter(|blob| blob.starts_with("data ")).count() as u64;
    assert!(indexed >= 40_000 && indexed < total, "{indexed} of {total} blobs are in an index");
    let backup = ground.longshore.backup(ground.scratch.path(), &["--workers", "2"], ["tree"]);
    println!("{indexed} of {total} data blobs were indexed, {} stored by the next run", backup.count("data_blobs"));
    assert!(backup.count("data_blobs") <= total - indexed, "{}", backup.summary);
    restic.run(["prune"]).expect_code(0);
    ground.assert_right(&backup.snapshot);
}

#[test]
fn heavy_a_removed_lock_and_a_prune_in_mid_job() {
    let ground = Ground::new();
    let frozen = ground.frozen();
    ground.restic.run(["unlock", "--remove-all"]).expect_code(0);
    let packs = packs_in(ground.restic.repository());
    ground.restic.run(["prune"]).expect_code(0);
    assert!(packs_in(ground.restic.repository()) < packs, "the prune took nothing of the job's");
    let outcome = frozen.finish().expect_code(0);
    let backup = Longshore::backed_up(&outcome);
    assert!(outcome.stderr.contains("lock was lost; the backup goes on as a new job"), "{}", outcome.stderr);
    ground.assert_right(&backup.snapshot);
}
