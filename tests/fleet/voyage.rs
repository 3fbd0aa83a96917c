//! One coordinator and four workers on RabbitMQ, Redis and blob storage: what they store is what stock restic stores.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tests::mutate::mutate;
use tests::process;
use tests::processes::{Fleet, Process};
use tests::proxy::{Fault, Kind};
use tests::restic::Restic;
use tests::services::prometheus::figure;
use tests::trees::Torture;

use crate::ground::{
    Harbour, MIB, assert_same_tree, count, follow, full, long_file, many_files, snapshot_of, timed, wait_for, with_page,
};

fn four_workers(fleet: &Fleet) -> [Process; 4] {
    [(); 4].map(|()| fleet.worker(&[]))
}

/// Stock restic finds no damage anywhere, comes to the same tree, and finds every blob of it there.
#[track_caller]
fn assert_restic_agrees(fleet: &Fleet, summary: &Value, place: &str) {
    fleet.restic.assert_clean();
    let theirs = fleet.restic.backup(fleet.scratch.path(), &["--force"], [place]);
    assert_same_tree((&fleet.restic, snapshot_of(summary)), (&fleet.restic, &theirs.snapshot), place);
    let above = place.matches('/').count() as u64;
    assert_eq!(theirs.count("data_blobs"), 0, "{}", theirs.summary);
    assert!(theirs.count("tree_blobs") <= above, "{}", theirs.summary);
    assert_eq!(fleet.restic.ids("locks"), Vec::<String>::new());
}

/// Nothing was stored but folders above the place, in which other tests are at work.
#[track_caller]
fn assert_stored_nothing(summary: &Value, place: &str) {
    assert_eq!(count(summary, "data_blobs"), 0, "{summary}");
    let above = place.matches('/').count() as u64;
    let trees = count(summary, "tree_blobs");
    assert!(trees <= above && count(summary, "packs") <= u64::from(trees > 0), "{summary}");
}

/// The repository in a folder, copied by a client that knows nothing of its format.
fn clone_of(fleet: &Fleet, folder: &Path) -> Restic {
    let mut copy = Command::new("rclone");
    fleet.restic.dress(&mut copy);
    process::run(copy.args(["copy", "--transfers", "8", "az:box/fleet"]).arg(folder)).expect_code(0);
    Restic::at(folder, fleet.restic.password_file())
}

/// Ids of data blobs.
fn data_blobs(restic: &Restic) -> BTreeSet<String> {
    restic.ids("blobs").into_iter().filter(|blob| blob.starts_with("data ")).collect()
}

/// Stock restic reads every byte while three workers stand still with what they hold and a fourth goes on.
fn check_in_mid_job(harbour: &Harbour, workers: &[Process]) {
    let fleet = &harbour.fleet;
    wait_for("no index file in mid-job", || harbour.proxy.count_at(Kind::PutBlob, "/index/") > 0);
    workers[1..].iter().for_each(|worker| worker.signal(Signal::STOP));
    let checked = fleet.restic.run(["--no-lock", "check", "--read-data"]).expect_code(0);
    assert!(checked.text().contains("no errors were found"), "{}", checked.text());
    assert_eq!(fleet.restic.snapshots(), Vec::<Value>::new(), "the job is over: nothing was shown");
    workers[1..].iter().for_each(|worker| worker.signal(Signal::CONT));
    let indexes = fleet.restic.ids("index").len();
    eprintln!("mid-job check --read-data: clean, {indexes} index files, no snapshot yet");
}

#[test]
fn heavy_a_voyage_ends_where_restic_does() {
    // In a full run more blobs than an index file takes, so that there is one in mid-job.
    let (files, bytes, long, range) =
        if full() { (64_000, 52 << 10, 1024 * MIB, 128 * MIB) } else { (3_000, 9_000, 32 * MIB, 8 * MIB) };
    let harbour = Harbour::new("fleet-voyage").budget(if full() { 1_000 } else { 200 }, 128 * MIB, range, range);
    let (fleet, place) = (&harbour.fleet, harbour.fleet.path("tree"));
    many_files(&fleet.scratch.join("tree"), files, bytes);
    long_file(&fleet.scratch.join("tree/long"), 1, long);
    let (_coordinator, workers) = (fleet.coordinator(&[]), four_workers(fleet));
    let (job, seconds) = timed(|| {
        let job = fleet.run(&["backup", "--detach", &place]).expect_code(0).text().trim().to_owned();
        if full() {
            check_in_mid_job(&harbour, &workers);
        }
        job
    });
    let first = follow(fleet, &job).expect_code(0).message("summary");
    eprintln!("first run ({seconds:.1} s before it was followed): {first}");
    assert_eq!(count(&first, "files_new"), files + 1);
    assert!(first["partitions"]["by_worker"].as_object().is_some_and(|workers| workers.len() == 4), "{first}");
    assert!(first["partitions"]["byte_range"].as_u64() >= Some(4), "{first}");
    fleet.restic.assert_clean();
    second_run(&harbour, &place, &first);
    changed_run(&harbour, &place);
}

/// Nothing is stored twice.
fn second_run(harbour: &Harbour, place: &str, first: &Value) {
    let (second, seconds) = harbour.job(&["backup", "--json", place]);
    assert_stored_nothing(&second, place);
    assert_same_tree((&harbour.fleet.restic, snapshot_of(first)), (&harbour.fleet.restic, snapshot_of(&second)), place);
    // A full first run was held up by a check.
    let took = first["total_duration"].as_f64().unwrap_or_default();
    eprintln!("second run: {seconds:.1} s, first: {took:.1} s");
    assert_restic_agrees(&harbour.fleet, &second, place);
}

