//! The task queue as one process reaches it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fleet::queue::{Address, Consumer, Delivery, Inbox, LocalQueue, Message, QueueError, Receipt, Route, TaskQueue};
use proto::handles::Clock;

use super::Way;
use crate::faults::Fault;

/// Every message that anybody published: what a broker's administrator could have seen.
pub type Published = Arc<Mutex<Vec<Message>>>;

/// Who publishes waits no longer for a confirm.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);

/// Publications and deliveries come with faults.
pub struct SimQueue {
    queue: LocalQueue,
    way: Way,
    published: Published,
    /// Until then the broker reads nothing from the connection that publishes.
    blocked_until: Mutex<Duration>,
}

impl SimQueue {
    /// `queue` at the end of `way`.
    pub fn new(queue: LocalQueue, way: Way, published: Published) -> Self {
        Self { queue, way, published, blocked_until: Mutex::default() }
    }

    /// Waits until the broker takes publications again.
    async fn unblocked(&self) -> Result<(), QueueError> {
        let until = *self.blocked_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_sub(self.way.clock.monotonic());
        if left.is_zero() {
            return Ok(());
        }
        self.way.clock.sleep(left.min(PUBLISH_LIMIT)).await;
        if left > PUBLISH_LIMIT { Err(unavailable("the broker takes no publications")) } else { Ok(()) }
    }

    /// From now on the broker reads nothing; what is on its way arrives when it does again.
    async fn block(
        &self,
        blocked: Duration,
        late: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), QueueError> {
        let until = self.way.clock.monotonic() + blocked;
        *self.blocked_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.way.later(blocked, late);
        self.way.clock.sleep(blocked.min(PUBLISH_LIMIT)).await;
        Err(unavailable("no confirm came"))
    }
}

fn unavailable(message: &str) -> QueueError {
    QueueError::Unavailable { message: message.to_owned() }
}

#[async_trait]
impl TaskQueue for SimQueue {
    async fn declare(&self, route: &Route) -> Result<(), QueueError> {
        self.queue.declare(route).await
    }

    async fn publish(&self, address: &Address, message: Message) -> Result<(), QueueError> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
        self.unblocked().await?;
        let fault = self.way.faults.publish();
        let subject = &message.subject[..8.min(message.subject.len())];
        self.way.note(format_args!("publish {address:?} {subject} {} {fault:?}", message.attempt));
        let (queue, to) = (self.queue.clone(), address.clone());
        let deliver = move |message: Message| async move { queue.publish(&to, message).await };
        let sent = message.clone();
        let answer = match fault {
            Fault::Refused | Fault::LostRequest => {
                self.way.out().await;
                Err(unavailable("the connection broke"))
            }
            Fault::Dropped => {
                self.way.out().await;
                Ok(())
            }
            Fault::Behind(after) => {
                self.way.out().await;
                let late = deliver(message);
                self.way.later(after, async move { drop(late.await) });
                Ok(())
            }
            Fault::Late(after) => {
                self.way.out().await;
                let late = deliver(message);
                self.way.later(after, async move { drop(late.await) });
                self.way.clock.sleep(after.min(PUBLISH_LIMIT)).await;
                Err(unavailable("no confirm came"))
            }
            Fault::Blocked(blocked) => {
                let late = deliver(message);
                self.block(blocked, async move { drop(late.await) }).await
            }
            Fault::Twice(after) => {
                let (queue, to, copy) = (self.queue.clone(), address.clone(), message.clone());
                self.way.later(after, async move { drop(queue.publish(&to, copy).await) });
                self.way.on_its_way(deliver(message)).await
            }
            _ => self.way.on_its_way(deliver(message)).await,
        };
        self.way.back().await;
        let answer = if fault == Fault::LostAnswer { Err(unavailable("no confirm came")) } else { answer };
        if answer.is_ok() {
            self.way.witness.sees_publication(self.way.actor.name(), address, &sent);
        }
        answer
    }

    async fn consume(&self, inbox: &Inbox) -> Result<Box<dyn Consumer>, QueueError> {
        self.way.actor.point().await;
        let consumer = self.queue.consume(inbox).await?;
        Ok(Box::new(SimConsumer { consumer, way: self.way.clone(), is_notices: *inbox == Inbox::Notices }))
    }

    async fn waiting(&self, inbox: &Inbox) -> Result<u64, QueueError> {
        self.queue.waiting(inbox).await
    }
}

struct SimConsumer {
    consumer: Box<dyn Consumer>,
    way: Way,
    is_notices: bool,
}

#[async_trait]
impl Consumer for SimConsumer {
    /// Waits for nothing once it has a delivery: a caller that drops it then would lose one of the deliveries that a
    /// message has.
    async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        self.way.actor.point().await;
        let delivery = self.consumer.next().await?;
        let Some(Delivery { message, delivered_before, published_at, receipt }) = delivery else { return Ok(None) };
        if !self.way.actor.spark() {
            return std::future::pending().await;
        }
        let fault = if self.is_notices { Fault::None } else { self.way.faults.delivery() };
        let subject = &message.subject[..8.min(message.subject.len())];
        self.way.note(format_args!("deliver {subject} {delivered_before} {fault:?}"));
        match fault {
            // The connection breaks with a delivery on its way: it comes again.
            Fault::Refused => Err(unavailable("the connection broke")),
            Fault::LostRequest => Ok(None),
            _ => {
                let delivered = (!self.is_notices).then(|| message.clone());
                let receipt = Box::new(SimReceipt { receipt, way: self.way.clone(), delivered });
                Ok(Some(Delivery { message, delivered_before, published_at, receipt }))
            }
        }
    }
}

#[derive(Debug)]
struct SimReceipt {
    receipt: Box<dyn Receipt>,
    way: Way,
    /// The task, if it is one.
    delivered: Option<Message>,
}

#[async_trait]
impl Receipt for SimReceipt {
    fn is_held(&self) -> bool {
        self.receipt.is_held()
    }

    async fn ack(self: Box<Self>) -> Result<bool, QueueError> {
        let Self { receipt, way, delivered } = *self;
        if let Some(message) = &delivered {
            way.witness.sees_ack(way.actor.name(), message, way.clock.now());
        }
        way.out().await;
        let fault = way.faults.ack();
        way.note(format_args!("ack {fault:?}"));
        let answer = match fault {
            // The delivery is not ours any more.
            Fault::Refused => {
                drop(receipt);
                Ok(false)
            }
            Fault::LostRequest => {
                drop(receipt);
                Err(unavailable("the connection broke"))
            }
            Fault::LostAnswer => {
                receipt.ack().await?;
                Err(unavailable("the connection broke"))
            }
            // Sent, and lost with the connection.
            Fault::Dropped => {
                drop(receipt);
                Ok(true)
            }
            _ => receipt.ack().await,
        };
        way.actor.point().await;
        answer
    }
}
