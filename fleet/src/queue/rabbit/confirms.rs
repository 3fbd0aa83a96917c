//! One channel, and what waits for its confirm.
//!
//! A message that no queue takes comes back before it is confirmed. The client keeps such messages in a row, and hands out
//! the first of it with whichever confirm is settled next; of several that the broker confirms at once, in no order. So one
//! task publishes all and looks at every confirm, and a message that came back is known by its id. Nobody is told what came
//! of a publication before everything that came back so far has found its own: while a message of a settled publication is
//! still in the row, there is one in hand whose publication is not settled (each settled one takes one from the row).
//!
//! What goes wrong with one publication may end the channel, and the client says the same of all that were on their way.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use proto::handles::{BoxFuture, Clock};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::LATE_LIMIT;
use super::link::Live;
use super::publish::{PUBLICATIONS_MAX, Target};
use super::trouble::Trouble;
use crate::clock::SystemClock;

/// How often somebody looks for confirms that are late.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What became of publications, for metrics.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) unconfirmed: AtomicU64,
    pub(super) returned: AtomicU64,
}

/// One message on its way.
pub(super) struct Publication {
    pub(super) target: Target,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
    /// Free again when it is settled or late, whether or not anybody waits for that.
    pub(super) place: OwnedSemaphorePermit,
}

/// Why a message is not published.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// No queue took it.
    Returned,
    /// The broker did not take it, or nobody knows.
    Refused(Trouble),
    /// The channel broke, by this publication or by one beside it.
    Broke(Trouble),
}

type Outcome = Result<(), Unpublished>;
type Request = (Publication, oneshot::Sender<Outcome>);

/// A channel that publishes. Clones share it; it is closed when all are gone and nothing waits for a confirm any more.
#[derive(Clone)]
pub(super) struct ConfirmedChannel {
    /// Of the connection.
    pub(super) number: u64,
    channel: Channel,
    requests: mpsc::Sender<Request>,
}

impl ConfirmedChannel {
    pub(super) async fn open(live: &Live, counts: Arc<Counts>) -> Result<Self, Trouble> {
        let channel = live.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (requests, incoming) = mpsc::channel(PUBLICATIONS_MAX);
        tokio::spawn(Confirms::new(channel.clone(), counts).run(incoming));
        Ok(Self { number: live.number, channel, requests })
    }

    /// The connection's number, and its own on that.
    pub(super) fn id(&self) -> (u64, u16) {
        (self.number, self.channel.id())
    }

    /// Whether it takes publications.
    pub(super) fn is_usable(&self) -> bool {
        self.channel.status().connected() && !self.requests.is_closed()
    }

    /// Publishes, and waits for the confirm.
    pub(super) async fn publish(&self, publication: Publication) -> Outcome {
        let broke = || Unpublished::Broke(Trouble::Unavailable("the channel broke".to_owned()));
        let (tell, told) = oneshot::channel();
        self.requests.send((publication, tell)).await.map_err(|_| broke())?;
        told.await.unwrap_or_else(|_| Err(broke()))
    }
}

/// Who waits for a publication, and what it takes.
struct Asked {
    tell: oneshot::Sender<Outcome>,
    _place: OwnedSemaphorePermit,
    _unconfirmed: Unconfirmed,
}

/// A publication that was sent.
struct Waiting {
    confirm: PublisherConfirm,
    id: String,
    sent_at: Duration,
    /// Nobody any more, if it is late.
    asked: Option<Asked>,
}

/// A publication whose confirm is there.
struct Settled {
    confirmed: Result<Confirmation, lapin::Error>,
    id: String,
    asked: Option<Asked>,
}

/// What waits for its confirm, on one channel.
struct Confirms {
    channel: Channel,
    counts: Arc<Counts>,
    clock: SystemClock,
    look: BoxFuture<'static, ()>,
    waiting: Vec<Waiting>,
    /// Of which nobody was told yet.
    settled: Vec<Settled>,
    /// Ids of messages that came back, and whose publication is not settled or not told yet.
    returned: BTreeSet<String>,
    /// It takes nothing more.
    is_broken: bool,
}

impl Confirms {
    fn new(channel: Channel, counts: Arc<Counts>) -> Self {
        let (clock, waiting, settled, returned) = (SystemClock::new(), Vec::new(), Vec::new(), BTreeSet::new());
        let look = clock.sleep(LOOK_EVERY);
        Self { channel, counts, clock, look, waiting, settled, returned, is_broken: false }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while !self.is_broken {
            tokio::select! {
                biased;
                () = self.progress(), if !self.waiting.is_empty() => {}
                request = requests.recv() => match request {
                    Some((publication, tell)) => self.send(publication, tell).await,
                    None => break,
                },
            }
        }
        // Who waits to be sent is told that the channel broke.
        drop(requests);
        while self.waiting.iter().any(|waiting| waiting.asked.is_some()) {
            self.progress().await;
        }
        let _ = self.channel.close(200, "OK".into()).await;
    }

