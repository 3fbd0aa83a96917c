//! Publications: each is confirmed, and all of a connection share a channel.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::ShortString;
use proto::handles::Clock;
use tokio::sync::Semaphore;

use super::confirms::{ConfirmedChannel, Counts, Publication, Unpublished};
use super::link::{Known, Link, Live};
use super::to_its_end;
use super::trouble::Trouble;
use super::wire;
use crate::clock::SystemClock;
use crate::limit::within;
use crate::queue::{Address, Message};

/// Publication and confirm take no longer. Nobody knows what came of one that took longer.
pub(super) const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// Publications that wait for their confirms at once.
pub(super) const PUBLICATIONS_MAX: usize = 64;

/// Where an address is in the topology.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) exchange: &'static str,
    pub(super) key: String,
}

/// Publishes on one connection.
pub(super) struct Publisher {
    pub(super) link: Link,
    user: Option<ShortString>,
    places: Arc<Semaphore>,
    channel: Arc<Mutex<Option<ConfirmedChannel>>>,
    /// Held by who opens one.
    opening: Arc<tokio::sync::Mutex<()>>,
    counts: Arc<Counts>,
}

impl Publisher {
    pub(super) fn new(link: Link, user: Option<ShortString>) -> Self {
        let places = Arc::new(Semaphore::new(PUBLICATIONS_MAX));
        Self { link, user, places, channel: Arc::default(), opening: Arc::default(), counts: Arc::default() }
    }

    /// Publications that wait for a confirm, and those that came back since the start.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counts.unconfirmed.load(Ordering::Relaxed), self.counts.returned.load(Ordering::Relaxed))
    }

    /// Publishes and waits for the confirm, within [`PUBLISH_LIMIT`]. One that has no place or connection by then, or that
    /// has not left, is given up; one that has left keeps its place until it is settled or late.
    pub(super) async fn publish(&self, address: &Address, target: Target, message: &Message) -> Result<(), Trouble> {
        let now = SystemClock::new().now();
        let properties = wire::properties(address, message, now, self.user.as_ref());
        let used = OnceLock::new();
        let publishing = async {
            let live = self.link.ready().await?;
            let channel = self.channel(&live).await?;
            let _ = used.set(channel.id());
            match self.publish_on(&channel, &target, message, &properties).await {
                // It may be another one that the broker refuses: alone it is known, while there is a connection.
                Err(Unpublished::Broke(_)) if self.is_current(&live) => {
                    let counts = self.counts.clone();
                    let alone = to_its_end(async move { ConfirmedChannel::open(&live, counts).await }).await?;
                    self.publish_on(&alone, &target, message, &properties).await.map_err(Trouble::from)
                }
                published => published.map_err(Trouble::from),
            }
        };
        match within(PUBLISH_LIMIT, publishing).await {
            Some(done) => done,
            None => {
                // What its channel waits for may never come: others need not wait behind that.
                self.current().take_if(|current| used.get() == Some(&current.id()));
                Err(Trouble::Unavailable(self.why_so_long()))
            }
        }
    }

    fn is_current(&self, live: &Live) -> bool {
        self.link.known().live.is_some_and(|current| current.number == live.number)
    }

    async fn publish_on(
        &self,
        channel: &ConfirmedChannel,
        target: &Target,
        message: &Message,
        properties: &BasicProperties,
    ) -> Result<(), Unpublished> {
        let closed = |_| Unpublished::Refused(Trouble::Unavailable("nothing is published any more".to_owned()));
        let place = self.places.clone().acquire_owned().await.map_err(closed)?;
        let (target, body, properties) = (target.clone(), message.body.clone(), properties.clone());
        channel.publish(Publication { target, body, properties, place }).await
    }

    fn why_so_long(&self) -> String {
        let known = self.link.known();
        match (known.live, known.blocked, known.trouble) {
            (_, Some(reason), _) => format!("the broker takes no publications: {reason}"),
            (None, _, Some(trouble)) => format!("not connected: {trouble:?}"),
            _ => format!("no confirm within {PUBLISH_LIMIT:?}"),
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<ConfirmedChannel>> {
        // Nothing panics while it is held.
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self, live: &Live) -> Option<ConfirmedChannel> {
        self.current().as_ref().filter(|channel| channel.number == live.number && channel.is_usable()).cloned()
    }

    async fn channel(&self, live: &Live) -> Result<ConfirmedChannel, Trouble> {
        if let Some(channel) = self.usable(live) {
            return Ok(channel);
        }
        let opening = self.opening.clone().lock_owned().await;
        if let Some(channel) = self.usable(live) {
            return Ok(channel);
        }
        let (number, mut known) = (live.number, self.link.watch());
        let (live, counts, current) = (live.clone(), self.counts.clone(), self.channel.clone());
        to_its_end(async move {
            let is_gone = |known: &Known| known.live.as_ref().is_none_or(|live| live.number != number);
            let channel = tokio::select! {
                biased;
                opened = ConfirmedChannel::open(&live, counts) => opened?,
                // The client does not always say that nothing will come.
                _ = known.wait_for(is_gone) => return Err(Trouble::Unavailable("the connection is lost".to_owned())),
            };
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
            drop(opening);
            Ok(channel)
        })
        .await
    }
}

impl From<Unpublished> for Trouble {
    fn from(unpublished: Unpublished) -> Self {
        match unpublished {
            Unpublished::Returned => Self::Missing,
            Unpublished::Refused(trouble) | Unpublished::Broke(trouble) => trouble,
        }
    }
}
