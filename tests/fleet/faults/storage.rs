//! Azure Blob Storage fails for a while; a coordinator dies in the middle of its last steps.

use std::process::Command;

use rustix::process::Signal;
use tests::azurite::{ACCOUNT, Azurite};
use tests::processes::Fleet;
use tests::proxy::{Fault, Kind, Proxy};
use tests::restic::PASSWORD;
use tests::scratch::Scratch;
use tests::services::rabbitmq::Vhosts;
use tests::services::wait_until;

use crate::mid_job::{Ground, Member, at_once, go_on};

#[test]
fn a_storage_that_fails_and_coordinators_that_die_before_it_answers() {
    at_once(&[
        ("busy", azure_is_busy_and_silent),
        ("commit", || a_coordinator_is_killed_at("/commit")),
        ("snapshot", || a_coordinator_is_killed_at("/snapshots/")),
    ]);
}

/// A fleet over an emulator that is reached through a proxy.
struct Cloud {
    ground: Ground,
    proxy: Proxy,
    _azurite: Azurite,
    _vhosts: Vhosts,
}

impl Cloud {
    fn new(purpose: &str) -> Self {
        let (azurite, vhosts) = (Azurite::start(), Vhosts::new(purpose, 1));
        let proxy = Proxy::before(azurite.port());
        let scratch = Scratch::new(purpose);
        let password_file = scratch.file("password", PASSWORD);
        let member = azurite.longshore("azure:box:/team/one", &password_file);
        member.run(["init"]).expect_code(0);
        let restic = azurite.restic("box/team/one", &password_file);
        let fleet = Fleet::over(purpose, &vhosts.url(0), scratch, restic, member);
        Self { ground: Ground::of(fleet, "tree"), proxy, _azurite: azurite, _vhosts: vhosts }
    }

    fn through_the_proxy(&self, command: &mut Command) {
        command.env("AZURE_BLOB_ENDPOINT", format!("http://127.0.0.1:{}/{ACCOUNT}", self.proxy.port()));
    }

    fn coordinator(&self, name: &str) -> Member {
        self.ground.start(name, &["coordinator"], |command| self.through_the_proxy(command))
    }

    fn worker(&self, name: &str) -> Member {
        let words = ["worker", "--slots", "2", "--root", &self.ground.fleet.path("")];
        self.ground.start(name, &words, |command| self.through_the_proxy(command))
    }
}

fn azure_is_busy_and_silent() {
    let cloud = Cloud::new("faults-busy");
    let (coordinator, worker) = (cloud.coordinator("coordinator"), cloud.worker("worker"));
    let (job, held) = cloud.ground.submit_and_hold(&[&worker]);
    coordinator.process.signal(Signal::STOP);
    for kind in [Kind::PutBlob, Kind::Get, Kind::Head, Kind::List] {
        cloud.proxy.plan(kind, "", Fault::Busy, 5);
    }
    // A minute each, side by side.
    cloud.proxy.plan(Kind::PutBlob, "/data/", Fault::Silence, 2);
    if super::is_full() {
        cloud.proxy.plan(Kind::PutBlob, "/index/", Fault::Silence, 1);
    }
    cloud.proxy.plan(Kind::PutBlob, "", Fault::LoseAnswer, 3);
    cloud.proxy.plan(Kind::Get, "", Fault::LoseAnswer, 3);
    go_on(&[&coordinator, &worker]);
    let done = job.end(&held);
    let faults = [Fault::Busy, Fault::Silence, Fault::LoseAnswer].map(|fault| cloud.proxy.count_faults(fault));
    println!("refused, silent, lost: {faults:?}");
    assert!(faults[0] >= 10 && faults[1] >= 2 && faults[2] >= 3, "{faults:?}");
    cloud.ground.assert_right(&done);
}

/// Killed behind the index and before the snapshot: before its decision is on record, and behind that.
fn a_coordinator_is_killed_at(put: &str) {
    let cloud = Cloud::new("faults-commit");
    let ground = &cloud.ground;
    let (first, worker) = (cloud.coordinator("first"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    cloud.proxy.plan(Kind::PutBlob, put, Fault::Silence, 1);
    go_on(&[&worker]);
    wait_until("the coordinator did not come to its end", || cloud.proxy.count_faults(Fault::Silence) == 1);
    let seen = cloud.proxy.seen();
    assert!(
        seen.iter().any(|seen| seen.kind == Kind::PutBlob && seen.target.contains("/index/")),
        "the index is there"
    );
    assert!(ground.fleet.restic.snapshots().is_empty(), "and the snapshot is not");
    first.process.kill();
    let second = ground.coordinator("second");
    let done = job.end(&held);
    assert_eq!(done.summary["job"], job.id.as_str(), "it is the same job");
    assert!(second.process.log().contains("goes on with a job that nobody leads"), "it was taken over");
    ground.assert_right(&done);
}
