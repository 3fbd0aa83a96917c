//! What went in comes out: rsync sees no difference but the socket, whoever restores.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::cli::Longshore;
use tests::compare::assert_same_but_sockets;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::{Large, Torture};

/// The torture tree in a repository.
struct Stored {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
    snapshot: String,
}

impl Stored {
    fn new(torture: Torture) -> Self {
        let scratch = Scratch::new("round-trip");
        torture.build(&scratch.join("tree"));
        Self::of(scratch)
    }

    /// Of a folder whose tree is there.
    fn of(scratch: Scratch) -> Self {
        Self::with_partitions(scratch, |longshore| longshore)
    }

    /// The same, with other partitions in all that longshore does.
    fn with_partitions(scratch: Scratch, cut: impl FnOnce(Longshore) -> Longshore) -> Self {
        let restic = Restic::quick(scratch.path());
        let longshore = cut(Longshore::with_repository(restic.repository(), restic.password_file()));
        let snapshot = longshore.backup(scratch.path(), &["--workers", "2"], ["tree"]).snapshot;
        Self { scratch, restic, longshore, snapshot }
    }

    /// Restores with longshore and returns its summary.
    #[track_caller]
    fn restore(&self, target: &Path, arguments: &[&str]) -> Value {
        let target = target.to_str().expect("a plain name");
        let words = [&["restore", "--json", &self.snapshot, "--target", target], arguments].concat();
        self.longshore.run_in(self.scratch.path(), words).expect_code(0).message("summary")
    }
}

fn bytes_written(summary: &Value) -> u64 {
    summary["bytes_written"].as_u64().unwrap_or_else(|| panic!("no bytes_written in {summary}"))
}

#[test]
fn heavy_both_restore_what_longshore_stored() {
    let (scratch, torture) = (Scratch::new("round-trip"), Torture::of_this_run());
    torture.build(&scratch.join("tree"));
    let range = torture.large.unwrap_or(Large::GATE).range;
    let stored = Stored::with_partitions(scratch, |longshore| longshore.budget(2_000, range, 2 * range, range));
    let tree = stored.scratch.join("tree");
    let (ours, theirs) = (stored.scratch.join("by-longshore"), stored.scratch.join("by-restic"));
    stored.restore(&ours, &["--workers", "2", "--verify"]);
    assert_same_but_sockets(&tree, &ours.join("tree"));
    assert_eq!(bytes_written(&stored.restore(&ours, &["--workers", "2"])), 0);
    stored.restic.restore(&stored.snapshot, &theirs);
    assert_same_but_sockets(&tree, &theirs.join("tree"));
}

#[test]
fn longshore_restores_what_restic_stored() {
    let scratch = Scratch::new("round-trip");
    Torture::small().build(&scratch.join("tree"));
    let restic = Restic::quick(scratch.path());
    restic.backup(scratch.path(), &["--host", "elsewhere"], ["tree"]);
    let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
    let target = scratch.join("restored");
    let words = ["restore", "latest", "--host", "elsewhere", "--target", target.to_str().expect("a plain name")];
    longshore.run(words).expect_code(0);
    assert_same_but_sockets(&scratch.join("tree"), &target.join("tree"));
}

