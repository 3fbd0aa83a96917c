//! Workers that die with tasks in their hands, and messages that are gone.

use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{Connection, ConnectionProperties};
use proto::names::queue::task_queue;
use tests::services::wait_until;

use crate::mid_job::{Ground, at_once, go_on};

#[test]
fn workers_that_die_and_messages_that_are_lost() {
    at_once(&[("killed", a_worker_is_killed), ("lost", a_message_is_lost)]);
}

/// `kill -9` of a worker that holds tasks: another one is given them, and told that they were delivered before.
fn a_worker_is_killed() {
    let ground = Ground::new("faults-killed");
    let _coordinator = ground.coordinator("coordinator");
    let killed = ground.worker("killed");
    let (job, held) = ground.submit_and_hold(&[&killed]);
    let second = ground.worker("second");
    killed.process.kill();
    // Who began the tasks and did not live to take that back stays noted, beside who begins them again.
    let (task, first_start) = held.tasks[0].clone();
    let begun_again = |begun: &[(String, String)]| {
        begun.iter().any(|(begun, by)| *begun == task && by.contains(&first_start) && by.contains(' '))
    };
    let mut was_seen = false;
    wait_until("nobody began the task again", || {
        was_seen |= begun_again(&job.begun());
        was_seen || second.figure("longshore_duplicate_deliveries_total", "") >= 1.0
    });
    let done = job.end(&held);
    let again = second.figure("longshore_duplicate_deliveries_total", "");
    println!("tasks that were delivered again: {again}; seen beside the first start: {was_seen}");
    assert!(again >= 1.0, "{held:?}");
    ground.assert_right(&done);
}

/// One message is deleted by hand: a probe finds that it is missing, once the job has stood still for a minute.
fn a_message_is_lost() {
    let ground = Ground::new("faults-lost");
    let (_coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    delete_a_message(&ground.fleet.amqp);
    go_on(&[&worker]);
    let done = job.end(&held);
    ground.assert_right(&done);
}

/// Takes one task from its queue, as soon as there is one that no worker has.
fn delete_a_message(amqp: &str) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let queue = task_queue("default", "normal");
    runtime.block_on(async {
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        let message = loop {
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.expect("get");
            if let Some(message) = got {
                break message;
            }
        };
        message.delivery.ack(BasicAckOptions::default()).await.expect("acknowledged");
        connection.close(200, "done".into()).await.expect("closed");
    });
}
