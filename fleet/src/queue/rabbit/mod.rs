//! The task queue in RabbitMQ (3.10 to 4.x).
//!
//! # Order and consistency
//! A message is in a queue, on disk, when it was confirmed. There are two connections: a broker that runs short of memory
//! or disk stops reading from those that publish, and acknowledgements must get through.
//!
//! # Retries
//! A call has a time limit, and nobody knows what came of one that ran into it. Connections are made again by themselves;
//! on each new one the topology is declared again. A queue that this process declared and that is gone is declared again,
//! too.
//!
//! # Cancellation and crash
//! See `consume.rs` for what becomes of deliveries. Calls that are dropped, or take too long, go on to their end: a
//! publication that has left still arrives.
//!
//! # What may leak
//! Bodies, and what `wire.rs` copies from them, are readable for whoever may read the queues. The password of the address
//! is in no error.

mod confirms;
mod consume;
mod link;
mod publish;
mod topology;
mod trouble;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use proto::envelope::MESSAGE_BYTES_MAX;
use proto::names::queue::{
    DEAD_EXCHANGE, DEAD_JOBS_KEY, DEAD_TASKS_KEY, JOBS_EXCHANGE, RETRY_EXCHANGE, SUBMIT_KEY, TASKS_EXCHANGE, task_key,
};

use self::consume::RabbitConsumer;
use self::link::{Dial, Link, Live};
use self::publish::{Publisher, Target};
use self::topology::{Topology, is_good, queue_of};
use self::trouble::Trouble;
use super::{Address, Consumer, Inbox, Message, QueueError, Route, TaskQueue};
use crate::limit::within;
use crate::service::Service;

pub use self::link::LinkStatus;

/// What is asked of the broker takes no longer.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// An answer that nobody waits for any more may still come until then.
const LATE_LIMIT: Duration = Duration::from_secs(30);

/// How the queue stands, for metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RabbitStatus {
    /// The connection that publishes.
    pub publishing: LinkStatus,
    /// The connection that consumes.
    pub consuming: LinkStatus,
    /// Publications that wait for their confirm.
    pub unconfirmed: u64,
    /// Publications that no queue took, since the start.
    pub returned: u64,
}

/// Queues in RabbitMQ. Clones share the connections.
#[derive(Clone)]
pub struct RabbitQueue {
    inner: Arc<Inner>,
}

struct Inner {
    /// For people: no password in it.
    place: String,
    publisher: Publisher,
    consuming: Link,
    topology: Arc<Topology>,
}

impl RabbitQueue {
    /// Connects to `service`, `amqp://` or `amqps://`, and declares all but the queues of tasks.
    ///
    /// # Errors
    /// `Unavailable`, `Denied` and `Mismatch`, if that fails. Later connections are made by themselves.
    pub async fn connect(service: &Service) -> Result<Self, QueueError> {
        let place = service.place();
        let connected = async {
            let (dial, topology) = (Dial::new(service)?, Arc::new(Topology::default()));
            let consuming = Link::open(dial.for_role("consuming", Some(topology.clone()))).await?;
            let publishing = Link::open(dial.for_role("publishing", None)).await?;
            Ok((Publisher::new(publishing, dial.user()), consuming, topology))
        };
        let (publisher, consuming, topology) =
            connected.await.map_err(|trouble: Trouble| trouble.at(&place, &Address::Jobs))?;
        Ok(Self { inner: Arc::new(Inner { place, publisher, consuming, topology }) })
    }

    /// How it stands.
    pub fn status(&self) -> RabbitStatus {
        let (unconfirmed, returned) = self.inner.publisher.counts();
        RabbitStatus {
            publishing: self.inner.publisher.link.status(),
            consuming: self.inner.consuming.status(),
            unconfirmed,
            returned,
        }
    }
}

impl Inner {
    /// Asks the broker, on the connection that consumes.
    async fn ask<T: Send + 'static, F>(&self, ask: impl FnOnce(Live) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        let asked = to_its_end(ask(self.consuming.live()?));
        let late = || Err(Trouble::Unavailable(format!("no answer within {CALL_LIMIT:?}")));
        within(CALL_LIMIT, asked).await.unwrap_or_else(late)
    }

    async fn publish(&self, address: &Address, message: &Message) -> Result<(), Trouble> {
        self.publisher.publish(address, address.target(), message).await
    }

    /// Declares what `inbox` reads, if this process declared it before: somebody deleted it.
    async fn declare_again(&self, inbox: &Inbox) -> Result<bool, Trouble> {
        if !self.topology.has(inbox) {
            return Ok(false);
        }
        let topology = self.topology.clone();
        self.ask(|live| async move { topology.declare_all(&live.connection).await }).await?;
        Ok(true)
    }

    async fn open(&self, inbox: &Inbox) -> Result<RabbitConsumer, Trouble> {
        let (place, inbox) = (self.place.clone(), inbox.clone());
        self.ask(|live| async move { RabbitConsumer::open(&live, &inbox, place).await }).await
    }
}

