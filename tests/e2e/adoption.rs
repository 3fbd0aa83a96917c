//! A team may come with its restic repository and go back the next day: nothing is stored twice, in either direction.

use std::collections::BTreeSet;

use tests::cli::{Backup, Longshore};
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::{Large, Torture};

/// Small partitions, so that every way of cutting is on the path.
fn longshore(restic: &Restic, large: Large) -> Longshore {
    Longshore::with_repository(restic.repository(), restic.password_file()).budget(
        200,
        large.range,
        2 * large.range,
        large.range,
    )
}

/// The chunker's smallest chunk (but for the last one of a file).
const CHUNK_MIN: u64 = 512 << 10;
/// So far behind the end of a range its chain of cuts and the next one's are followed until they share a cut.
const FOLLOWED_MAX: u64 = 64 << 20;

/// Chunks that no file has, at most: of a matched seam those before the shared cut, of one that is done again all of
/// the next range, which goes on to a shared cut itself.
fn surplus_max(backup: &Backup, large: Large) -> u64 {
    let matched = backup.seams("matched") * (FOLLOWED_MAX / CHUNK_MIN);
    let last_range = large.size % large.range + large.range;
    matched + backup.seams("redone") * (last_range + FOLLOWED_MAX) / CHUNK_MIN
}

#[test]
fn heavy_longshore_adds_nothing_after_restic() {
    let (scratch, restic, large) = prepared();
    let first = restic.backup(scratch.path(), &[], ["tree"]);
    let before = restic.ids("blobs");
    let second = longshore(&restic, large).backup(scratch.path(), &["--force", "--workers", "5"], ["tree"]);
    assert_eq!(second.tree, first.tree);
    assert_eq!(second.count("tree_blobs"), 0, "{}", second.summary);
    let (surplus, bound) = (second.chunks_before_seams(), surplus_max(&second, large));
    println!("chunks before a seam's shared cut: {surplus}, {bound} at most");
    assert!(surplus <= bound, "{}", second.summary);
    // Such chunks are counted each; where they are alike, or stored already, they are fewer blobs.
    assert!(second.count("data_blobs") <= surplus, "{}", second.summary);
    // What came is not in a file, as restic stored all of those: it must be new, or something is stored twice.
    let after = restic.ids("blobs");
    let distinct: BTreeSet<&String> = after.iter().collect();
    assert_eq!((after.len() - before.len()) as u64, second.count("data_blobs"), "{}", second.summary);
    assert_eq!(distinct.len(), after.len(), "a blob is stored twice");
}

#[test]
fn heavy_restic_adds_nothing_after_longshore() {
    let (scratch, restic, large) = prepared();
    let first = longshore(&restic, large).backup(scratch.path(), &["--workers", "5"], ["tree"]);
    restic.assert_clean();
    let second = restic.backup(scratch.path(), &["--force"], ["tree"]);
    assert_eq!(second.tree, first.tree);
    assert_eq!((second.count("data_blobs"), second.count("tree_blobs")), (0, 0), "{}", second.summary);
    // Without --force restic takes our snapshot as parent and finds every file unchanged.
    let third = restic.backup(scratch.path(), &[], ["tree"]);
    assert_eq!((third.count("files_new"), third.count("files_changed")), (0, 0), "{}", third.summary);
}

/// A repository made by longshore's own init is one for restic too.
#[test]
fn restic_opens_what_longshore_made() {
    let scratch = Scratch::new("adoption");
    Torture::small().build(&scratch.join("tree"));
    let password = scratch.file("password", tests::restic::PASSWORD);
    let restic = Restic::at(&scratch.join("repository"), &password);
    let longshore = Longshore::with_repository(restic.repository(), &password);
    longshore.run(["init"]).expect_code(0);
    let ours = longshore.backup(scratch.path(), &[], ["tree"]);
    let theirs = restic.backup(scratch.path(), &["--force"], ["tree"]);
    assert_eq!(ours.tree, theirs.tree);
    restic.assert_clean();
    longshore.run(["check", "--read-data"]).expect_code(0);
    restic.run(["forget", "--prune", &ours.snapshot]).expect_code(0);
    longshore.run(["check", "--read-data"]).expect_code(0);
}

fn prepared() -> (Scratch, Restic, Large) {
    let scratch = Scratch::new("adoption");
    let torture = Torture { linked_specials: true, ..Torture::of_this_run() };
    torture.build(&scratch.join("tree"));
    let restic = Restic::init(scratch.path());
    (scratch, restic, torture.large.unwrap_or(Large::GATE))
}
