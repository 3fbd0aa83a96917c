//! The task queue on the broker of this machine.

use std::cell::Cell;
use std::time::Duration;

use fleet::queue::{Address, DELIVERIES_MAX, Delay, Inbox, QueueError, Route, TaskQueue, contract};
use futures::StreamExt;
use lapin::options::QueueDeleteOptions;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use proto::names::queue::{DEAD_TASKS_QUEUE, JOBS_EXCHANGE, SUBMIT_KEY, SUBMIT_QUEUE, TASKS_EXCHANGE, task_queue};
use tests::services::rabbitmq::Vhosts;

use crate::{declared, message, next, publish_in_the_end, queue_at, tasks, until, within};

/// Cases of the contract suite, each with a virtual host of its own.
const CASES: usize = 20;

/// What any other client of the broker can do.
async fn foreign(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("connect");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let vhosts = Vhosts::new("queue-contract", CASES);
    let used = Cell::new(0);
    contract::run(async || queue_at(&vhosts.url(used.replace(used.get() + 1))).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_foreign_clients_are_delivered() {
    let vhosts = Vhosts::new("queue-foreign", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    let (_connection, channel) = foreign(&vhosts.url(0)).await;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let published = channel.basic_publish(JOBS_EXCHANGE.into(), SUBMIT_KEY.into(), options, b"{}", properties).await;
    published.expect("publish");
    let mut jobs = queue.consume(&Inbox::Jobs).await.expect("consume");
    let delivery = next(&mut *jobs).await;
    assert_eq!((&delivery.message.body[..], delivery.message.attempt), (&b"{}"[..], 1));
    assert_eq!(delivery.delivered_before, 0);
    assert!(delivery.receipt.ack().await.expect("ack"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_say_to_people_what_they_are() {
    let vhosts = Vhosts::new("queue-properties", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    queue.publish(&Address::Jobs, message("job-1")).await.expect("publish");
    let (_connection, channel) = foreign(&vhosts.url(0)).await;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumed = channel.basic_consume(SUBMIT_QUEUE.into(), "".into(), options, FieldTable::default()).await;
    let mut consumer = consumed.expect("consume");
    let delivery = within(Duration::from_secs(10), "a delivery", consumer.next()).await.expect("one").expect("whole");
    let properties = delivery.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    assert_eq!(text(properties.content_type()).as_deref(), Some("application/json"));
    assert_eq!(text(properties.kind()).as_deref(), Some("job.submit"));
    assert_eq!(text(properties.correlation_id()).as_deref(), Some("job-1"));
    assert_eq!(text(properties.user_id()).as_deref(), Some("guest"), "the broker has verified it");
    assert_eq!(text(properties.app_id()).as_deref(), Some("longshore"));
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(text(properties.message_id()).map(|id| id.len()), Some(36));
}

/// The broker confirms many at once, and says of those that no queue took only which they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_queue_took_is_told_from_what_was_published_beside_it() {
    const PUBLICATIONS: u64 = 400;
    let vhosts = Vhosts::new("queue-beside", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    let (address, inbox) = declared(&queue).await;
    let (nowhere, _) = tasks("nowhere");
    let publish = async |number: u64| {
        let is_lost = number.is_multiple_of(3);
        let address = if is_lost { &nowhere } else { &address };
        match queue.publish(address, message(&number.to_string())).await {
            Ok(()) => assert!(!is_lost, "{number} was published to a queue that is not there"),
            Err(QueueError::Unroutable { .. }) => assert!(is_lost, "{number} was published, and said not to be"),
            Err(error) => panic!("{number}: {error}"),
        }
    };
    futures::future::join_all((0..PUBLICATIONS).map(publish)).await;
    let lost = PUBLICATIONS.div_ceil(3);
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), PUBLICATIONS - lost);
    let status = queue.status();
    assert_eq!((status.unconfirmed, status.returned), (0, lost));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_properties_is_named() {
    let vhosts = Vhosts::new("queue-mismatch", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    let (_connection, channel) = foreign(&vhosts.url(0)).await;
    let name = task_queue("p", "normal");
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await.expect("a classic queue");
    let error = queue.declare(&Route::normal("p")).await.expect_err("it is another one");
    assert!(matches!(error, QueueError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains(&name), "{error}");
    queue.declare(&Route::normal("q")).await.expect("all others can be declared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_deleted_is_declared_again() {
    let vhosts = Vhosts::new("queue-deleted", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    let (address, inbox) = declared(&queue).await;
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let (_connection, channel) = foreign(&vhosts.url(0)).await;
    let name = task_queue("p", "normal");
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("delete");
    let ended = within(Duration::from_secs(10), "the end of the stream", consumer.next()).await;
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    let mut consumer = queue.consume(&inbox).await.expect("consume again");
    queue.publish(&address, message("one")).await.expect("publish");
    assert_eq!(next(&mut *consumer).await.message, message("one"));

    drop(consumer);
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("delete");
    // The client may still be ending its consumer: that of a queue that goes away just then costs it the connection.
    publish_in_the_end(&queue, &address, "two").await;
    channel.exchange_delete(TASKS_EXCHANGE.into(), ExchangeDeleteOptions::default()).await.expect("delete");
    queue.publish(&address, message("three")).await.expect("publish without an exchange");
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_messages_stay_for_people() {
    let vhosts = Vhosts::new("queue-dead", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("poison")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    for number in 0..DELIVERIES_MAX {
        let delivery = next(&mut *consumer).await;
        assert_eq!(delivery.delivered_before, number, "every delivery counts, and none is left out");
    }
    let mut notices = queue.consume(&Inbox::Notices).await.expect("notices");
    let notice = next(&mut *notices).await;
    assert_eq!(notice.message.last_error.as_deref(), Some("delivery_limit"));
    assert!(notice.receipt.ack().await.expect("ack"));
    let (_connection, channel) = foreign(&vhosts.url(0)).await;
    for _ in 0..25 {
        // Looking at it does not use it up.
        let got = channel.basic_get(DEAD_TASKS_QUEUE.into(), lapin::options::BasicGetOptions::default()).await;
        let got = got.expect("get").expect("the dead message");
        assert_eq!(got.delivery.data, b"poison");
        let requeue = lapin::options::BasicRejectOptions { requeue: true };
        assert!(got.delivery.acker.reject(requeue).await.expect("reject"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_would_bind_other_queues_are_refused() {
    let vhosts = Vhosts::new("queue-names", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    for pool in ["*", "#", "a.*", ""] {
        let error = queue.declare(&Route::normal(pool)).await.expect_err("no name of a pool");
        assert!(matches!(error, QueueError::Unroutable { .. }), "{error}");
    }
    let error = queue.publish(&tasks("#").0, message("x")).await.expect_err("nobody takes it");
    assert!(matches!(error, QueueError::Unroutable { .. }), "{error}");
}

/// The broker tries for ever to place what has waited long enough, a few dozen messages at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_without_a_queue_holds_up_no_other() {
    let vhosts = Vhosts::new("queue-stranded", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    for pool in ["gone", "there"] {
        queue.declare(&Route::normal(pool)).await.expect("declare");
    }
    let later = |pool| Address::Later(Route::normal(pool), Delay::S5);
    for number in 0..100 {
        queue.publish(&later("gone"), message(&number.to_string())).await.expect("publish");
    }
    let (_connection, channel) = foreign(&vhosts.url(0)).await;
    let name = task_queue("gone", "normal");
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("delete");
    queue.publish(&later("there"), message("mine")).await.expect("publish");
    let mut consumer = queue.consume(&tasks("there").1).await.expect("consume");
    assert_eq!(next(&mut *consumer).await.message.subject, "mine");
    // The others are given up, and both coordinators and people hear of it.
    let mut notices = queue.consume(&Inbox::Notices).await.expect("notices");
    for _ in 0..100 {
        let notice = next(&mut *notices).await;
        assert_eq!(notice.message.last_error.as_deref(), Some("no_queue"));
        assert!(notice.receipt.ack().await.expect("ack"));
    }
    assert_eq!(passive(&channel, DEAD_TASKS_QUEUE).await, 100);
}

async fn passive(channel: &Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("there").message_count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_nobody_can_pass_on_is_left_to_people() {
    let vhosts = Vhosts::new("queue-notice", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    queue.publish(&Address::DeadTasks, message("dead")).await.expect("publish");
    let mut notices = queue.consume(&Inbox::Notices).await.expect("notices");
    for _ in 0..DELIVERIES_MAX {
        drop(next(&mut *notices).await);
    }
    let (_connection, channel) = foreign(&vhosts.url(0)).await;
    let count = async || passive(&channel, DEAD_TASKS_QUEUE).await;
    until("the dead task and its notice", count, |count| *count == 2).await;
    assert_eq!(queue.waiting(&Inbox::Notices).await.expect("waiting"), 0);
}

/// Ten lost hand-backs would be the end of a task: it is known whether a delivery still can be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_held_until_its_channel_ends() {
    let vhosts = Vhosts::new("queue-held", 1);
    let queue = queue_at(&vhosts.url(0)).await;
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let delivery = next(&mut *consumer).await;
    assert!(delivery.receipt.is_held());
    drop(consumer);
    until("the end of the channel", async || delivery.receipt.is_held(), |held| !held).await;
}
