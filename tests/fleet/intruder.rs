//! Somebody else on the same broker, job state and repository: writes what no member of the fleet would, and looks at what
//! became of it.

use std::sync::Arc;

use bytes::Bytes;
use fleet::clock::SystemClock;
use fleet::rand::SystemRandom;
use fleet::service::Service;
use fleet::state::{JobState, Position, RedisState};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::handles::{Clock, UnixTime};
use proto::id::{Id, JobId};
use proto::names::queue::{ERROR_HEADER, TASKS_EXCHANGE};
use proto::names::state::Keys;
use proto::task::{Task, Work};
use repository::repository::Repository;
use repository::storage::{Local, Storage};
use tests::processes::Fleet;
use tests::restic::PASSWORD;

/// A queue that gets a copy of each task.
const TAP: &str = "tap";

/// The intruder.
pub(crate) struct Intruder {
    _connection: Connection,
    channel: Channel,
    state: RedisState,
    /// The key of the repository's fleet: of somebody who may sign.
    key: MessageKey,
    /// The repository's id.
    pub(crate) repository: Id,
}

impl Intruder {
    /// One who knows the password of a repository in a folder.
    pub(crate) async fn in_the(fleet: &Fleet) -> Self {
        let connection = Connection::connect(&fleet.amqp, ConnectionProperties::default()).await.expect("connect");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let redis = Service::new(fleet.redis.url(""));
        let state = RedisState::connect(&redis, Keys::default()).await.expect("connect");
        let storage: Arc<dyn Storage> = Arc::new(Local::new(fleet.restic.repository()));
        let random = Arc::new(SystemRandom);
        let repository = Repository::open(storage, PASSWORD.as_bytes(), None, random).await.expect("opened");
        let key = MessageKey::derive(&*repository.master_key().material(), &repository.id());
        Self { _connection: connection, channel, state, key, repository: repository.id() }
    }

    /// Gets a copy of every task from now on.
    pub(crate) async fn tap(&self) {
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(TAP.into(), options, FieldTable::default()).await.expect("declared");
        let bind = self.channel.queue_bind(
            TAP.into(),
            TASKS_EXCHANGE.into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.expect("bound");
    }

    /// The next task that was published.
    pub(crate) async fn tapped(&self) -> Option<Vec<u8>> {
        self.take(TAP).await.map(|(_, body)| body)
    }

    /// Publishes anything.
    pub(crate) async fn publish(&self, exchange: &str, key: &str, body: &[u8]) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let published = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
        published.expect("published").await.expect("confirmed");
    }

    /// Takes a message: its reason, if it was dead-lettered, and its body.
    pub(crate) async fn take(&self, queue: &str) -> Option<(String, Vec<u8>)> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options).await.expect("asked")?;
        let headers = got.delivery.properties.headers().clone().unwrap_or_default();
        let named = headers.inner().iter().find(|(name, _)| name.as_str() == ERROR_HEADER);
        let reason = match named.map(|(_, value)| value) {
            Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            Some(other) => panic!("a reason that is no text: {other:?}"),
            None => String::new(),
        };
        Some((reason, got.delivery.data))
    }

    /// Everything that is in a queue of dead letters.
    pub(crate) async fn dead(&self, queue: &str) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(letter) = self.take(queue).await {
            all.push(letter);
        }
        all
    }

    /// Writes into the report stream of a job.
    pub(crate) async fn report(&self, job: &JobId, report: &[u8]) {
        self.state.append_report(job, Bytes::copy_from_slice(report)).await.expect("appended");
    }

    /// What stands in it.
    pub(crate) async fn reports(&self, job: &JobId) -> Vec<Vec<u8>> {
        let wait = std::time::Duration::from_millis(10);
        let read = self.state.read_reports(job, &Position::default(), 1_000, wait).await.expect("read");
        read.into_iter().map(|(_, report)| report.to_vec()).collect()
    }

    /// An envelope that a member of the fleet, or of another one, has signed.
    pub(crate) fn sealed<T: serde::Serialize>(&self, body: T, job: &JobId, change: Sealed) -> Vec<u8> {
        let now = SystemClock::new().now();
        let other = Id::of(b"another repository");
        let expires_at = if change == Sealed::Expired { UnixTime::from_seconds(1) } else { now.plus(DAY) };
        let repository = if change == Sealed::ForAnother { other } else { self.repository };
        let key = if change == Sealed::ByAStranger {
            MessageKey::derive(b"guessed", &self.repository)
        } else {
            self.key.clone()
        };
        Envelope { minor: SCHEMA_MINOR, repository, job: job.clone(), expires_at, body }.seal(&key).expect("sealed")
    }
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// What is odd about an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// Nothing.
    Well,
    /// It is too old.
    Expired,
    /// It is for another repository.
    ForAnother,
    /// It is not signed with the key of the fleet.
    ByAStranger,
}

/// A task that does nothing, of a job.
pub(crate) fn probe(job: &JobId) -> Task {
    let work = Work::Probe(7);
    let id = Task::id_for(job, &work, 0);
    Task { id, job: job.clone(), round: 0, stage: 0, facts: Id::default(), refused_by: Vec::new(), work }
}
