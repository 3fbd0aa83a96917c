//! The task queue door: how tasks get to workers, and submissions to coordinators.
//!
//! # Order and consistency
//! At least once, in no promised order. A message that [`TaskQueue::publish`] confirmed is delivered until some
//! delivery of it was acknowledged, or it is dead-lettered after [`DELIVERIES_MAX`] deliveries.
//!
//! # Retries
//! Publishing again after an error is allowed and may make duplicates.
//!
//! # Cancellation and crash
//! An unacknowledged delivery that is dropped, or whose consumer is dropped, is delivered again. That is the lease:
//! there is no other lock on a task.

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::UnixTime;
use std::time::Duration;

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod local;
mod rabbit;

pub use local::LocalQueue;
pub use rabbit::{LinkStatus, RabbitQueue, RabbitStatus};

/// A message that was delivered so often without an acknowledgement is dead-lettered.
pub const DELIVERIES_MAX: u32 = 10;

/// Where a message is published to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Tasks of one pool and class.
    Tasks(Route),
    /// The same, after a delay: the message comes back to `Tasks` by itself.
    Later(Route, Delay),
    /// Submissions.
    Jobs,
    /// Tasks that were given up; a notice goes to the coordinators.
    DeadTasks,
    /// Submissions that were given up.
    DeadJobs,
}

/// What a consumer reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inbox {
    /// Tasks of one pool and class.
    Tasks(Route),
    /// Submissions.
    Jobs,
    /// Copies of dead-lettered tasks, for coordinators.
    Notices,
}

impl Inbox {
    /// What is published to end there.
    fn address(&self) -> Address {
        match self {
            Self::Tasks(route) => Address::Tasks(route.clone()),
            Self::Jobs => Address::Jobs,
            Self::Notices => Address::DeadTasks,
        }
    }
}

/// Pool and class of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The pool of workers.
    pub pool: String,
    /// The class; `normal` now.
    pub class: String,
}

impl Route {
    /// The normal class of `pool`.
    pub fn normal(pool: &str) -> Self {
        Self { pool: pool.to_owned(), class: "normal".to_owned() }
    }
}

/// The tiers of delay. A message expires only at the head of its queue, so each tier is a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delay {
    /// Five seconds.
    S5,
    /// Thirty seconds.
    S30,
    /// Five minutes.
    M5,
    /// Thirty minutes.
    M30,
}

impl Delay {
    /// Its length.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::S5 => 5,
            Self::S30 => 30,
            Self::M5 => 300,
            Self::M30 => 1800,
        })
    }

    /// The tier for the given attempt: the second attempt waits shortest.
    pub const fn for_attempt(attempt: u32) -> Self {
        match attempt {
            0..=2 => Self::S5,
            3 => Self::S30,
            4 => Self::M5,
            _ => Self::M30,
        }
    }
}

/// A message with what people and brokers may see of it; the truth is in the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// An envelope.
    pub body: Bytes,
    /// Counts fresh copies after transient errors; first attempt 1.
    pub attempt: u32,
    /// Short code of the last error.
    pub last_error: Option<String>,
    /// Task or job id, for people.
    pub subject: String,
}

/// A message as it was delivered.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// How often it was delivered before.
    pub delivered_before: u32,
    /// When it was published, by the publisher's clock; only first attempts say so, and only where clocks differ.
    pub published_at: Option<UnixTime>,
    /// Settles it.
    pub receipt: Box<dyn Receipt>,
}

/// Settles one delivery.
#[async_trait]
pub trait Receipt: Send + Sync + std::fmt::Debug {
    /// Takes the message off the queue. `false`: it was **not** acknowledged (the delivery is no longer ours: the
    /// connection it came by is gone) and will come again.
    ///
    /// # Errors
    /// When nobody knows.
    async fn ack(self: Box<Self>) -> Result<bool, QueueError>;

    /// Whether the delivery still is ours, as far as is known here. One that is dropped comes again, which counts; so who
    /// cannot hand a message on yet keeps it as long as this holds.
    fn is_held(&self) -> bool {
        true
    }
}

/// Notices that one consumer may have without acknowledging them; of everything else it has one.
pub const NOTICES_AHEAD: u16 = 64;

/// What went wrong, by what a caller would do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// Not connected, blocked or timed out: nobody knows whether the message was taken. Publish it again.
    #[error("the task queue is not reachable: {message}")]
    Unavailable {
        /// What the client says.
        message: String,
    },
    /// Nobody has declared a queue for this address.
    #[error("no queue takes {address:?}")]
    Unroutable {
        /// The address.
        address: Address,
    },
    /// A message is longer than one may be.
    #[error("{bytes} bytes are too long for a message")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A queue is there with other properties than it should have: somebody has to remove it or to change it back.
    #[error("the task queue has something else under that name: {message}")]
    Mismatch {
        /// What the service says.
        message: String,
    },
    /// Credentials were refused.
    #[error("the task queue refused access: {message}")]
    Denied {
        /// What the service says.
        message: String,
    },
}

/// The task queue.
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Makes the queues of a pool, if they are not there.
    async fn declare(&self, route: &Route) -> Result<(), QueueError>;

    /// Hands a message over. When it returns, the message is durable and in a queue.
    ///
    /// # Errors
    /// `Unroutable` if there is no such queue.
    async fn publish(&self, address: &Address, message: Message) -> Result<(), QueueError>;

    /// Starts to consume, one unacknowledged message at a time.
    async fn consume(&self, inbox: &Inbox) -> Result<Box<dyn Consumer>, QueueError>;

    /// Messages that wait in an inbox, without those that are delivered and not acknowledged.
    async fn waiting(&self, inbox: &Inbox) -> Result<u64, QueueError>;
}

/// A stream of deliveries.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery; waits for one. `None`: the stream ended, consume anew.
    ///
    /// Safe to drop while it waits.
    async fn next(&mut self) -> Result<Option<Delivery>, QueueError>;
}