    /// Sends one, and settles others meanwhile.
    async fn send(&mut self, publication: Publication, tell: oneshot::Sender<Outcome>) {
        if tell.is_closed() {
            return; // given up before it left
        }
        let Publication { target, body, properties, place } = publication;
        let id = properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let (exchange, key) = (target.exchange.into(), target.key.as_str().into());
        let asked = Asked { tell, _place: place, _unconfirmed: Unconfirmed::new(self.counts.clone()) };
        let (channel, sent_at) = (self.channel.clone(), self.clock.monotonic());
        let sending = channel.basic_publish(exchange, key, options, &body, properties);
        tokio::pin!(sending);
        let sent = loop {
            tokio::select! {
                biased;
                sent = &mut sending => break sent,
                () = self.progress(), if !self.waiting.is_empty() => {}
            }
        };
        match sent {
            Ok(confirm) => self.waiting.push(Waiting { confirm, id, sent_at, asked: Some(asked) }),
            Err(error) => {
                self.is_broken = true;
                // Nobody may wait for it any more.
                let _ = asked.tell.send(Err(Unpublished::Broke(error.into())));
            }
        }
    }

    /// Waits until a confirm is there, or may be late.
    async fn progress(&mut self) {
        let is_time_to_look = poll_fn(|context| {
            if self.gather(context) {
                return Poll::Ready(false);
            }
            self.look.poll_unpin(context).map(|()| true)
        });
        if is_time_to_look.await {
            self.give_up_late_ones();
        }
        self.tell_all();
    }

    /// Takes every confirm that is there: all that the client settled before any of them are among them. Whether there
    /// was one.
    fn gather(&mut self, context: &mut Context<'_>) -> bool {
        let before = self.settled.len();
        loop {
            let (mut at, found) = (0, self.settled.len());
            while at < self.waiting.len() {
                let Poll::Ready(confirmed) = self.waiting[at].confirm.poll_unpin(context) else {
                    at += 1;
                    continue;
                };
                let Waiting { id, asked, .. } = self.waiting.swap_remove(at);
                if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = &confirmed
                    && let Some(id) = message.properties.message_id()
                {
                    self.returned.insert(id.to_string());
                }
                self.settled.push(Settled { confirmed, id, asked });
            }
            if self.settled.len() == found {
                return found > before;
            }
        }
    }

    /// Tells what came of those that are settled, if that is known.
    fn tell_all(&mut self) {
        let is_settled = |id: &String| self.settled.iter().any(|settled| settled.id == *id);
        if !self.returned.iter().all(is_settled) {
            return;
        }
        for Settled { confirmed, id, asked } in std::mem::take(&mut self.settled) {
            let came_back = self.returned.remove(&id);
            let outcome = self.outcome(confirmed, came_back);
            if let Some(asked) = asked {
                // Nobody may wait for it any more.
                let _ = asked.tell.send(outcome);
            }
        }
    }

    fn outcome(&mut self, confirmed: Result<Confirmation, lapin::Error>, came_back: bool) -> Outcome {
        let refused = |message: &str| Err(Unpublished::Refused(Trouble::Unavailable(message.to_owned())));
        match confirmed {
            Ok(_) if came_back => {
                self.counts.returned.fetch_add(1, Ordering::Relaxed);
                Err(Unpublished::Returned)
            }
            Ok(Confirmation::Ack(_)) => Ok(()),
            Ok(Confirmation::Nack(_)) => refused("a queue is full or not available"),
            Ok(Confirmation::NotRequested) => unreachable!("every channel that publishes asks for confirms"),
            Err(error) => {
                self.is_broken = true;
                Err(Unpublished::Broke(error.into()))
            }
        }
    }

    /// Nobody waits for these any more, and their places are needed. What comes with their confirms may be of others: they
    /// stay as long as the channel, which takes nothing more.
    fn give_up_late_ones(&mut self) {
        let now = self.clock.monotonic();
        for waiting in &mut self.waiting {
            if now.saturating_sub(waiting.sent_at) >= LATE_LIMIT {
                waiting.asked = None;
                self.is_broken = true;
            }
        }
        self.look = self.clock.sleep(LOOK_EVERY);
    }
}

/// One more, until it is dropped.
struct Unconfirmed(Arc<Counts>);

impl Unconfirmed {
    fn new(counts: Arc<Counts>) -> Self {
        counts.unconfirmed.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.0.unconfirmed.fetch_sub(1, Ordering::Relaxed);
    }
}
