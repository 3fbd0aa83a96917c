//! A second backup costs what has changed and no more.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tests::cli::Longshore;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::Torture;

fn longshore(restic: &Restic) -> Longshore {
    Longshore::with_repository(restic.repository(), restic.password_file())
}

#[test]
fn an_unchanged_tree_writes_no_pack() {
    let scratch = Scratch::new("second-run");
    Torture::wide().build(&scratch.join("tree"));
    let restic = Restic::init(scratch.path());
    let longshore = longshore(&restic).budget(500, 8 << 20, 16 << 20, 8 << 20);
    let first = longshore.backup(scratch.path(), &["--workers", "2"], ["tree"]);
    let packs = restic.ids("packs");
    let second = longshore.backup(scratch.path(), &["--workers", "2"], ["tree"]);
    assert_eq!(second.tree, first.tree);
    for count in ["packs", "data_blobs", "tree_blobs", "data_added", "files_new", "files_changed"] {
        assert_eq!(second.count(count), 0, "{count}: {}", second.summary);
    }
    assert_eq!(restic.ids("packs"), packs);
    assert_eq!(restic.snapshots().len(), 2);
}

#[test]
fn a_changed_percent_adds_what_restic_adds() {
    let scratch = Scratch::new("second-run");
    let tree = scratch.join("tree");
    Torture::wide().build(&tree);
    let restic = Restic::init(scratch.path());
    let longshore = longshore(&restic);
    longshore.backup(scratch.path(), &[], ["tree"]);
    let twin = copied(&restic, &scratch.join("twin"));
    let mutation = tests::mutate::mutate(&tree, 1, 21);
    let ours = longshore.backup(scratch.path(), &["--workers", "2"], ["tree"]);
    let theirs = twin.backup(scratch.path(), &[], ["tree"]);
    println!("{} files touched: {} new data blobs", mutation.count(), theirs.count("data_blobs"));
    assert_eq!(ours.tree, theirs.tree);
    assert_eq!(ours.count("data_blobs") - ours.chunks_before_seams(), theirs.count("data_blobs"), "{}", ours.summary);
    for count in ["tree_blobs", "files_new", "files_changed", "files_unmodified"] {
        assert_eq!(ours.count(count), theirs.count(count), "{count}: {} {}", ours.summary, theirs.summary);
    }
}

#[test]
fn of_a_changed_large_file_come_the_blobs_of_restic_and_those_before_seams() {
    const MIB: u64 = 1 << 20;
    let scratch = Scratch::new("second-run");
    let mut content = tests::bytes::Bytes::new(31).vec(64 << 20);
    let file = scratch.folder("tree").join("file");
    std::fs::write(&file, &content).expect("written");
    let restic = Restic::quick(scratch.path());
    let longshore = longshore(&restic).budget(500, 8 * MIB, 16 * MIB, 8 * MIB);
    longshore.backup(scratch.path(), &["--workers", "2"], ["tree"]);
    let twin = copied(&restic, &scratch.join("twin"));
    // One percent in one piece, and everything behind it moved.
    content.splice((30 << 20)..(30 << 20), tests::bytes::Bytes::new(32).vec(640 << 10));
    std::fs::write(&file, &content).expect("written");
    let before: BTreeSet<String> = restic.ids("blobs").into_iter().collect();
    let ours = longshore.backup(scratch.path(), &["--workers", "2"], ["tree"]);
    let theirs = twin.backup(scratch.path(), &[], ["tree"]);
    assert_eq!(ours.tree, theirs.tree);
    assert!(ours.partitions("byte_range") > 2 && ours.seams("matched") > 0, "{}", ours.summary);
    let new = |restic: &Restic| -> BTreeSet<String> {
        restic.ids("blobs").into_iter().filter(|blob| !before.contains(blob)).collect()
    };
    let (found, expected) = (new(&restic), new(&twin));
    let surplus = found.difference(&expected).count() as u64;
    println!("{} new blobs by restic, {surplus} more before seams", expected.len());
    assert!(expected.is_subset(&found) && surplus <= ours.chunks_before_seams(), "{}", ours.summary);
}

#[test]
fn heavy_packs_are_not_crumbs() {
    const WORKERS: u64 = 2;
    let scratch = Scratch::new("second-run");
    Torture::of_this_run().build(&scratch.join("tree"));
    let (ours, theirs) = (scratch.folder("ours"), scratch.folder("theirs"));
    let (ours, theirs) = (Restic::init(&ours), Restic::quick(&theirs));
    let backup = longshore(&ours).backup(scratch.path(), &["--workers", &WORKERS.to_string()], ["tree"]);
    theirs.backup(scratch.path(), &[], ["tree"]);
    let (packs, expected) = (ours.ids("packs").len() as u64, theirs.ids("packs").len() as u64);
    let group_commits = backup.count("group_commits");
    println!("{packs} packs with {group_commits} group commits, {expected} by restic");
    assert!(packs <= expected * 6 / 5 + 3 * WORKERS + 2 * group_commits, "{}", backup.summary);
    // Whoever commits all the time makes crumbs too.
    assert!(group_commits <= 4 * WORKERS + packs / 20, "{}", backup.summary);
}

/// The repository again, under another name with the same password.
fn copied(restic: &Restic, folder: &Path) -> Restic {
    let mut command = Command::new("cp");
    tests::process::run(command.arg("-a").arg(restic.repository()).arg(folder)).expect_code(0);
    Restic::at(folder, restic.password_file())
}
