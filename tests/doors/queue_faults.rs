//! The task queue on a broker that fails.

use std::time::Duration;

use fleet::queue::{Address, QueueError, TaskQueue};
use fleet::service::Service;
use rustix::process::Signal;
use tests::services::free_port;
use tests::services::rabbitmq::PrivateBroker;

use crate::{declared, message, next, publish_in_the_end, queue_at, until, within};

/// A publication ends by then.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// A broker that is silent is noticed by then: twice the heartbeat of the address.
const NOTICED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_broker_that_restarts_delivers_again() {
    let mut broker = PrivateBroker::start("restart");
    let queue = queue_at(&broker.url("guest", "guest")).await;
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let old = next(&mut *consumer).await;

    broker.stop();
    let ended = within(NOTICED, "the end of the stream", consumer.next()).await;
    assert!(matches!(ended, Ok(None) | Err(QueueError::Unavailable { .. })), "{ended:?}");
    assert!(!old.receipt.ack().await.expect("ack"), "its connection is gone");
    let error = within(PUBLISH_LIMIT, "a publication", queue.publish(&address, message("x"))).await.expect_err("gone");
    assert!(matches!(error, QueueError::Unavailable { .. }), "{error}");
    assert!(!queue.status().publishing.connected);
    let error = queue.consume(&inbox).await.err().expect("gone");
    assert!(matches!(error, QueueError::Unavailable { .. }), "{error}");

    broker.start_again();
    let status = until(
        "both connections",
        async || queue.status(),
        |status| status.publishing.connected && status.consuming.connected,
    );
    assert!(status.await.publishing.reconnects > 0);
    let mut consumer = queue.consume(&inbox).await.expect("consume again");
    let delivery = next(&mut *consumer).await;
    assert_eq!((&delivery.message, delivery.delivered_before), (&message("one"), 1));
    assert!(delivery.receipt.ack().await.expect("ack"));
    queue.publish(&address, message("two")).await.expect("publish again");
    assert_eq!(next(&mut *consumer).await.message, message("two"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_broker_that_loses_its_connections_or_all_it_has() {
    let broker = PrivateBroker::start("closed");
    let queue = queue_at(&broker.url("guest", "guest")).await;
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let old = next(&mut *consumer).await;
    broker.ctl(&["close_all_connections", "a test"]).expect_code(0);
    let ended = within(NOTICED, "the end of the stream", consumer.next()).await;
    assert!(matches!(ended, Ok(None) | Err(QueueError::Unavailable { .. })), "{ended:?}");
    assert!(!old.receipt.ack().await.expect("ack"), "its connection is gone");
    publish_in_the_end(&queue, &address, "two").await;
    let consume = async || queue.consume(&inbox).await.map(drop);
    until("a consumer", consume, |consumed| consumed.is_ok()).await.expect("consume");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let mut seen = Vec::new();
    while !(seen.contains(&"one".to_owned()) && seen.contains(&"two".to_owned())) {
        let delivery = next(&mut *consumer).await;
        seen.push(delivery.message.subject);
        assert!(delivery.receipt.ack().await.expect("ack"));
    }

    // With the virtual host go all exchanges and queues.
    broker
        .ctl(&[
            "eval",
            "rabbit_vhost:delete(<<\"/\">>, <<\"test\">>), rabbit_vhost:add(<<\"/\">>, <<\"test\">>), \
        rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"/\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, \
        <<\"test\">>).",
        ])
        .expect_code(0);
    let publish = async || queue.publish(&address, message("three")).await;
    until("a publication", publish, |done| done.is_ok()).await.expect("publish");
    until("the number of messages", async || queue.waiting(&inbox).await, |waiting| matches!(waiting, Ok(1..)))
        .await
        .expect("waiting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_broker_without_memory_takes_nothing() {
    let broker = PrivateBroker::start("memory");
    let queue = queue_at(&broker.url("guest", "guest")).await;
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("before")).await.expect("publish");
    broker.ctl(&["set_vm_memory_high_watermark", "0.0001"]).expect_code(0);
    let error = until(
        "a publication that fails",
        async || within(PUBLISH_LIMIT, "a publication", queue.publish(&address, message("blocked"))).await,
        Result::is_err,
    );
    let error = error.await.expect_err("blocked");
    assert!(matches!(error, QueueError::Unavailable { .. }), "{error}");
    let blocked = until("the news", async || queue.status().publishing.blocked, Option::is_some).await;
    println!("blocked: {blocked:?}");
    let error =
        within(PUBLISH_LIMIT, "a publication", queue.publish(&address, message("x"))).await.expect_err("blocked");
    assert!(error.to_string().contains("takes no publications"), "{error}");

    let mut consumer = queue.consume(&inbox).await.expect("who consumes is not blocked");
    let delivery = next(&mut *consumer).await;
    assert_eq!(delivery.message, message("before"));
    assert!(delivery.receipt.ack().await.expect("acknowledgements get through"));

    broker.ctl(&["set_vm_memory_high_watermark", "0.6"]).expect_code(0);
    publish_in_the_end(&queue, &address, "after").await;
    assert_eq!(queue.status().publishing.blocked, None);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "after") {
        let delivery = next(&mut *consumer).await;
        seen.push(delivery.message.subject);
        assert!(delivery.receipt.ack().await.expect("ack"));
    }
    println!("what came of those whose outcome nobody knew: {seen:?}");
    assert!(!seen.contains(&"before".to_owned()), "it was acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_broker_that_is_silent_keeps_nobody_waiting() {
    let broker = PrivateBroker::start("silent");
    let queue = queue_at(&format!("{}?heartbeat=4", broker.url("guest", "guest"))).await;
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let delivery = next(&mut *consumer).await;
    let pid = broker.pid();
    PrivateBroker::signal(pid, Signal::STOP);
    let ask = async {
        let published = within(PUBLISH_LIMIT, "a publication", queue.publish(&address, message("x"))).await;
        let waiting = within(PUBLISH_LIMIT, "a question", queue.waiting(&inbox)).await;
        let consumed = within(PUBLISH_LIMIT, "a consumer", queue.consume(&inbox)).await.map(drop);
        let ended = within(NOTICED, "the end of the stream", consumer.next()).await.map(|_| ());
        within(PUBLISH_LIMIT, "an acknowledgement", delivery.receipt.ack()).await.ok();
        [published, waiting.map(|_| ()), consumed, ended]
    };
    let asked = ask.await;
    PrivateBroker::signal(pid, Signal::CONT);
    for answer in &asked[..3] {
        assert!(matches!(answer, Err(QueueError::Unavailable { .. })), "{answer:?}");
    }
    publish_in_the_end(&queue, &address, "two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_late_answer_costs_no_connection() {
    let broker = PrivateBroker::start("late");
    let queue = queue_at(&broker.url("guest", "guest")).await;
    let (address, inbox) = declared(&queue).await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let delivery = next(&mut *consumer).await;
    let pid = broker.pid();
    PrivateBroker::signal(pid, Signal::STOP);
    let (waiting, published) = tokio::join!(
        within(PUBLISH_LIMIT, "a question", queue.waiting(&inbox)),
        within(PUBLISH_LIMIT, "a publication", queue.publish(&address, message("late")))
    );
    PrivateBroker::signal(pid, Signal::CONT);
    assert!(matches!(waiting, Err(QueueError::Unavailable { .. })), "{waiting:?}");
    assert!(matches!(published, Err(QueueError::Unavailable { .. })), "{published:?}");
    assert!(delivery.receipt.ack().await.expect("ack"), "it came by a connection that lives");
    // What was on its way arrives.
    assert_eq!(next(&mut *consumer).await.message, message("late"));
    until("an answer", async || queue.waiting(&inbox).await, Result::is_ok).await.expect("an answer");
    let status = queue.status();
    assert_eq!((status.publishing.reconnects, status.consuming.reconnects), (0, 0), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_refusals_are_told_from_silence() {
    let broker = PrivateBroker::start("refusals");
    broker.ctl(&["add_user", "nobody", "secret-2718"]).expect_code(0);
    broker.ctl(&["add_user", "reader", "secret-2718"]).expect_code(0);
    broker.ctl(&["set_permissions", "reader", ".*", "^$", ".*"]).expect_code(0);
    for url in [
        broker.url("guest", "secret-2718"),
        broker.url("nobody", "secret-2718"),
        format!("{}/secret-vhost", broker.url("guest", "guest")),
        broker.url("reader", "secret-2718"),
    ] {
        let refused = within(NOTICED, "a refusal", fleet::queue::RabbitQueue::connect(&Service::new(&url))).await;
        let error = refused.err().expect("refused");
        assert!(matches!(error, QueueError::Denied { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret-2718"), "{error:?}");
    }
    let nobody = format!("amqp://guest:secret-2718@127.0.0.1:{}", free_port());
    let error = fleet::queue::RabbitQueue::connect(&Service::new(&nobody)).await.err().expect("nobody listens");
    assert!(matches!(error, QueueError::Unavailable { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret-2718"), "{error:?}");
    let error = fleet::queue::RabbitQueue::connect(&Service::new("secret-2718")).await.err().expect("no address");
    assert!(!format!("{error} {error:?}").contains("secret-2718"), "{error:?}");

    // Rights that are taken away while it runs.
    let queue = queue_at(&broker.url("guest", "guest")).await;
    broker.ctl(&["set_permissions", "guest", ".*", "^$", ".*"]).expect_code(0);
    let publish = async || queue.publish(&Address::Jobs, message("x")).await;
    let refused = until("a refusal", publish, |done| done.is_err()).await;
    assert!(matches!(refused, Err(QueueError::Denied { .. })), "{refused:?}");

    // A refusal is none of what is published beside it, on the channel that it costs.
    broker.ctl(&["set_permissions", "guest", ".*", ".*", ".*"]).expect_code(0);
    // The broker remembers for a while what a channel was allowed to do: this one has done nothing.
    let queue = queue_at(&broker.url("guest", "guest")).await;
    let (address, inbox) = declared(&queue).await;
    broker.ctl(&["set_permissions", "guest", ".*", r"^longshore\.tasks$", ".*"]).expect_code(0);
    let publish = async |number: u32| {
        let is_refused = number.is_multiple_of(10);
        let address = if is_refused { &Address::Jobs } else { &address };
        match queue.publish(address, message("x")).await {
            Err(QueueError::Denied { .. }) => assert!(is_refused, "{number} was refused for another one"),
            done => assert!(done.is_ok() && !is_refused, "{number}: {done:?}"),
        }
    };
    futures::future::join_all((0..40).map(publish)).await;
    assert!(queue.waiting(&inbox).await.expect("waiting") >= 36);
    assert_eq!(queue.status().publishing.reconnects, 0);
}
