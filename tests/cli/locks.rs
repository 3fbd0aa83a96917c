//! `unlock`: the lock of a process that was killed goes, the one of a process that lives stays. Who is asked to stop takes
//! its lock along.

use std::process::Command;

use tests::cli::Longshore;
use tests::frozen::Frozen;
use tests::process::Outcome;
use tests::restic::Restic;
use tests::scratch::Scratch;

struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
}

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new("locks");
        let tree = scratch.folder("tree");
        let mut bytes = tests::bytes::Bytes::new(6);
        for number in 0..40 {
            std::fs::write(tree.join(number.to_string()), bytes.vec(1 << 20)).expect("written");
        }
        let restic = Restic::quick(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        Self { scratch, restic, longshore }
    }

    /// A backup that is stopped as soon as its lock is there.
    fn frozen(&self) -> Frozen {
        let child = self.longshore.start(self.scratch.path(), ["backup", "--json", "tree"]);
        Frozen::in_the_middle(child, self.restic.repository(), 0)
    }

    /// A signal that it meets when it goes on.
    fn asked_to_stop(&self, signal: &str) -> Outcome {
        let living = self.frozen();
        let sent = Command::new("kill").args([signal, &living.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "kill {signal}");
        living.finish()
    }

    /// Kills a second backup as soon as its lock is there, too.
    fn kill_another(&self) {
        let mut child = self.longshore.start(self.scratch.path(), ["backup", "--json", "tree"]);
        let locks = self.restic.repository().join("locks");
        let is_whole = |entry: &std::fs::DirEntry| entry.file_name().len() == 64;
        while std::fs::read_dir(&locks).expect("listed").flatten().filter(is_whole).count() < 2 {
            assert!(child.try_wait().expect("asked").is_none(), "the backup ended before its lock was seen");
            std::thread::yield_now();
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    #[track_caller]
    fn removed(&self, words: &[&str]) -> u64 {
        let summary = self.longshore.run([&["unlock", "--json"], words].concat()).expect_code(0).message("summary");
        summary["locks_removed"].as_u64().expect("a count")
    }
}

#[test]
fn the_lock_of_a_killed_backup_is_removed_and_no_other() {
    let ground = Ground::new();
    let living = ground.frozen();
    ground.kill_another();
    assert_eq!(ground.restic.ids("locks").len(), 2);
    assert_eq!(ground.removed(&[]), 1, "one holder is dead, the other stopped only");
    assert_eq!(ground.restic.ids("locks").len(), 1);
    let refused = ground.restic.run(["prune"]).expect_code(11);
    assert!(refused.stderr.contains("already locked"), "{}", refused.stderr);
    let outcome = living.finish().expect_code(0);
    assert!(!outcome.stderr.contains("lock"), "its lock was never gone: {}", outcome.stderr);
    assert_eq!((ground.restic.ids("locks").len(), ground.removed(&[])), (0, 0));
    ground.restic.assert_clean();
}

#[test]
fn all_locks_go_only_when_that_is_asked_for() {
    let ground = Ground::new();
    let living = ground.frozen();
    assert_eq!((ground.removed(&[]), ground.removed(&["--remove-all"])), (0, 1));
    assert!(ground.restic.ids("locks").is_empty());
    living.kill();
    ground.restic.run(["prune"]).expect_code(0);
    ground.restic.assert_clean();
}

#[test]
fn a_backup_that_is_asked_to_stop_leaves_neither_lock_nor_snapshot() {
    let ground = Ground::new();
    for signal in ["-INT", "-TERM"] {
        let outcome = ground.asked_to_stop(signal).expect_code(130);
        assert!(outcome.stderr.contains("the same command goes on where this one was stopped"), "{}", outcome.stderr);
        assert!(ground.restic.ids("locks").is_empty() && ground.restic.snapshots().is_empty(), "{signal}");
        ground.restic.assert_clean();
    }
    let ours = ground.longshore.backup(ground.scratch.path(), &[], ["tree"]);
    let theirs = ground.restic.backup(ground.scratch.path(), &["--force"], ["tree"]);
    assert_eq!(ours.tree, theirs.tree);
}
