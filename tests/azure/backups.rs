//! Whole backups and restores in the emulator, judged by stock restic on the same container.

use tests::compare::assert_same_but_sockets;
use tests::proxy::{Kind, Proxy};

use crate::ground::{Ground, REPOSITORY};

#[test]
fn heavy_a_repository_in_a_container_is_one_for_restic() {
    let ground = Ground::new();
    let longshore = ground.longshore().budget(200, 1 << 20, 1 << 40, 1 << 40);
    let made = longshore.run(["init"]).expect_code(0).text();
    assert!(made.contains(REPOSITORY), "{made}");
    longshore.run(["init"]).expect_code(5);
    let ours = longshore.backup(ground.scratch.path(), &["--workers", "2"], ["tree"]);
    ground.assert_restic_agrees(&ours);
    let again = longshore.backup(ground.scratch.path(), &[], ["tree"]);
    assert_eq!((again.tree.as_str(), again.count("packs")), (ours.tree.as_str(), 0), "{}", again.summary);
    longshore.run(["check", "--read-data"]).expect_code(0);
    let listed = longshore.run(["snapshots", "--json"]).expect_code(0).text();
    assert!([&ours, &again].iter().all(|backup| listed.contains(&backup.snapshot)), "{listed}");
    let target = ground.scratch.join("restored");
    let words = ["restore", &ours.snapshot, "--target", target.to_str().expect("plain")];
    longshore.run(words).expect_code(0);
    assert_same_but_sockets(&ground.scratch.join("tree"), &target.join("tree"));
    let restic = ground.restic();
    restic.run(["forget", "--prune", &ours.snapshot]).expect_code(0);
    longshore.run(["check", "--read-data"]).expect_code(0);
    restic.assert_clean();
}

#[test]
fn heavy_large_packs_come_in_blocks() {
    let ground = Ground::with_files(3, 50 << 20);
    let proxy = Proxy::before(ground.azurite.port());
    let longshore = ground.longshore_through(&proxy);
    longshore.run(["init"]).expect_code(0);
    let backup = longshore.backup(ground.scratch.path(), &["--pack-size", "64"], ["tree"]);
    let (lists, blocks) = (proxy.count(Kind::PutBlockList), proxy.count(Kind::PutBlock));
    println!("{lists} block lists, {blocks} blocks, {} puts in one request", proxy.count(Kind::PutBlob));
    assert!(lists > 0 && blocks >= 5 * lists, "{lists} lists of {blocks} blocks");
    ground.assert_restic_agrees(&backup);
}
