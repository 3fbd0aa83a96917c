//! The doors of a fleet on real services: their contracts, and what they do when a service fails.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod queue;
mod queue_faults;
mod real_run;
mod secure;
mod state;
mod state_faults;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use fleet::clock::SystemClock;
use fleet::queue::{Address, Consumer, Delivery, Inbox, Message, QueueError, RabbitQueue, Route, TaskQueue};
use fleet::service::Service;
use fleet::state::RedisState;
use proto::handles::Clock;
use proto::names::state::Keys;

/// What `work` gives; panics if that takes longer than `limit`, with a little more for a busy machine.
async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    let limit = limit + Duration::from_secs(3);
    tokio::select! {
        biased;
        done = work => done,
        () = SystemClock::new().sleep(limit) => panic!("{what} took longer than {limit:?}"),
    }
}

/// Asks until the answer is wanted; panics with the last one after a minute.
async fn until<T: std::fmt::Debug>(what: &str, ask: impl AsyncFn() -> T, is_wanted: impl Fn(&T) -> bool) -> T {
    let clock = SystemClock::new();
    let give_up_at = clock.monotonic() + Duration::from_secs(60);
    loop {
        let answer = ask().await;
        if is_wanted(&answer) {
            return answer;
        }
        assert!(clock.monotonic() < give_up_at, "{what}: {answer:?}");
        clock.sleep(Duration::from_millis(100)).await;
    }
}

async fn queue_at(url: &str) -> RabbitQueue {
    RabbitQueue::connect(&Service::new(url)).await.unwrap_or_else(|error| panic!("cannot connect: {error}"))
}

async fn state_at(url: &str, prefix: &str) -> RedisState {
    let connected = RedisState::connect(&Service::new(url), Keys::new(prefix)).await;
    connected.unwrap_or_else(|error| panic!("cannot connect: {error}"))
}

fn message(text: &str) -> Message {
    Message { body: Bytes::copy_from_slice(text.as_bytes()), attempt: 1, last_error: None, subject: text.to_owned() }
}

fn tasks(pool: &str) -> (Address, Inbox) {
    (Address::Tasks(Route::normal(pool)), Inbox::Tasks(Route::normal(pool)))
}

async fn declared(queue: &RabbitQueue) -> (Address, Inbox) {
    queue.declare(&Route::normal("p")).await.expect("declare");
    tasks("p")
}

/// The next delivery of a consumer that is there.
async fn next(consumer: &mut dyn Consumer) -> Delivery {
    let next = within(Duration::from_secs(30), "a delivery", consumer.next()).await;
    next.expect("next").expect("a delivery")
}

/// Publishes until it is taken.
async fn publish_in_the_end(queue: &RabbitQueue, address: &Address, text: &str) {
    let publish = async || queue.publish(address, message(text)).await;
    let done = until("a publication", publish, |done| !matches!(done, Err(QueueError::Unavailable { .. }))).await;
    done.expect("publish");
}
