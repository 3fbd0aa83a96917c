//! Restores and checks by four workers: one is killed, a bit is flipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tests::compare::assert_same_but_sockets;
use tests::process::{self, Outcome};
use tests::processes::Fleet;
use tests::restic::Restic;
use tests::services::prometheus::figure;
use tests::trees::Torture;

use crate::ground::{Harbour, MIB, count, follow, full, long_file, many_files, timed, wait_for, with_page};

/// Blobs of the packs that the index names: pack, kind, id, sealed bytes.
fn indexed(restic: &Restic) -> Vec<(String, String, String, u64)> {
    let mut all = Vec::new();
    for id in restic.ids("index") {
        let index: Value = serde_json::from_slice(&restic.cat(&["index", &id])).expect("an index is JSON");
        for pack in index["packs"].as_array().expect("packs") {
            for blob in pack["blobs"].as_array().expect("blobs") {
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                all.push((text(&pack["id"]), text(&blob["type"]), text(&blob["id"]), count(blob, "length")));
            }
        }
    }
    all
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.map(|entry| if is_folder(&entry) { files_below(&entry.path()) } else { 1 }).sum()
}

#[test]
fn heavy_a_restore_outlives_a_worker() {
    let (files, bytes, long) = if full() { (45_000, 48 << 10, 1024 * MIB) } else { (1_500, 30 << 10, 32 * MIB) };
    let range = long / 4;
    let harbour = Harbour::new("fleet-restore").budget(200, 16 * MIB, range, range);
    let (fleet, place, target) = (&harbour.fleet, harbour.fleet.path("tree"), harbour.fleet.path("restored"));
    let tree = fleet.scratch.join("tree");
    Torture::small().build(&tree);
    many_files(&tree.join("many"), files, bytes);
    long_file(&tree.join("long"), 1, long);
    let _coordinator = fleet.coordinator(&[]);
    let mut workers: Vec<_> = (0..4).map(|_| with_page(|page| fleet.worker(page))).collect();
    harbour.job(&["backup", "--json", &place]);
    let data: BTreeMap<String, u64> = indexed(&fleet.restic)
        .into_iter()
        .filter(|(_, kind, ..)| kind == "data")
        .map(|(_, _, id, length)| (id, length))
        .collect();
    let needed: u64 = data.values().sum();

    // From above the tree: the target itself keeps its own times and rights.
    let words = ["restore", &format!("latest:{}", fleet.scratch.path().display()), "--target", &target];
    let (summary, seconds) = timed(|| {
        let job = fleet.run(&[&words[..], &["--detach"]].concat()).expect_code(0).text().trim().to_owned();
        wait_for("nothing is restored", || files_below(&fleet.scratch.join("restored")) > 200);
        let (victim, _) = workers.remove(0);
        victim.signal(Signal::KILL);
        assert_ne!(victim.wait(), 0);
        follow(fleet, &job).expect_code(0).message("summary")
    });
    let again: f64 = workers.iter().map(|(_, page)| figure(*page, "longshore_duplicate_deliveries_total", &[])).sum();
    let fetched = count(&summary, "bytes_fetched");
    eprintln!(
        "restore: {seconds:.1} s, {fetched} bytes fetched of {needed} needed: {:.3}; {again} deliveries again: {summary}",
        fetched as f64 / needed as f64
    );
    assert!(again > 0.0, "the killed worker had nothing to do");
    assert!(fetched > needed / 2, "restored without reading");
    assert!(fetched * 5 <= needed * 6, "{fetched} of {needed}");
    assert_same_but_sockets(&tree, &fleet.scratch.join("restored/tree"));

    let (once_more, seconds) = harbour.job(&[&words[..], &["--json"]].concat());
    eprintln!("restored again: {seconds:.1} s");
    assert_eq!(count(&once_more, "bytes_written"), 0, "{once_more}");
    assert_same_but_sockets(&tree, &fleet.scratch.join("restored/tree"));
}

