//! What every task queue must do. Run by each implementation with a maker of fresh, empty queues.

use bytes::Bytes;

use futures::future::join_all;
use proto::envelope::MESSAGE_BYTES_MAX;

use super::{Address, DELIVERIES_MAX, Delay, Inbox, Message, QueueError, Route, TaskQueue};

/// Runs the whole suite.
pub async fn run<Q: TaskQueue>(make: impl AsyncFn() -> Q) {
    delivers_until_acknowledged(&make().await).await;
    gives_back_what_is_dropped(&make().await).await;
    gives_up_after_the_limit(&make().await).await;
    refuses_unknown_pools(&make().await).await;
    keeps_pools_apart(&make().await).await;
    shares_work_between_consumers(&make().await).await;
    tells_coordinators_of_the_dead(&make().await).await;
    gives_back_a_dropped_receipt(&make().await).await;
    takes_deliveries_from_a_dropped_consumer(&make().await).await;
    brings_back_what_is_for_later(&make().await).await;
    tells_each_publication_apart(&make().await).await;
    counts_what_waits(&make().await).await;
    carries_submissions(&make().await).await;
    refuses_what_is_too_long(&make().await).await;
}

fn message(text: &str) -> Message {
    Message { body: Bytes::copy_from_slice(text.as_bytes()), attempt: 1, last_error: None, subject: text.to_owned() }
}

fn tasks(route: &Route) -> (Address, Inbox) {
    (Address::Tasks(route.clone()), Inbox::Tasks(route.clone()))
}

async fn declared<Q: TaskQueue>(queue: &Q, pool: &str) -> (Address, Inbox) {
    let route = Route::normal(pool);
    queue.declare(&route).await.expect("declare");
    queue.declare(&route).await.expect("declaring twice is harmless");
    tasks(&route)
}

async fn delivers_until_acknowledged<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let delivery = consumer.next().await.expect("next").expect("a delivery");
    assert_eq!(delivery.message, message("one"));
    assert_eq!(delivery.delivered_before, 0);
    assert!(delivery.receipt.ack().await.expect("ack"), "the first ack counts");
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 0);
}

async fn gives_back_what_is_dropped<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    drop(consumer.next().await.expect("next").expect("a delivery"));
    drop(consumer);
    let mut consumer = queue.consume(&inbox).await.expect("consume again");
    let delivery = consumer.next().await.expect("next").expect("the same again");
    assert_eq!(delivery.message, message("one"));
    assert!(delivery.delivered_before >= 1, "one that its consumer had and nobody took counts, too");
}

async fn gives_up_after_the_limit<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    queue.publish(&address, message("poison")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    for before in 0..DELIVERIES_MAX {
        let delivery = consumer.next().await.expect("next").expect("a delivery");
        assert_eq!(delivery.delivered_before, before);
    }
    let mut notices = queue.consume(&Inbox::Notices).await.expect("notices");
    let notice = notices.next().await.expect("next").expect("a notice");
    assert_eq!(notice.message.body, message("poison").body);
    assert_eq!(notice.message.last_error.as_deref(), Some("delivery_limit"));
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 0);
}

async fn refuses_unknown_pools<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = tasks(&Route::normal("nobody"));
    let error = queue.publish(&address, message("x")).await.expect_err("nobody takes it");
    assert!(matches!(error, QueueError::Unroutable { .. }), "{error}");
    assert!(queue.consume(&inbox).await.is_err());
}

async fn keeps_pools_apart<Q: TaskQueue>(queue: &Q) {
    let (a, _) = declared(queue, "a").await;
    let (b, inbox_b) = declared(queue, "b").await;
    queue.publish(&a, message("for a")).await.expect("publish");
    queue.publish(&b, message("for b")).await.expect("publish");
    let mut consumer = queue.consume(&inbox_b).await.expect("consume");
    let delivery = consumer.next().await.expect("next").expect("a delivery");
    assert_eq!(delivery.message, message("for b"));
}

async fn shares_work_between_consumers<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    for text in ["1", "2"] {
        queue.publish(&address, message(text)).await.expect("publish");
    }
    let mut first = queue.consume(&inbox).await.expect("consume");
    let mut second = queue.consume(&inbox).await.expect("consume");
    let one = first.next().await.expect("next").expect("a delivery");
    let two = second.next().await.expect("next").expect("another delivery");
    assert_ne!(one.message, two.message, "no message is with two consumers at once");
}

