//! What every task queue must do. Run by each implementation with a maker of fresh, empty queues.

use bytes::Bytes;

use super::{Address, DELIVERIES_MAX, Inbox, Message, QueueError, Route, TaskQueue};

/// Runs the whole suite.
pub async fn run<Q: TaskQueue>(make: impl Fn() -> Q) {
    delivers_until_acknowledged(&make()).await;
    gives_back_what_is_dropped(&make()).await;
    gives_up_after_the_limit(&make()).await;
    refuses_unknown_pools(&make()).await;
    keeps_pools_apart(&make()).await;
    shares_work_between_consumers(&make()).await;
    tells_coordinators_of_the_dead(&make()).await;
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
    assert_eq!(delivery.delivered_before, 1);
}

async fn gives_up_after_the_limit<Q: TaskQueue>(queue: &Q) {
    let (address, inbox) = declared(queue, "a").await;
    queue.publish(&address, message("poison")).await.expect("publish");
    for _ in 0..DELIVERIES_MAX {
        let mut consumer = queue.consume(&inbox).await.expect("consume");
        drop(consumer.next().await.expect("next").expect("a delivery"));
    }
    let mut notices = queue.consume(&Inbox::Notices).await.expect("notices");
    let notice = notices.next().await.expect("next").expect("a notice");
    assert_eq!(notice.message.body, message("poison").body);
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