/// Where in a file a bit is flipped.
#[derive(Clone, Copy)]
enum Spot {
    Front,
    /// In the header of a pack.
    Back,
}

/// Files of a repository by what damage of them is.
fn victims(restic: &Restic) -> Vec<(&'static str, PathBuf, Spot)> {
    let at = |kind: &str, id: &str| restic.repository().join(kind).join(id);
    let pack = |kind: &str| {
        let blobs = indexed(restic);
        let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
        blobs.iter().filter(|blob| blob.1 == kind).for_each(|blob| *bytes.entry(&blob.0).or_default() += blob.3);
        let (id, _) = bytes.into_iter().max_by_key(|(_, bytes)| *bytes).expect("there are packs");
        at("data", &id[..2]).join(id)
    };
    let first = |kind: &str, list: &str| at(kind, &restic.ids(list)[0]);
    vec![
        ("a data pack", pack("data"), Spot::Front),
        ("the header of a data pack", pack("data"), Spot::Back),
        ("a tree pack", pack("tree"), Spot::Front),
        ("an index file", first("index", "index"), Spot::Front),
        ("a snapshot", first("snapshots", "snapshots"), Spot::Front),
    ]
}

/// Flips a bit; returns what was there.
fn damage(file: &Path, spot: Spot) -> Vec<u8> {
    let whole = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut bytes = whole.clone();
    let at = match spot {
        Spot::Front => bytes.len().min(100) / 2,
        Spot::Back => bytes.len() - 20,
    };
    bytes[at] ^= 1;
    replace(file, &bytes);
    whole
}

fn replace(file: &Path, bytes: &[u8]) {
    std::fs::remove_file(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())); // it is read-only
    std::fs::write(file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

fn name(file: &Path) -> String {
    file.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned()
}

fn check(fleet: &Fleet) -> Outcome {
    fleet.run(&["check", "--read-data", "--json"])
}

#[test]
fn heavy_a_check_by_four_workers_names_what_is_damaged() {
    let fleet = Fleet::new("fleet-damage");
    let place = fleet.path("tree");
    many_files(&fleet.scratch.join("tree"), 600, 90 << 10);
    let coordinator = fleet.coordinator(&[]);
    let workers: Vec<_> = (0..4).map(|_| with_page(|page| fleet.worker(page))).collect();
    fleet.run(&["backup", "--pack-size", "4", &place]).expect_code(0);
    check(&fleet).expect_code(0);
    for (_, page) in &workers {
        assert!(figure(*page, "longshore_verified_bytes_total", &[]) > 0.0, "a worker had nothing to check");
    }
    for (what, file, spot) in victims(&fleet.restic) {
        let whole = damage(&file, spot);
        let found = check(&fleet).expect_code(8);
        let findings: Vec<Value> = found.json_lines();
        let named = findings.iter().filter(|line| line["message_type"] == "finding");
        let named: Vec<&Value> = named.filter(|line| line.to_string().contains(&name(&file))).collect();
        eprintln!("{what}: {named:?}");
        assert!(!named.is_empty(), "{what} {}: {}{}", file.display(), found.text(), found.stderr);
        replace(&file, &whole);
    }
    check(&fleet).expect_code(0);
    assert_eq!(coordinator.leave(), 0);
    drop(workers);
    damaged_doors(&fleet);
}

/// Damage that keeps everybody out is named by whoever wants to come in.
fn damaged_doors(fleet: &Fleet) {
    let repository = fleet.restic.repository();
    for file in [repository.join("config"), repository.join("keys").join(&fleet.restic.ids("keys")[0])] {
        let whole = damage(&file, Spot::Front);
        for (what, more) in [("coordinator", &[][..]), ("worker", &["--root", "/srv"])] {
            let mut command = fleet.command(what, more);
            let ended = process::run(command.stderr(std::process::Stdio::piped())).expect_code(8);
            let named = name(&file).chars().take(8).collect::<String>();
            assert!(ended.stderr.contains(&named), "{what}, {}: {}", file.display(), ended.stderr);
        }
        replace(&file, &whole);
    }
}