async fn tells_coordinators_of_the_dead<Q: TaskQueue>(queue: &Q) {
    let mut notices = queue.consume(&Inbox::Notices).await.expect("notices");
    let dead = Message { last_error: Some("auth".to_owned()), ..message("bad") };
    queue.publish(&Address::DeadTasks, dead.clone()).await.expect("publish");
    let notice = notices.next().await.expect("next").expect("a notice");
    assert_eq!(notice.message.last_error, dead.last_error);
    assert!(notice.receipt.ack().await.expect("ack"));
}

async fn gives_back_a_dropped_receipt<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    drop(consumer.next().await.expect("next").expect("a delivery").receipt);
    let delivery = consumer.next().await.expect("next").expect("the same again");
    assert_eq!((&delivery.message, delivery.delivered_before), (&message("one"), 1));
    assert!(delivery.receipt.ack().await.expect("ack"));
}

async fn takes_deliveries_from_a_dropped_consumer<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    queue.publish(&address, message("one")).await.expect("publish");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let old = consumer.next().await.expect("next").expect("a delivery");
    drop(consumer);
    let mut consumer = queue.consume(&inbox).await.expect("consume again");
    let delivery = consumer.next().await.expect("next").expect("the same again");
    assert_eq!(delivery.delivered_before, 1);
    assert!(!old.receipt.ack().await.expect("ack"), "it is somebody else's now");
    assert!(delivery.receipt.ack().await.expect("ack"));
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 0);
}

async fn brings_back_what_is_for_later<Q: TaskQueue>(queue: &Q) {
    let (_, inbox) = declared(queue, "a").await;
    let route = Route::normal("a");
    let later = Message { attempt: 2, last_error: Some("transient".to_owned()), ..message("one") };
    queue.publish(&Address::Later(route, Delay::S5), later.clone()).await.expect("publish");
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 0);
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let delivery = consumer.next().await.expect("next").expect("a delivery");
    assert_eq!((delivery.message, delivery.delivered_before), (later, 0));
    assert!(delivery.receipt.ack().await.expect("ack"));
    let nobody = Address::Later(Route::normal("nobody"), Delay::S5);
    let error = queue.publish(&nobody, message("x")).await.expect_err("nobody takes it");
    assert!(matches!(error, QueueError::Unroutable { .. }), "{error}");
}

/// Whatever is under way at the same time.
async fn tells_each_publication_apart<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    let nobody = Address::Tasks(Route::normal("nobody"));
    let publish = |number: usize| {
        let to = if number.is_multiple_of(3) { &nobody } else { &address };
        queue.publish(to, message(&number.to_string()))
    };
    let published = join_all((0..120).map(publish)).await;
    for (number, published) in published.iter().enumerate() {
        assert_eq!(published.is_err(), number.is_multiple_of(3), "{number}: {published:?}");
    }
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 80);
}

async fn counts_what_waits<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 0);
    for text in ["1", "2", "3"] {
        queue.publish(&address, message(text)).await.expect("publish");
    }
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let delivery = consumer.next().await.expect("next").expect("a delivery");
    assert_eq!(queue.waiting(&inbox).await.expect("waiting"), 2, "without what is delivered");
    drop(delivery);
    let error = queue.waiting(&tasks(&Route::normal("nobody")).1).await.expect_err("no such queue");
    assert!(matches!(error, QueueError::Unroutable { .. }), "{error}");
}

async fn carries_submissions<Q: TaskQueue>(queue: &Q) {
    let mut notices = queue.consume(&Inbox::Notices).await.expect("notices");
    queue.publish(&Address::Jobs, message("{}")).await.expect("publish");
    let mut consumer = queue.consume(&Inbox::Jobs).await.expect("consume");
    let delivery = consumer.next().await.expect("next").expect("a delivery");
    assert_eq!(delivery.message, message("{}"));
    queue.publish(&Address::DeadJobs, delivery.message).await.expect("publish");
    assert!(delivery.receipt.ack().await.expect("ack"));
    queue.publish(&Address::DeadTasks, message("task")).await.expect("publish");
    let notice = notices.next().await.expect("next").expect("a notice");
    assert_eq!(notice.message, message("task"), "nobody is told of dead submissions");
}

async fn refuses_what_is_too_long<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    let of = |bytes: usize| Message { body: Bytes::from(vec![7; bytes]), ..message("long") };
    let error = queue.publish(&address, of(MESSAGE_BYTES_MAX + 1)).await.expect_err("too long");
    assert!(matches!(error, QueueError::TooLong { .. }), "{error}");
    queue.publish(&address, of(MESSAGE_BYTES_MAX)).await.expect("the longest");
    let mut consumer = queue.consume(&inbox).await.expect("consume");
    let delivery = consumer.next().await.expect("next").expect("a delivery");
    assert_eq!(delivery.message, of(MESSAGE_BYTES_MAX));
}
