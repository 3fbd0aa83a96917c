//! Memory of the processes of a fleet does not grow with the data set. Without `LONGSHORE_TEST_FULL` the trees are small, and
//! only the way is tried.

use tests::memory::peak_so_far;
use tests::processes::{Fleet, Process};
use tests::trees::Vast;

use crate::ground::{assert_same_tree, full, snapshot_of};

/// For a worker with two slots, and for the coordinator.
const PEAK_MIB_MAX: u64 = 300;

/// The processes, and what they took after each step.
struct Meter<'fleet> {
    fleet: &'fleet Fleet,
    coordinator: Process,
    workers: Vec<Process>,
}

impl Meter<'_> {
    fn run(&self, words: &[&str]) -> serde_json::Value {
        let summary = self.fleet.run(words).expect_code(0).message("summary");
        let coordinator = peak_so_far(self.coordinator.id());
        let workers: Vec<u64> = self.workers.iter().map(|worker| peak_so_far(worker.id())).collect();
        eprintln!("peaks in MiB after {}: coordinator {coordinator}, workers {workers:?}", words[0]);
        let most = workers.iter().copied().fold(coordinator, u64::max);
        assert!(most < PEAK_MIB_MAX, "{most} MiB after {words:?}");
        summary
    }
}

fn measure(what: Vast) {
    eprintln!("{what:?}");
    let fleet = Fleet::new("fleet-memory").budget(10_000, 1 << 30, 2 << 30, 1 << 30);
    let (place, target) = (fleet.path("tree"), fleet.path("restored"));
    what.build(&fleet.scratch.join("tree"));
    let (coordinator, workers) = (fleet.coordinator(&[]), vec![fleet.worker(&[]), fleet.worker(&[])]);
    let meter = Meter { fleet: &fleet, coordinator, workers };
    let ours = meter.run(&["backup", "--json", &place]);
    let theirs = fleet.restic.backup(fleet.scratch.path(), &["--force"], [&place]);
    assert_same_tree((&fleet.restic, snapshot_of(&ours)), (&fleet.restic, &theirs.snapshot), &place);
    assert_eq!(theirs.count("data_blobs"), 0, "{}", theirs.summary);
    meter.run(&["check", "--read-data", "--json"]);
    meter.run(&["restore", &format!("latest:{place}"), "--json", "--sparse", "--target", &target]);
}

#[test]
fn heavy_memory_of_a_fleet_for_many_tiny_files() {
    measure(Vast::TinyFiles(if full() { 500_000 } else { 3_000 }));
}

#[test]
fn heavy_memory_of_a_fleet_for_a_wide_directory() {
    measure(Vast::WideDirectory(if full() { 1_000_000 } else { 6_000 }));
}

#[test]
fn heavy_memory_of_a_fleet_for_a_sparse_file() {
    measure(Vast::SparseFile(if full() { 20 << 30 } else { 512 << 20 }));
}
