//! Publications: each is confirmed, and each has a channel of its own while it waits for that.
//!
//! A message that no queue takes comes back just before it is confirmed, and nothing says which confirm it belongs to but
//! the order. With one publication at a time on a channel there is nothing to mistake.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use proto::handles::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::link::{Link, Live};
use super::to_its_end;
use super::trouble::Trouble;
use super::wire;
use crate::clock::SystemClock;
use crate::limit::within;
use crate::queue::{Address, Message};

/// Publication and confirm take no longer. Nobody knows what came of one that took longer.
pub(super) const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// Publications that wait for their confirms at once.
const PUBLICATIONS_MAX: usize = 64;

/// Where an address is in the topology.
pub(super) struct Target {
    pub(super) exchange: &'static str,
    pub(super) key: String,
}

/// Publishes on one connection.
pub(super) struct Publisher {
    pub(super) link: Link,
    user: Option<ShortString>,
    places: Arc<Semaphore>,
    channels: Arc<Channels>,
}

/// What its publications share.
#[derive(Default)]
struct Channels {
    /// Those that no publication waits on, with the number of their connection.
    idle: Mutex<Vec<(u64, Channel)>>,
    unconfirmed: AtomicU64,
    returned: AtomicU64,
}

impl Publisher {
    pub(super) fn new(link: Link, user: Option<ShortString>) -> Self {
        Self { link, user, places: Arc::new(Semaphore::new(PUBLICATIONS_MAX)), channels: Arc::default() }
    }

    /// Publications that wait for a confirm, and those that came back since the start.
    pub(super) fn counts(&self) -> (u64, u64) {
        let Channels { unconfirmed, returned, .. } = &*self.channels;
        (unconfirmed.load(Ordering::Relaxed), returned.load(Ordering::Relaxed))
    }

    /// Publishes and waits for the confirm, within [`PUBLISH_LIMIT`]. One that has no place or connection by then is given
    /// up; one that has left goes on, and keeps its place.
    pub(super) async fn publish(&self, address: &Address, target: Target, message: &Message) -> Result<(), Trouble> {
        let now = SystemClock::new().now();
        let properties = wire::properties(address, message, now, self.user.as_ref());
        let publishing = async {
            let place = self.places.clone().acquire_owned().await;
            let live = self.link.ready().await?;
            let (channels, body) = (self.channels.clone(), message.body.clone());
            to_its_end(async move { channels.publish(place.ok(), &live, &target, &body, properties).await }).await
        };
        match within(PUBLISH_LIMIT, publishing).await {
            Some(done) => done,
            None => Err(Trouble::Unavailable(self.why_so_long())),
        }
    }

    fn why_so_long(&self) -> String {
        let known = self.link.known();
        match (known.live, known.blocked, known.trouble) {
            (_, Some(reason), _) => format!("the broker takes no publications: {reason}"),
            (None, _, Some(trouble)) => format!("not connected: {trouble:?}"),
            _ => format!("no confirm within {PUBLISH_LIMIT:?}"),
        }
    }
}

impl Channels {
    async fn publish(
        &self,
        _place: Option<OwnedSemaphorePermit>,
        live: &Live,
        target: &Target,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), Trouble> {
        let channel = self.channel(live).await?;
        let waiting = Counted::new(&self.unconfirmed);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let (exchange, key) = (target.exchange.into(), target.key.as_str().into());
        let confirm = channel.basic_publish(exchange, key, options, body, properties).await?;
        let confirmation = confirm.await?;
        drop(waiting);
        let came_back = match confirmation {
            Confirmation::Ack(came_back) => came_back,
            Confirmation::Nack(_) => return Err(Trouble::Unavailable("a queue is full or not available".to_owned())),
            Confirmation::NotRequested => unreachable!("every channel that publishes asks for confirms"),
        };
        // A channel on which something went wrong is not used again.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((live.number, channel));
        if came_back.is_some() {
            self.returned.fetch_add(1, Ordering::Relaxed);
            return Err(Trouble::Missing);
        }
        Ok(())
    }

    async fn channel(&self, live: &Live) -> Result<Channel, Trouble> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|(number, channel)| *number == live.number && channel.status().connected());
            idle.pop()
        };
        if let Some((_, channel)) = idle {
            return Ok(channel);
        }
        let channel = live.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }
}

/// One more, until it is dropped.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
