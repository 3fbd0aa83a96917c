//! Every exchange, queue and binding, declared in one place. Declaring what is there already is harmless.
//!
//! All queues are quorum queues with a bound. What a queue gives up goes to the dead exchange at least once, which
//! RabbitMQ does only where the full queue rejects what is published. An argument of a queue can never be changed, so
//! there are none but those that 3.10 knows; all else is for policies.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ExchangeKind};
use proto::names::queue::{
    DEAD_EXCHANGE, DEAD_JOBS_KEY, DEAD_JOBS_QUEUE, DEAD_NOTICES_KEY, DEAD_NOTICES_QUEUE, DEAD_TASKS_KEY,
    DEAD_TASKS_QUEUE, DELAY_HEADER, DUE_EXCHANGE, JOBS_EXCHANGE, RETRY_EXCHANGE, STRANDED_EXCHANGE, SUBMIT_KEY,
    SUBMIT_QUEUE, TASKS_EXCHANGE, delay_queue, task_key, task_queue,
};

use super::trouble::Trouble;
use crate::queue::{DELIVERIES_MAX, Delay, Inbox, Route};

/// Messages in one queue of tasks or delayed tasks. A job has at most 1,000 in flight.
const TASKS_MAX: i32 = 100_000;
/// Submissions that wait.
const JOBS_MAX: i32 = 10_000;
/// Dead messages that are kept for people, and notices; beyond that the oldest go.
const DEAD_MAX: i32 = 10_000;
/// A limit of N deliveries is N + 1 deliveries: the first one does not count.
const DELIVERY_LIMIT: i32 = DELIVERIES_MAX.cast_signed() - 1;
/// Looking at a dead message counts as a delivery, and beyond the limit it would be gone. There is no "without limit" in
/// 3.10, and none is 20 since 4.0.
const DELIVERY_LIMIT_DEAD: i32 = 1_000_000;
/// All tiers of delay.
pub(super) const DELAYS: [Delay; 4] = [Delay::S5, Delay::S30, Delay::M5, Delay::M30];

/// How a tier is called on the wire.
pub(super) const fn tier(delay: Delay) -> &'static str {
    match delay {
        Delay::S5 => "5s",
        Delay::S30 => "30s",
        Delay::M5 => "5m",
        Delay::M30 => "30m",
    }
}

/// The queue that an inbox reads.
pub(super) fn queue_of(inbox: &Inbox) -> String {
    match inbox {
        Inbox::Tasks(route) => task_queue(&route.pool, &route.class),
        Inbox::Jobs => SUBMIT_QUEUE.to_owned(),
        Inbox::Notices => DEAD_NOTICES_QUEUE.to_owned(),
    }
}

/// Whether the names of a route can be those of a queue and a routing key.
pub(super) fn is_good(route: &Route) -> bool {
    let good = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"*#".contains(&byte);
        !name.is_empty() && name.len() <= 100 && name.bytes().all(fits)
    };
    good(&route.pool) && good(&route.class)
}

/// Declares, and remembers which routes were declared: what was lost is declared again.
#[derive(Debug, Default)]
pub(super) struct Topology {
    routes: Mutex<BTreeSet<Route>>,
}

impl Topology {
    fn routes(&self) -> MutexGuard<'_, BTreeSet<Route>> {
        // Nothing panics while it is held.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process declared the queue that `inbox` reads.
    pub(super) fn has(&self, inbox: &Inbox) -> bool {
        match inbox {
            Inbox::Tasks(route) => self.routes().contains(route),
            Inbox::Jobs | Inbox::Notices => true,
        }
    }

    /// Declares everything that this process knows of.
    pub(super) async fn declare_all(&self, connection: &Connection) -> Result<(), Trouble> {
        // A failed declaration closes its channel.
        let channel = connection.create_channel().await?;
        declare_fixed(&channel).await?;
        let routes = self.routes().clone();
        for route in &routes {
            declare_tasks(&channel, route).await?;
        }
        close(&channel).await;
        Ok(())
    }

    /// Declares the queue of one route.
    pub(super) async fn declare(&self, connection: &Connection, route: &Route) -> Result<(), Trouble> {
        let channel = connection.create_channel().await?;
        declare_tasks(&channel, route).await?;
        close(&channel).await;
        self.routes().insert(route.clone());
        Ok(())
    }
}

async fn close(channel: &Channel) {
    // It has done its work; a channel that does not close goes with its connection.
    let _ = channel.close(200, "OK".into()).await;
}

