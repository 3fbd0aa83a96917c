//! Redis and RabbitMQ forget, fall silent, and come back.

use proto::names::queue::task_queue;
use rustix::process::Signal;
use tests::processes::Fleet;
use tests::services::rabbitmq::PrivateBroker;
use tests::services::{pause, wait_until};

use super::away_for;
use crate::mid_job::{Ground, at_once, go_on};

#[test]
fn a_job_state_that_forgets_or_falls_silent() {
    at_once(&[
        ("flushed", redis_is_flushed),
        ("restarted empty", redis_stops_and_starts_empty),
        ("silent", redis_falls_silent),
    ]);
}

#[test]
fn a_broker_that_has_no_memory_and_restarts() {
    let mut broker = PrivateBroker::start("faults-broker");
    let amqp = broker.url("guest", "guest");
    memory_runs_short(&broker, &amqp);
    broker_restarts(&mut broker, &amqp);
}

/// With tasks open and a report that the coordinator has not read.
fn redis_is_flushed() {
    let ground = Ground::new("faults-flushed");
    let (coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    job.leave_a_report_unread(&coordinator, &worker);
    println!("flushed at {} reports, with {:?} begun", job.reports(), job.begun());
    ground.fleet.redis.cli(&["FLUSHALL"]);
    go_on(&[&coordinator, &worker]);
    let done = job.end(&held);
    ground.assert_right(&done);
}

fn redis_stops_and_starts_empty() {
    let mut ground = Ground::new("faults-redis");
    let (_coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    let job = job.id;
    ground.fleet.redis.kill();
    go_on(&[&worker]);
    pause(away_for());
    ground.fleet.redis.start_again();
    let done = ground.job(job).end(&held);
    ground.assert_right(&done);
}

/// It keeps its connections and what it has, and does not answer.
fn redis_falls_silent() {
    let ground = Ground::new("faults-silent");
    let (_coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    ground.fleet.redis.signal(Signal::STOP);
    go_on(&[&worker]);
    pause(away_for());
    ground.fleet.redis.signal(Signal::CONT);
    let done = job.end(&held);
    ground.assert_right(&done);
}

fn memory_runs_short(broker: &PrivateBroker, amqp: &str) {
    let ground = Ground::of(Fleet::at_broker("faults-memory", amqp), "tree");
    let (coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    broker.ctl(&["set_vm_memory_high_watermark", "0.0001"]).expect_code(0);
    go_on(&[&worker]);
    wait_until("the coordinator was not held up", || {
        coordinator.figure("longshore_amqp_connection_blocked", "publish") >= 1.0
    });
    pause(away_for());
    broker.ctl(&["set_vm_memory_high_watermark", "0.6"]).expect_code(0);
    let done = job.end(&held);
    ground.assert_right(&done);
}

fn broker_restarts(broker: &mut PrivateBroker, amqp: &str) {
    let ground = Ground::of(Fleet::at_broker("faults-restart", amqp), "tree");
    let (coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    // The broker counts every few seconds.
    wait_until("no delivery is without an acknowledgement", || unacknowledged_tasks(broker) > 0);
    broker.stop();
    go_on(&[&worker]);
    broker.start_again();
    let done = job.end(&held);
    assert!(coordinator.figure("longshore_amqp_reconnects_total", "") > 0.0);
    assert!(worker.figure("longshore_amqp_reconnects_total", "") > 0.0);
    ground.assert_right(&done);
}

/// Tasks that were delivered and not acknowledged.
fn unacknowledged_tasks(broker: &PrivateBroker) -> u64 {
    let queues = broker.queues();
    let tasks = queues.lines().find(|line| line.starts_with(&task_queue("default", "normal")));
    tasks.and_then(|line| line.rsplit('\t').next()?.trim().parse().ok()).unwrap_or(0)
}