/// Does `work` to its end, from now on and whether or not anybody waits for it: a channel that goes away while it has
/// asked something takes its whole connection with it, and all deliveries that came by it. A broker that has not answered
/// for much longer is not spared.
fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> impl Future<Output = Result<T, Trouble>> + Send {
    let done = tokio::spawn(within(LATE_LIMIT, work));
    let broke = || Err(Trouble::Unavailable("the call broke".to_owned()));
    async move { done.await.ok().flatten().unwrap_or_else(broke) }
}

impl Address {
    fn target(&self) -> Target {
        let (exchange, key) = match self {
            Self::Tasks(route) => (TASKS_EXCHANGE, task_key(&route.pool, &route.class)),
            Self::Later(route, _) => (RETRY_EXCHANGE, task_key(&route.pool, &route.class)),
            Self::Jobs => (JOBS_EXCHANGE, SUBMIT_KEY.to_owned()),
            Self::DeadTasks => (DEAD_EXCHANGE, DEAD_TASKS_KEY.to_owned()),
            Self::DeadJobs => (DEAD_EXCHANGE, DEAD_JOBS_KEY.to_owned()),
        };
        Target { exchange, key }
    }

    /// The inbox in which a message for this address ends.
    fn inbox(&self) -> Inbox {
        match self {
            Self::Tasks(route) | Self::Later(route, _) => Inbox::Tasks(route.clone()),
            Self::Jobs => Inbox::Jobs,
            Self::DeadTasks | Self::DeadJobs => Inbox::Notices,
        }
    }
}

#[async_trait]
impl TaskQueue for RabbitQueue {
    async fn declare(&self, route: &Route) -> Result<(), QueueError> {
        let address = Address::Tasks(route.clone());
        if !is_good(route) {
            return Err(QueueError::Unroutable { address });
        }
        let (topology, of) = (self.inner.topology.clone(), route.clone());
        let declared = self.inner.ask(|live| async move { topology.declare(&live.connection, &of).await });
        declared.await.map_err(|trouble| trouble.at(&self.inner.place, &address))
    }

    async fn publish(&self, address: &Address, message: Message) -> Result<(), QueueError> {
        if message.body.len() > MESSAGE_BYTES_MAX {
            return Err(QueueError::TooLong { bytes: message.body.len() });
        }
        let inner = &self.inner;
        if matches!(address, Address::Later(..)) && !inner.topology.has(&address.inbox()) {
            // It would find a queue of delay, and never leave it.
            self.waiting(&address.inbox()).await?;
        }
        let published = match inner.publish(address, &message).await {
            Err(Trouble::Missing) => match inner.declare_again(&address.inbox()).await {
                Ok(true) => inner.publish(address, &message).await,
                Ok(false) => Err(Trouble::Missing),
                Err(trouble) => Err(trouble),
            },
            published => published,
        };
        published.map_err(|trouble| trouble.at(&inner.place, address))
    }

    async fn consume(&self, inbox: &Inbox) -> Result<Box<dyn Consumer>, QueueError> {
        let opened = match self.inner.open(inbox).await {
            Err(Trouble::Missing) => match self.inner.declare_again(inbox).await {
                Ok(true) => self.inner.open(inbox).await,
                Ok(false) => Err(Trouble::Missing),
                Err(trouble) => Err(trouble),
            },
            opened => opened,
        };
        match opened {
            Ok(consumer) => Ok(Box::new(consumer)),
            Err(trouble) => Err(trouble.at(&self.inner.place, &inbox.address())),
        }
    }

    async fn waiting(&self, inbox: &Inbox) -> Result<u64, QueueError> {
        let queue = queue_of(inbox);
        let looked = self.inner.ask(|live| async move {
            let channel = live.connection.create_channel().await?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
            let _ = channel.close(200, "OK".into()).await;
            Ok(u64::from(queue.message_count()))
        });
        looked.await.map_err(|trouble| trouble.at(&self.inner.place, &inbox.address()))
    }
}