/// Of a part that changed, exactly those data blobs are stored that restic stores of it.
fn changed_run(harbour: &Harbour, place: &str) {
    let fleet = &harbour.fleet;
    let tree = fleet.scratch.join("tree");
    eprintln!("changed: {} files", mutate(&tree, 1, 6).count());
    let clone = clone_of(fleet, &fleet.scratch.join("clone"));
    let before = data_blobs(&clone);
    assert_eq!(before, data_blobs(&fleet.restic));
    let theirs = clone.backup(fleet.scratch.path(), &[], [place]);
    let (ours, seconds) = harbour.job(&["backup", "--json", place]);
    let added = |restic: &Restic| data_blobs(restic).difference(&before).cloned().collect::<BTreeSet<_>>();
    let (by_us, by_them) = (added(&fleet.restic), added(&clone));
    eprintln!("1% changed: {seconds:.1} s, {} data blobs by us, {} by restic", by_us.len(), by_them.len());
    assert!(!by_them.is_empty());
    assert_eq!(by_us, by_them);
    assert_same_tree((&fleet.restic, snapshot_of(&ours)), (&clone, &theirs.snapshot), place);
    assert_restic_agrees(fleet, &ours, place);
}

/// A first run that nobody disturbs, and a second one.
#[test]
fn heavy_a_second_run_takes_a_fraction() {
    let (files, bytes, long) = if full() { (50_000, 64 << 10, 1024 * MIB) } else { (1_500, 30 << 10, 32 * MIB) };
    let harbour = Harbour::new("fleet-second").budget(2_000, 128 * MIB, long / 8, long / 8);
    let (fleet, place) = (&harbour.fleet, harbour.fleet.path("tree"));
    many_files(&fleet.scratch.join("tree"), files, bytes);
    long_file(&fleet.scratch.join("tree/long"), 1, long);
    let (_coordinator, _workers) = (fleet.coordinator(&[]), four_workers(fleet));
    let (first, first_seconds) = harbour.job(&["backup", "--json", &place]);
    let (second, seconds) = harbour.job(&["backup", "--json", &place]);
    eprintln!("first run {first_seconds:.1} s, second {seconds:.1} s: {:.1}%", 100.0 * seconds / first_seconds);
    assert_stored_nothing(&second, &place);
    assert_same_tree((&fleet.restic, snapshot_of(&first)), (&fleet.restic, snapshot_of(&second)), &place);
    // Of a small tree it tells what a job costs that has nothing to do.
    assert!(!full() || seconds <= first_seconds / 4.0);
}

#[test]
fn heavy_the_torture_tree_sails_too() {
    let torture = if full() { Torture::full() } else { Torture::small() };
    let range = torture.large.map_or(1 << 30, |large| large.range);
    let harbour = Harbour::new("fleet-torture").budget(if full() { 500 } else { 30 }, 64 * MIB, range, range);
    let (fleet, place) = (&harbour.fleet, harbour.fleet.path("tree"));
    torture.build(&fleet.scratch.join("tree"));
    let (_coordinator, _workers) = (fleet.coordinator(&[]), four_workers(fleet));
    let (first, seconds) = harbour.job(&["backup", "--json", &place]);
    eprintln!("torture tree: {seconds:.1} s, {} partitions: {first}", first["partitions"]);
    assert_restic_agrees(fleet, &first, &place);
    let (second, _) = harbour.job(&["backup", "--json", &place]);
    assert_stored_nothing(&second, &place);
    assert_same_tree((&fleet.restic, snapshot_of(&first)), (&fleet.restic, snapshot_of(&second)), &place);
    fleet.restic.assert_clean();
}

#[test]
fn heavy_packs_of_64_mib_pass_a_bad_line() {
    let harbour = Harbour::new("fleet-packs").budget(2, 1 << 40, 1 << 40, 1 << 40);
    let (fleet, place) = (&harbour.fleet, harbour.fleet.path("tree"));
    fleet.scratch.folder("tree");
    for number in 0..6 {
        long_file(&fleet.scratch.join(format!("tree/{number}")), number, 40 * MIB + number * MIB);
    }
    let _coordinator = fleet.coordinator(&[]);
    let workers = [(); 2].map(|()| with_page(|page| fleet.worker(page)));
    harbour.proxy.plan(Kind::PutBlock, "/data/", Fault::DamageBody, 1);
    harbour.proxy.plan(Kind::PutBlockList, "/data/", Fault::LoseAnswer, 1);
    let (summary, seconds) = harbour.job(&["backup", "--json", "--pack-size", "64", &place]);
    let (lists, blocks) = (harbour.proxy.count(Kind::PutBlockList), harbour.proxy.count(Kind::PutBlock));
    let page =
        |metric: &str, labels: &[&str]| workers.iter().map(|(_, port)| figure(*port, metric, labels)).sum::<f64>();
    let retries = page("longshore_storage_retries_total", &["op=\"put\""]);
    eprintln!("64 MiB packs: {seconds:.1} s, {lists} block lists, {blocks} blocks, {retries} retries: {summary}");
    assert!(lists > 1 && blocks > 5 * lists / 2, "{lists} lists of {blocks} blocks");
    let befell = |fault: Fault| harbour.proxy.count_faults(fault);
    assert_eq!((befell(Fault::DamageBody), befell(Fault::LoseAnswer)), (1, 1));
    // The damaged block was sent again; the list was seen to be there, and its pack counted once.
    assert!(retries >= 2.0, "{retries}");
    assert_eq!(count(&summary, "packs"), fleet.restic.ids("packs").len() as u64);
    let stored = page("longshore_uploaded_bytes_total", &[]);
    assert!(stored < 300.0 * MIB as f64, "a pack was stored twice: {stored} bytes");
    assert_restic_agrees(fleet, &summary, &place);
}
