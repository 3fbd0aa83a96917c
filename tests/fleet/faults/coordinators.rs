//! Coordinators that die, or are thought dead.

use rustix::process::Signal;
use tests::services::wait_until;

use crate::mid_job::{Ground, at_once, go_on};

const SECOND_EPOCH: &str = "epoch-00000002";

#[test]
fn a_coordinator_that_is_gone_is_followed_by_another() {
    at_once(&[
        ("restarted", a_coordinator_is_killed_and_restarted),
        ("taken over", another_coordinator_takes_over),
        ("woken", a_coordinator_wakes_up_after_it_was_taken_over),
    ]);
}

fn a_coordinator_is_killed_and_restarted() {
    let ground = Ground::new("faults-restarted");
    let (coordinator, worker) = (ground.coordinator("first"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    coordinator.process.kill();
    go_on(&[&worker]);
    let _second = ground.coordinator("second");
    let done = job.end(&held);
    assert_eq!(done.summary["job"], job.id.as_str(), "it is the same job");
    assert!(ground.record(&job.id, SECOND_EPOCH), "it was taken over");
    ground.assert_right(&done);
}

fn another_coordinator_takes_over() {
    let ground = Ground::new("faults-taken-over");
    let (coordinator, worker) = (ground.coordinator("first"), ground.worker("worker"));
    let job = ground.submit();
    wait_until("nobody began the job", || ground.record(&job.id, "epoch-00000001"));
    let second = ground.coordinator("second");
    let held = job.hold(&[&worker]);
    assert_eq!(second.figure("longshore_coordinator_leader", ""), 0.0);
    coordinator.process.kill();
    go_on(&[&worker]);
    let done = job.end(&held);
    assert_eq!(done.summary["job"], job.id.as_str(), "it is the same job");
    assert_eq!(second.figure("longshore_coordinator_epoch", ""), 2.0);
    ground.assert_right(&done);
}

/// It was stopped, not killed, and believes that it still leads.
fn a_coordinator_wakes_up_after_it_was_taken_over() {
    let ground = Ground::new("faults-woken");
    let (first, worker) = (ground.coordinator("first"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    first.process.signal(Signal::STOP);
    let second = ground.coordinator("second");
    wait_until("nobody took the job over", || ground.record(&job.id, SECOND_EPOCH));
    go_on(&[&first, &worker]);
    let done = job.end(&held);
    assert_eq!(second.figure("longshore_coordinator_epoch", ""), 2.0);
    ground.assert_right(&done);
    assert_eq!((first.process.leave(), second.process.leave()), (0, 0));
}
