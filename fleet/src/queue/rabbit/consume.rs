//! Deliveries: one channel for each consumer, one unacknowledged delivery at a time.
//!
//! # What gives a delivery back
//! A receipt that is dropped *rejects* its delivery and asks to queue it again: a rejection counts as a delivery in every
//! release of RabbitMQ, so that a task that is given back again and again is dead-lettered in the end (`nack` counts no
//! more since 4.3). A consumer that is dropped closes its channel, a connection that breaks does the same: that gives back
//! whatever is not acknowledged, and counts as well. A receipt of a closed channel can do nothing more: it says `false`.
//!
//! What gives back on purpose, a worker that drains, publishes a fresh copy and acknowledges.

use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};

use super::link::Live;
use super::topology::queue_of;
use super::trouble::Trouble;
use super::wire;
use crate::limit::within;
use crate::queue::{Address, Consumer, Delivery, Inbox, NOTICES_AHEAD, QueueError, Receipt};

/// An acknowledgement is on its way by then, or nobody knows.
const ACK_LIMIT: Duration = Duration::from_secs(10);

/// Why a task is dead whose queue was gone when its delay was over.
const NO_QUEUE: &str = "no_queue";

/// Reads one inbox.
pub(super) struct RabbitConsumer {
    stream: lapin::Consumer,
    channel: Channel,
    place: String,
    address: Address,
    is_of_notices: bool,
}

impl RabbitConsumer {
    /// Begins to consume on a channel of its own.
    pub(super) async fn open(live: &Live, inbox: &Inbox, place: String) -> Result<Self, Trouble> {
        let channel = live.connection.create_channel().await?;
        let ahead = if *inbox == Inbox::Notices { NOTICES_AHEAD } else { 1 };
        channel.basic_qos(ahead, BasicQosOptions::default()).await?;
        let (queue, options) = (queue_of(inbox).into(), BasicConsumeOptions::default());
        let stream = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
        let is_of_notices = matches!(inbox, Inbox::Notices);
        Ok(Self { stream, channel, place, address: inbox.address(), is_of_notices })
    }
}

impl Drop for RabbitConsumer {
    /// In order, and to its end: the client would close the channel before the answer to its cancellation came, take that
    /// answer for an error, and close the connection with every other consumer.
    fn drop(&mut self) {
        let (stream, channel) = (self.stream.clone(), self.channel.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = channel.basic_cancel(stream.tag(), BasicCancelOptions::default()).await;
                let _ = channel.close(200, "OK".into()).await;
                drop(stream);
            });
        }
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    /// Waits for nothing once it has a delivery.
    async fn next(&mut self) -> Result<Option<Delivery>, QueueError> {
        let delivery = match self.stream.next().await {
            Some(Ok(delivery)) => delivery,
            // The broker cancelled it, as when the queue is deleted.
            None => return Ok(None),
            Some(Err(error)) => return Err(Trouble::from(error).at(&self.place, &self.address)),
        };
        let lapin::message::Delivery { properties, data, redelivered, acker, .. } = delivery;
        let published_at = wire::published_at(&properties);
        let (mut message, delivered_before) = wire::message(&properties, data, redelivered);
        if self.is_of_notices && wire::has_lost_its_queue(&properties) {
            message.last_error = Some(NO_QUEUE.to_owned());
        }
        let receipt = RabbitReceipt { acker: Some(acker), place: self.place.clone() };
        Ok(Some(Delivery { message, delivered_before, published_at, receipt: Box::new(receipt) }))
    }
}

/// One delivery of one channel.
struct RabbitReceipt {
    acker: Option<Acker>,
    place: String,
}

impl std::fmt::Debug for RabbitReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RabbitReceipt")
    }
}

#[async_trait]
impl Receipt for RabbitReceipt {
    /// The broker does not confirm it: `true` says that it was sent on the channel that the delivery came by.
    async fn ack(mut self: Box<Self>) -> Result<bool, QueueError> {
        let Some(acker) = self.acker.take() else { return Ok(false) };
        let unknown = |message: String| QueueError::Unavailable { message: format!("{}: {message}", self.place) };
        match within(ACK_LIMIT, acker.ack(BasicAckOptions::default())).await {
            Some(Ok(acked)) => Ok(acked),
            Some(Err(error)) => Err(unknown(error.to_string())),
            None => Err(unknown(format!("an acknowledgement was not sent within {ACK_LIMIT:?}"))),
        }
    }

    fn is_held(&self) -> bool {
        self.acker.as_ref().is_some_and(Acker::usable)
    }
}

impl Drop for RabbitReceipt {
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take() {
            // Sent with the first poll; if it is not, the channel gives it back when it closes.
            let _ = acker.reject(BasicRejectOptions { requeue: true }).now_or_never();
        }
    }
}
