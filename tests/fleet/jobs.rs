//! Backup, restore and check through a fleet come to what one process comes to.

use std::path::Path;

use serde_json::Value;
use tests::cli::{Backup, Longshore};
use tests::compare::assert_same_but_sockets;
use tests::processes::Fleet;
use tests::trees::Torture;

#[test]
fn heavy_a_fleet_does_what_one_process_does() {
    let fleet = Fleet::new("fleet-jobs");
    let tree = fleet.scratch.join("tree");
    Torture::small().build(&tree);
    let _coordinator = fleet.coordinator(&[]);
    let _workers = [fleet.worker(&[]), fleet.worker(&[])];
    let place = fleet.path("tree");
    let backup = Longshore::backed_up(&fleet.run(&["backup", "--json", "--tag", "fleet", &place]).expect_code(0));
    assert!(backup.partitions("name_range") + backup.partitions("subtree") > 3, "{}", backup.summary);
    fleet.restic.assert_clean();
    // One process on the same repository reads nothing and comes to the same tree.
    let again = fleet.member.backup(fleet.scratch.path(), &["--embedded"], [&place]);
    assert_eq!(data_set(&fleet, &again), data_set(&fleet, &backup));
    assert_eq!(again.count("data_blobs"), 0);
    let second = Longshore::backed_up(&fleet.run(&["backup", "--json", &place]).expect_code(0));
    assert_eq!((data_set(&fleet, &second), second.count("data_blobs")), (data_set(&fleet, &backup), 0));
    restore(&fleet, &format!("latest:{}", fleet.scratch.path().display()));
    check(&fleet);
}

/// The tree of what was asked for. Above it are folders in which other tests are at work.
fn data_set(fleet: &Fleet, backup: &Backup) -> Vec<u8> {
    fleet.restic.cat(&["tree", &format!("{}:{}", backup.snapshot, fleet.path("tree"))])
}

fn restore(fleet: &Fleet, snapshot: &str) {
    let target = fleet.path("restored");
    for written in [true, false] {
        let outcome = fleet.run(&["restore", "--json", snapshot, "--target", &target]).expect_code(0);
        let summary = outcome.message("summary");
        assert_eq!(summary["bytes_written"].as_u64() > Some(0), written, "{summary}");
        assert_same_but_sockets(&fleet.scratch.join("tree"), &fleet.scratch.join("restored/tree"));
    }
    let outside = fleet.run(&["restore", snapshot, "--target", "/nowhere/else"]).expect_code(1);
    assert!(outside.stderr.contains("restore roots"), "{}", outside.stderr);
}

fn check(fleet: &Fleet) {
    let clean = fleet.run(&["check", "--read-data", "--json"]).expect_code(0).message("summary");
    assert_eq!((clean["num_errors"].as_u64(), clean["packs_read"].as_u64()), (Some(0), clean["packs"].as_u64()));
    let pack = flip_a_bit(&fleet.restic.repository().join("data"));
    let found = fleet.run(&["check", "--read-data", "--json"]).expect_code(8);
    let findings: Vec<_> = found.json_lines().into_iter().filter(|line| line["message_type"] == "finding").collect();
    let names_it = |finding: &Value| finding["file"].as_str().is_some_and(|file| file.ends_with(&pack));
    assert!(!findings.is_empty() && findings.iter().all(names_it), "{findings:?}");
}

/// Damages a pack; returns its name.
fn flip_a_bit(data: &Path) -> String {
    let folders = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let packs = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let pack = packs.max_by_key(|pack| pack.metadata().unwrap().len()).expect("there are packs");
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&pack).unwrap(); // it is read-only
    std::fs::write(&pack, bytes).unwrap();
    pack.file_name().unwrap().to_str().unwrap().to_owned()
}
