//! SIGTERM while a worker is in the middle of something long.

use std::fs::File;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tests::processes::Process;
use tests::proxy::Kind;
use tests::services::prometheus::figure;

use crate::ground::{Harbour, MIB, assert_same_tree, follow, full, long_file, snapshot_of, timed, wait_for, with_page};

/// What a worker has to leave within, by docker-compose.yml and the kubelet.
const GRACE_SECONDS: f64 = 90.0;

fn partitions(summary: &Value) -> u64 {
    let by_worker = summary["partitions"]["by_worker"].as_object().expect("workers");
    by_worker.values().filter_map(Value::as_u64).sum()
}

#[test]
fn heavy_a_worker_leaves_in_the_middle_of_a_long_range() {
    let size = if full() { 1024 * MIB } else { 256 * MIB };
    // One range: the rest would be shorter than a range.
    let harbour = Harbour::new("fleet-drain").budget(100, 1 << 40, size / 2, size - MIB);
    let (fleet, place) = (&harbour.fleet, harbour.fleet.path("tree"));
    fleet.scratch.folder("tree");
    long_file(&fleet.scratch.join("tree/long"), 1, size);
    let _coordinator = fleet.coordinator(&[]);
    let said = fleet.scratch.join("worker.log");
    let folder = fleet.path("");
    let leaving = Process::start(
        fleet
            .command("worker", &["--slots", "1", "--root", folder.trim_end_matches('/')])
            .stderr(Stdio::from(File::create(&said).expect("a log"))),
    );
    // So slow that the whole range takes minutes.
    harbour.proxy.limit(4 * MIB);
    let job = fleet.run(&["backup", "--detach", &place]).expect_code(0).text().trim().to_owned();
    wait_for("no pack of the range", || harbour.proxy.count_at(Kind::PutBlob, "/data/") > 0);
    let (_other, page) = with_page(|page| fleet.worker(page));
    leaving.signal(Signal::TERM);
    if !full() {
        // The range ends within the time to leave; in a full run it does not, and is handed back.
        wait_for("the worker does not leave", || {
            std::fs::read_to_string(&said).is_ok_and(|said| said.contains("leaves"))
        });
        harbour.proxy.limit(0);
    }
    let (code, seconds) = timed(|| leaving.wait());
    harbour.proxy.limit(0);
    let said = std::fs::read_to_string(&said).expect("a log");
    let handed_back = said.matches("is handed back").count();
    let summary = follow(fleet, &job).expect_code(0).message("summary");
    let started_by_other = figure(page, "longshore_task_attempts_total", &[]);
    eprintln!("left after {seconds:.1} s, {handed_back} handed back, the other started {started_by_other}: {summary}");
    assert_eq!(code, 0, "{said}");
    assert!(seconds < GRACE_SECONDS, "{seconds}");
    assert_eq!(summary["partitions"]["byte_range"].as_u64(), Some(1), "{summary}");
    // Each accepted partition was started once, but for what was handed back.
    assert_eq!(handed_back, usize::from(full()), "{said}");
    assert!(started_by_other <= partitions(&summary) as f64, "{summary}");
    fleet.restic.assert_clean();
    let theirs = fleet.restic.backup(fleet.scratch.path(), &["--force"], [&place]);
    assert_same_tree((&fleet.restic, snapshot_of(&summary)), (&fleet.restic, &theirs.snapshot), &place);
    assert_eq!(theirs.count("data_blobs"), 0);
}
