//! A bad network between the program and the service: nothing is lost, nothing is stored wrong, and the tree is the one
//! of a good network.

use tests::proxy::{Fault, Kind, Proxy};

use crate::ground::Ground;

/// A repository behind a proxy, made before anything fails.
fn prepared(count: usize, bytes: usize) -> (Ground, Proxy) {
    let ground = Ground::with_files(count, bytes);
    let proxy = Proxy::before(ground.azurite.port());
    ground.longshore_through(&proxy).run(["init"]).expect_code(0);
    (ground, proxy)
}

/// Backs up through the proxy and lets stock restic judge the result.
fn assert_backed_up(ground: &Ground, proxy: &Proxy, arguments: &[&str]) {
    let backup = ground.longshore_through(proxy).backup(ground.scratch.path(), arguments, ["tree"]);
    assert_eq!(ground.restic().snapshots().len(), 1);
    ground.assert_restic_agrees(&backup);
}

#[test]
fn a_body_that_is_damaged_on_its_way_is_refused_and_sent_again() {
    let (ground, proxy) = prepared(40, 1_000_000);
    proxy.plan(Kind::PutBlob, "/data/", Fault::DamageBody, 2);
    proxy.plan(Kind::PutBlob, "/index/", Fault::DamageBody, 1);
    proxy.plan(Kind::PutBlob, "/snapshots/", Fault::DamageBody, 1);
    assert_backed_up(&ground, &proxy, &[]);
    assert_eq!(proxy.count_faults(Fault::DamageBody), 4);
}

#[test]
fn heavy_a_damaged_block_is_sent_again_and_a_lost_list_recognised() {
    let (ground, proxy) = prepared(2, 60 << 20);
    proxy.plan(Kind::PutBlock, "/data/", Fault::DamageBody, 1);
    proxy.plan(Kind::PutBlockList, "/data/", Fault::LoseAnswer, 1);
    assert_backed_up(&ground, &proxy, &["--pack-size", "64"]);
    assert_eq!((proxy.count_faults(Fault::DamageBody), proxy.count_faults(Fault::LoseAnswer)), (1, 1));
}

#[test]
fn an_answer_that_is_lost_after_the_effect_is_recognised_as_our_own_write() {
    let (ground, proxy) = prepared(40, 1_000_000);
    for part in ["/data/", "/index/", "/snapshots/", "/locks/"] {
        proxy.plan(Kind::PutBlob, part, Fault::LoseAnswer, 1);
    }
    proxy.plan(Kind::PutBlob, "/data/", Fault::LoseRequest, 1);
    assert_backed_up(&ground, &proxy, &[]);
    assert_eq!((proxy.count_faults(Fault::LoseAnswer), proxy.count_faults(Fault::LoseRequest)), (4, 1));
}

#[test]
fn a_busy_and_a_silent_service_are_ridden_out() {
    let (ground, proxy) = prepared(40, 1_000_000);
    proxy.plan(Kind::PutBlob, "/data/", Fault::Busy, 3);
    proxy.plan(Kind::PutBlob, "/index/", Fault::Busy, 2);
    proxy.plan(Kind::List, "", Fault::Busy, 2);
    proxy.plan(Kind::Get, "", Fault::Busy, 2);
    // A minute.
    proxy.plan(Kind::List, "index", Fault::Silence, 1);
    proxy.plan(Kind::PutBlob, "/data/", Fault::LoseRequest, 2);
    assert_backed_up(&ground, &proxy, &[]);
    assert_eq!((proxy.count_faults(Fault::Busy), proxy.count_faults(Fault::Silence)), (9, 1));
}

#[test]
fn no_backup_is_begun_beside_a_clock_that_is_off() {
    let (ground, proxy) = prepared(1, 1_000);
    for kind in [Kind::Head, Kind::Get, Kind::List, Kind::PutBlob] {
        proxy.plan(kind, "", Fault::OldDate, 1_000);
    }
    let outcome = ground.longshore_through(&proxy).run_in(ground.scratch.path(), ["backup", "tree"]).expect_code(1);
    assert!(outcome.stderr.contains("clock"), "{}", outcome.stderr);
    assert_eq!(ground.restic().snapshots().len(), 0);
    assert_eq!(ground.restic().ids("locks"), Vec::<String>::new());
}
