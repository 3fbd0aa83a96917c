//! What the tests of whole fleets stand on: an emulator behind a proxy, four workers, data, and the figures of this run.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use fleet::clock::SystemClock;
use proto::handles::Clock;
use serde_json::Value;
use tests::azurite::{ACCOUNT, Azurite};
use tests::bytes::Bytes;
use tests::process::Outcome;
use tests::processes::{Fleet, Process};
use tests::proxy::Proxy;
use tests::restic::Restic;
use tests::services::{free_port, pause};

pub(crate) const MIB: u64 = 1 << 20;

/// Whether the large data sets are wanted.
pub(crate) fn full() -> bool {
    std::env::var_os("LONGSHORE_TEST_FULL").is_some()
}

/// A fleet whose repository is in an emulator behind a proxy.
pub(crate) struct Harbour {
    pub(crate) fleet: Fleet,
    pub(crate) proxy: Proxy,
    /// Ended last.
    _azurite: Azurite,
}

impl Harbour {
    pub(crate) fn new(purpose: &str) -> Self {
        let azurite = Azurite::start();
        let proxy = Proxy::before(azurite.port());
        let endpoint = format!("http://127.0.0.1:{}/{ACCOUNT}", proxy.port());
        Self { fleet: Fleet::in_azure(purpose, &azurite, &endpoint), proxy, _azurite: azurite }
    }

    /// With other partitions than tiny ones.
    pub(crate) fn budget(self, entries: u64, bytes: u64, threshold: u64, range: u64) -> Self {
        Self { fleet: self.fleet.budget(entries, bytes, threshold, range), ..self }
    }

    /// Runs a job to its end; returns its summary and the seconds that it took.
    #[track_caller]
    pub(crate) fn job(&self, words: &[&str]) -> (Value, f64) {
        let (outcome, seconds) = timed(|| self.fleet.run(words));
        (outcome.expect_code(0).message("summary"), seconds)
    }
}

/// What `work` gives, and the seconds that it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let done = work();
    (done, clock.monotonic().saturating_sub(began).as_secs_f64())
}

/// A process with a page, and the port of that.
pub(crate) fn with_page(start: impl FnOnce(&[&str]) -> Process) -> (Process, u16) {
    let port = free_port();
    (start(&["--listen", &format!("127.0.0.1:{port}")]), port)
}

/// Waits so long that a test which waits for ever fails, and asks often.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    let until = clock.monotonic() + Duration::from_secs(300);
    while !is_there() {
        assert!(clock.monotonic() < until, "{what}");
        pause(Duration::from_millis(10));
    }
}

/// A number of a summary.
#[track_caller]
pub(crate) fn count(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {summary}"))
}

/// The snapshot that a backup made.
#[track_caller]
pub(crate) fn snapshot_of(summary: &Value) -> &str {
    summary["snapshot_id"].as_str().unwrap_or_else(|| panic!("no snapshot in {summary}"))
}

/// Both snapshots have the same tree at `place`. Above it are directories that change while other tests run.
#[track_caller]
pub(crate) fn assert_same_tree(left: (&Restic, &str), right: (&Restic, &str), place: &str) {
    let tree = |(restic, snapshot): (&Restic, &str)| restic.cat(&["tree", &format!("{snapshot}:{place}")]);
    assert!(tree(left) == tree(right), "the trees of {} and {} differ at {place}", left.1, right.1);
}

/// What follows a job that was submitted before.
pub(crate) fn follow(fleet: &Fleet, job: &str) -> Outcome {
    fleet.run(&["job", "follow", job, "--json"])
}

/// Writes `files` files of `bytes` in the mean, 500 in a folder: a third compresses well, a third is half as long, a third
/// half as long again.
pub(crate) fn many_files(root: &Path, files: u64, bytes: u64) {
    for number in 0..files {
        let folder = root.join(format!("{:04}", number / 500));
        if number % 500 == 0 {
            std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        let mut random = Bytes::part(4, number);
        let length = |halves: u64| usize::try_from(bytes * halves / 2).expect("it fits");
        let content = match number % 3 {
            0 => random.text(length(2)),
            1 => random.vec(length(1)),
            _ => random.vec(length(3)),
        };
        let path = folder.join(format!("file {number}"));
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Writes one long file that does not compress, another one for each seed.
pub(crate) fn long_file(path: &Path, seed: u64, bytes: u64) {
    let broken = |error: std::io::Error| -> ! { panic!("{}: {error}", path.display()) };
    let mut file = File::create(path).unwrap_or_else(|error| broken(error));
    let mut piece = vec![0; MIB as usize];
    for number in 0..bytes / MIB {
        Bytes::part(seed, 0x1000_0000 + number).fill(&mut piece);
        file.write_all(&piece).unwrap_or_else(|error| broken(error));
    }
}
