//! Damage that is looked for on request: in the packs of a repository, and in what a restore has just written.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::cli::Longshore;
use tests::process::Outcome;
use tests::restic::Restic;
use tests::scratch::Scratch;

const MIB: usize = 1 << 20;
/// Of the file; long enough that somebody can meddle while it is written.
const FILE_BYTES: usize = 48 * MIB;

struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
}

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new("damage");
        std::fs::write(scratch.folder("tree").join("file"), tests::bytes::Bytes::new(7).vec(FILE_BYTES))
            .expect("written");
        let restic = Restic::quick(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        longshore.backup(scratch.path(), &["--pack-size", "4"], ["tree"]);
        Self { scratch, restic, longshore }
    }

    /// Restores while somebody else writes into the file all the time.
    fn restore_with_a_meddler(&self, target: &str, words: &[&str]) -> Outcome {
        let (file, ended) = (self.scratch.join(target).join("tree/file"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    meddle(&file);
                    std::thread::yield_now();
                }
            });
            let words = [&["restore", "latest", "--target", target], words].concat();
            let outcome = self.longshore.run_in(self.scratch.path(), words);
            ended.store(true, Ordering::SeqCst);
            outcome
        })
    }
}

/// Writes into each MiB of a file, if it is there.
fn meddle(file: &Path) {
    let Ok(file) = std::fs::OpenOptions::new().write(true).open(file) else { return };
    for at in (0..FILE_BYTES).step_by(MIB) {
        file.write_all_at(b"meddled with", at as u64).expect("written");
    }
}

#[test]
fn what_reads_differently_than_it_was_written_is_found() {
    let ground = Ground::new();
    let outcome = ground.restore_with_a_meddler("verified", &["--verify"]).expect_code(1);
    assert!(outcome.stderr.contains("tree/file") && outcome.stderr.contains("reads differently"), "{}", outcome.stderr);
    // Without the flag nobody looks.
    ground.restore_with_a_meddler("plain", &[]).expect_code(0);
    let words = ["restore", "latest", "--json", "--verify", "--target", "verified"];
    let summary = ground.longshore.run_in(ground.scratch.path(), words).expect_code(0).message("summary");
    assert_eq!(summary["files_verified"], 1, "{summary}");
    let restored = std::fs::read(ground.scratch.join("verified/tree/file")).expect("read");
    assert!(restored == tests::bytes::Bytes::new(7).vec(FILE_BYTES), "a second restore puts it right");
}

#[test]
fn each_pack_is_in_one_part_of_a_subset() {
    const PARTS: u32 = 3;
    let ground = Ground::new();
    let place = |pack: &String| ground.restic.repository().join("data").join(&pack[..2]).join(pack);
    // A long one, which does not hold trees.
    let length = |pack: &String| place(pack).metadata().map_or(0, |metadata| metadata.len());
    let pack = ground.restic.ids("packs").into_iter().max_by_key(length).expect("a pack");
    let path = place(&pack);
    let part = |number: u32| ground.longshore.run(["check", "--read-data-subset", &format!("{number}/{PARTS}")]);
    for number in 1..=PARTS {
        part(number).expect_code(0);
    }
    let mut bytes = std::fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, bytes).expect("written");
    ground.longshore.run(["check"]).expect_code(0);
    let found: Vec<Outcome> = (1..=PARTS).map(part).filter(|outcome| outcome.code != 0).collect();
    assert_eq!(found.len(), 1, "one part has the pack");
    let found = found.into_iter().next().expect("one").expect_code(8);
    assert!(found.stderr.contains(&pack[..8]) && !found.stderr.contains("panicked"), "{}", found.stderr);
    ground.longshore.run(["check", "--read-data-subset", "100%"]).expect_code(8);
}