/// Name, time of the last change of the inode, and inode of everything below a folder: what a write would change. Not of
/// directories: whoever lists one changes its time of access, which the next restore sets again.
fn touched(folder: &Path) -> Vec<String> {
    let mut find = std::process::Command::new("find");
    let outcome = tests::process::run(find.arg(folder).args(["!", "-type", "d", "-printf", "%P %C@ %i\\0"]));
    let text = String::from_utf8_lossy(&outcome.expect_code(0).stdout).into_owned();
    let mut lines: Vec<String> = text.split('\0').map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Bytes of the originals of files in `restored`.
fn original_bytes(tree: &Path, restored: &Path, files: &[PathBuf]) -> u64 {
    let original = |file: &PathBuf| tree.join(file.strip_prefix(restored).expect("it is in there"));
    files.iter().map(|file| original(file).metadata().expect("an original").len()).sum()
}

#[test]
fn a_second_restore_writes_nothing_and_a_changed_one_what_differs() {
    let stored = Stored::new(Torture::wide());
    let tree = stored.scratch.join("tree");
    let target = stored.scratch.join("restored");
    let first = bytes_written(&stored.restore(&target, &[]));
    assert!(first > 0);
    let before = touched(&target);
    assert_eq!(bytes_written(&stored.restore(&target, &[])), 0);
    let after = touched(&target);
    let differing: Vec<_> = after.iter().filter(|line| before.binary_search(line).is_err()).collect();
    assert!(after.len() == before.len() && differing.is_empty(), "touched: {differing:?}");
    assert_same_but_sockets(&tree, &target.join("tree"));
    let mutation = tests::mutate::mutate(&target, 1, 11);
    let lost = [&mutation.changed, &mutation.removed].map(|files| original_bytes(&tree, &target.join("tree"), files));
    let again = bytes_written(&stored.restore(&target, &["--delete"]));
    println!("{} files differed, of {lost:?} bytes: {again} of {first} bytes written", mutation.count());
    assert!(again > 0 && again <= lost.iter().sum(), "{again} of {first} bytes for {mutation:?}");
    assert_same_but_sockets(&tree, &target.join("tree"));
}

/// The chunker's largest chunk: what a restore compares, and writes, as one.
const CHUNK_MAX: u64 = 8 << 20;

#[test]
fn of_a_large_file_the_changed_chunks_are_written() {
    const SIZE: usize = 64 << 20;
    const PLACES: u64 = 3;
    let scratch = Scratch::new("round-trip");
    let content = tests::bytes::Bytes::new(12).vec(SIZE);
    std::fs::write(scratch.folder("tree").join("file"), &content).expect("written");
    let stored = Stored::of(scratch);
    let target = stored.scratch.join("restored");
    assert_eq!(bytes_written(&stored.restore(&target, &[])), SIZE as u64);
    let restored = target.join("tree/file");
    let inode = restored.metadata().expect("restored").ino();
    let file = std::fs::OpenOptions::new().write(true).open(&restored).expect("opened");
    for place in 1..=PLACES {
        file.write_all_at(b"changed", place * SIZE as u64 / (PLACES + 1)).expect("written");
    }
    let again = bytes_written(&stored.restore(&target, &[]));
    println!("{again} of {SIZE} bytes written for {PLACES} changed places");
    assert!(again > 0 && again <= PLACES * CHUNK_MAX, "{again} bytes");
    assert!(std::fs::read(&restored).expect("read") == content);
    assert_eq!(restored.metadata().expect("restored").ino(), inode, "the file is not another one");
}

#[test]
fn sparse_restores_keep_holes_and_contents() {
    let stored = Stored::new(Torture::small());
    let target = stored.scratch.join("restored");
    stored.restore(&target, &["--sparse"]);
    assert_same_but_sockets(&stored.scratch.join("tree"), &target.join("tree"));
    let hole = target.join("tree/contents/hole").metadata().expect("restored");
    assert!(hole.blocks() * 512 < hole.size() / 4, "{} blocks for {} bytes", hole.blocks(), hole.size());
}

#[test]
fn a_part_and_a_selection() {
    let stored = Stored::new(Torture::small());
    let target = stored.scratch.join("part");
    let name = format!("{}:tree/names", stored.snapshot);
    let text = target.to_str().expect("a plain name");
    stored.longshore.run(["restore", &name, "--target", text]).expect_code(0);
    let lines = tests::compare::differences(&stored.scratch.join("tree/names"), &target);
    // Metadata of the part's own root belongs to the target, which was there first.
    assert!(lines.iter().all(|line| line.ends_with(" ./")), "{lines:?}");
    let selected = stored.scratch.join("selected");
    stored.restore(&selected, &["--include", "tree/contents/text"]);
    let list = tests::process::run(std::process::Command::new("find").arg(&selected).args(["-type", "f"]));
    assert_eq!(list.text().trim(), selected.join("tree/contents/text").display().to_string());
    let dry = stored.scratch.join("dry");
    stored.restore(&dry, &["--dry-run"]);
    assert!(!dry.exists() || dry.read_dir().expect("listed").next().is_none());
}
