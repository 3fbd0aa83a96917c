//! What went in comes out: rsync sees no difference but the socket, whoever restores.

use std::path::Path;

use serde_json::Value;
use tests::cli::Longshore;
use tests::compare::assert_same_but_sockets;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::Torture;

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
        let restic = Restic::init(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
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
    let stored = Stored::new(Torture::of_this_run());
    let tree = stored.scratch.join("tree");
    let (ours, theirs) = (stored.scratch.join("by-longshore"), stored.scratch.join("by-restic"));
    stored.restore(&ours, &["--workers", "2", "--verify"]);
    assert_same_but_sockets(&tree, &ours.join("tree"));
    stored.restic.restore(&stored.snapshot, &theirs);
    assert_same_but_sockets(&tree, &theirs.join("tree"));
}

#[test]
fn longshore_restores_what_restic_stored() {
    let scratch = Scratch::new("round-trip");
    Torture::small().build(&scratch.join("tree"));
    let restic = Restic::init(scratch.path());
    restic.backup(scratch.path(), &["--host", "elsewhere"], ["tree"]);
    let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
    let target = scratch.join("restored");
    let words = ["restore", "latest", "--host", "elsewhere", "--target", target.to_str().expect("a plain name")];
    longshore.run(words).expect_code(0);
    assert_same_but_sockets(&scratch.join("tree"), &target.join("tree"));
}

#[test]
fn a_second_restore_writes_nothing_and_a_changed_one_what_differs() {
    let stored = Stored::new(Torture::wide());
    let tree = stored.scratch.join("tree");
    let target = stored.scratch.join("restored");
    let first = bytes_written(&stored.restore(&target, &[]));
    assert!(first > 0);
    assert_eq!(bytes_written(&stored.restore(&target, &[])), 0);
    assert_same_but_sockets(&tree, &target.join("tree"));
    let mutation = tests::mutate::mutate(&target, 1, 11);
    let again = bytes_written(&stored.restore(&target, &["--delete"]));
    println!("{} files differed: {again} of {first} bytes written", mutation.count());
    assert!(again > 0 && again <= first / 10, "{again} of {first} bytes for {mutation:?}");
    assert_same_but_sockets(&tree, &target.join("tree"));
}

#[test]
fn sparse_restores_keep_holes_and_contents() {
    use std::os::unix::fs::MetadataExt;
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