async fn declare_fixed(channel: &Channel) -> Result<(), Trouble> {
    let nothing = FieldTable::default;
    exchange(channel, JOBS_EXCHANGE, ExchangeKind::Direct, nothing()).await?;
    exchange(channel, TASKS_EXCHANGE, ExchangeKind::Topic, nothing()).await?;
    exchange(channel, RETRY_EXCHANGE, ExchangeKind::Headers, nothing()).await?;
    exchange(channel, DEAD_EXCHANGE, ExchangeKind::Direct, nothing()).await?;
    exchange(channel, STRANDED_EXCHANGE, ExchangeKind::Fanout, nothing()).await?;
    exchange(channel, DUE_EXCHANGE, ExchangeKind::Topic, due_arguments()).await?;

    for name in [DEAD_TASKS_QUEUE, DEAD_JOBS_QUEUE] {
        queue(channel, name, dead_arguments()).await?;
    }
    queue(channel, DEAD_NOTICES_QUEUE, notices_arguments()).await?;
    for (name, key) in [
        (DEAD_TASKS_QUEUE, DEAD_TASKS_KEY),
        (DEAD_TASKS_QUEUE, DEAD_NOTICES_KEY),
        (DEAD_JOBS_QUEUE, DEAD_JOBS_KEY),
        (DEAD_NOTICES_QUEUE, DEAD_TASKS_KEY),
    ] {
        bind(channel, name, DEAD_EXCHANGE, key, nothing()).await?;
    }
    for name in [DEAD_TASKS_QUEUE, DEAD_NOTICES_QUEUE] {
        bind(channel, name, STRANDED_EXCHANGE, "", nothing()).await?;
    }
    queue(channel, SUBMIT_QUEUE, work_arguments(JOBS_MAX, DEAD_JOBS_KEY)).await?;
    bind(channel, SUBMIT_QUEUE, JOBS_EXCHANGE, SUBMIT_KEY, FieldTable::default()).await?;
    for delay in DELAYS {
        let name = delay_queue(tier(delay));
        queue(channel, &name, delay_arguments(delay)).await?;
        let mut header = FieldTable::default();
        header.insert("x-match".into(), text("all"));
        header.insert(DELAY_HEADER.into(), text(tier(delay)));
        bind(channel, &name, RETRY_EXCHANGE, "", header).await?;
    }
    Ok(())
}

async fn declare_tasks(channel: &Channel, route: &Route) -> Result<(), Trouble> {
    let name = task_queue(&route.pool, &route.class);
    queue(channel, &name, work_arguments(TASKS_MAX, DEAD_TASKS_KEY)).await?;
    let key = task_key(&route.pool, &route.class);
    bind(channel, &name, DUE_EXCHANGE, &key, FieldTable::default()).await?;
    bind(channel, &name, TASKS_EXCHANGE, &key, FieldTable::default()).await
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// A bounded queue whose publishers learn that it is full.
fn arguments(max: i32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(max));
    arguments
}

fn dead_lettering(mut arguments: FieldTable, exchange: &str) -> FieldTable {
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments
}

/// Work that is given up after some deliveries.
fn work_arguments(max: i32, dead_key: &str) -> FieldTable {
    let mut arguments = dead_lettering(arguments(max), DEAD_EXCHANGE);
    arguments.insert("x-dead-letter-routing-key".into(), text(dead_key));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    arguments
}

/// Where a task that waited long enough finds no queue it is given up: it would keep all those waiting that come after it.
/// Not so for what is published: who does that is told.
fn due_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), text(STRANDED_EXCHANGE));
    arguments
}

/// Nobody consumes it: what has waited long enough goes back to the tasks, under its own routing key.
fn delay_arguments(delay: Delay) -> FieldTable {
    let mut arguments = dead_lettering(arguments(TASKS_MAX), DUE_EXCHANGE);
    let millis = i32::try_from(delay.duration().as_millis()).unwrap_or(i32::MAX);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(millis));
    arguments
}

/// Nothing is behind it: when it is full the oldest message goes, so that what is given up always finds a place.
fn dead_arguments() -> FieldTable {
    let mut arguments = arguments(DEAD_MAX);
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT_DEAD));
    arguments
}

/// The same for coordinators. What they cannot pass on, and what has no place any more, is left to people.
fn notices_arguments() -> FieldTable {
    let mut arguments = arguments(DEAD_MAX);
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD_EXCHANGE));
    arguments.insert("x-dead-letter-routing-key".into(), text(DEAD_NOTICES_KEY));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
    arguments
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind, arguments: FieldTable) -> Result<(), Trouble> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    Ok(channel.exchange_declare(name.into(), kind, options, arguments).await?)
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), Trouble> {
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str, header: FieldTable) -> Result<(), Trouble> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, header).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_bind_one_queue_are_good() {
        assert!(is_good(&Route::normal("default")));
        assert!(is_good(&Route::normal("zone-1.disk_2")));
        for pool in ["", "*", "a.#", "a b", "a\n", &"x".repeat(101)] {
            assert!(!is_good(&Route::normal(pool)), "{pool:?}");
        }
    }
}
