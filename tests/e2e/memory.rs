//! Memory does not grow with the data set. Without `LONGSHORE_TEST_FULL` the trees are small, and only the way is tried.

use std::path::Path;
use std::process::Command;

use tests::cli::Longshore;
use tests::memory::peak_of;
use tests::process::Outcome;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::Vast;

/// For one process with two workers.
const PEAK_MIB_MAX: u64 = 450;

fn full() -> bool {
    std::env::var_os("LONGSHORE_TEST_FULL").is_some()
}

/// Commands on one repository whose peaks are noted.
struct Meter<'scratch> {
    longshore: Longshore,
    folder: &'scratch Path,
    peaks: Vec<String>,
}

impl Meter<'_> {
    fn run(&mut self, words: &[&str]) -> Outcome {
        let mut command = Command::new(self.longshore.binary());
        command.args(words);
        self.longshore.dress(&mut command);
        let (outcome, peak) = peak_of(command.current_dir(self.folder));
        let outcome = outcome.expect_code(0);
        self.peaks.push(format!("{} {peak}", words[..words.len().min(2)].join(" ")));
        assert!(peak < PEAK_MIB_MAX, "{peak} MiB: {}", outcome.command);
        outcome
    }
}

fn measure(what: Vast) {
    let scratch = Scratch::new("memory");
    what.build(&scratch.join("tree"));
    let restic = Restic::init(scratch.path());
    let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
    let mut meter = Meter { longshore, folder: scratch.path(), peaks: Vec::new() };
    let ours = Longshore::backed_up(&meter.run(&["backup", "--json", "--workers", "2", "tree"]));
    let theirs = restic.backup(scratch.path(), &["--force"], ["tree"]);
    assert_eq!(ours.tree, theirs.tree);
    assert_eq!((theirs.count("data_blobs"), theirs.count("tree_blobs")), (0, 0), "{}", theirs.summary);
    meter.run(&["check"]);
    meter.run(&["check", "--read-data"]);
    meter.run(&["restore", "latest", "--workers", "2", "--sparse", "--target", "restored"]);
    eprintln!("{what:?}, peaks in MiB: {}", meter.peaks.join(", "));
}

#[test]
fn heavy_memory_for_many_tiny_files() {
    measure(Vast::TinyFiles(if full() { 500_000 } else { 3_000 }));
}

#[test]
fn heavy_memory_for_a_wide_directory() {
    measure(Vast::WideDirectory(if full() { 1_000_000 } else { 6_000 }));
}

#[test]
fn heavy_memory_for_a_sparse_file() {
    measure(Vast::SparseFile(if full() { 20 << 30 } else { 512 << 20 }));
}
