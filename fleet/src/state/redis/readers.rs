//! Reads of report streams that wait for the first report.
//!
//! A read that blocks holds up everything else on its connection, so each has one of its own; and as whoever waits may
//! be called away at any moment, the read goes on by itself: the next call for the same place joins it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::Shared;
use proto::handles::{BoxFuture, Clock};
use proto::id::JobId;
use proto::names::state::REPORT_FIELD;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use redis::{Cmd, RedisResult, Value};
use tokio::task::AbortHandle;

use super::link::{CALL_LIMIT, Link};
use crate::clock::SystemClock;
use crate::limit::within;
use crate::state::{Position, StateError};

/// One read blocks no longer, so that one that nobody waits for any more ends soon.
const BLOCK_MAX: Duration = Duration::from_secs(5);
/// Reports come in bursts, and to read one takes as long as to read all of a burst: a read begins so long after it was
/// asked for.
const GATHER: Duration = Duration::from_millis(1);
/// Connections that are kept for the next read.
const IDLE_MAX: usize = 16;

/// Reports with their places.
pub(super) type Reports = Vec<(Position, Bytes)>;
type Reading = Shared<BoxFuture<'static, Result<Reports, StateError>>>;

/// A read that nobody may wait for any more.
struct Running {
    place: Place,
    reading: Reading,
    task: AbortHandle,
}

/// Where a read begins, and how far it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) after: Position,
    pub(super) limit: usize,
}

impl Place {
    /// Reads at once.
    pub(super) fn read(&self) -> Cmd {
        self.command(None)
    }

    fn command(&self, block: Option<Duration>) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(self.limit);
        if let Some(block) = block {
            // 0 would mean for ever.
            command.arg("BLOCK").arg(u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        command.arg("STREAMS").arg(&self.key).arg(format!("{}-{}", self.after.0, self.after.1));
        command
    }
}

/// The reads that wait.
pub(super) struct Readers {
    link: Arc<Link>,
    running: Mutex<BTreeMap<JobId, Running>>,
    idle: Arc<Mutex<Vec<MultiplexedConnection>>>,
}

impl Readers {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, running: Mutex::default(), idle: Arc::default() }
    }

    /// Waits up to `wait` for reports at `place`, or less.
    pub(super) async fn wait(&self, job: &JobId, place: &Place, wait: Duration) -> Result<Reports, StateError> {
        let reading = self.join(job, place, wait.min(BLOCK_MAX));
        let read = reading.await;
        self.running().retain(|_, running| !running.task.is_finished());
        read
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<JobId, Running>> {
        // Nothing panics while it is held.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, job: &JobId, place: &Place, block: Duration) -> Reading {
        let mut running = self.running();
        match running.get(job) {
            Some(begun) if begun.place == *place && begun.reading.peek().is_none() => begun.reading.clone(),
            _ => {
                let (reading, task) = self.begin(place, block);
                running.insert(job.clone(), Running { place: place.clone(), reading: reading.clone(), task });
                reading
            }
        }
    }

    fn begin(&self, place: &Place, block: Duration) -> (Reading, AbortHandle) {
        let (link, idle, command) = (self.link.clone(), self.idle.clone(), place.command(Some(block)));
        let reading = tokio::spawn(async move {
            SystemClock::new().sleep(GATHER).await;
            let limit = block + CALL_LIMIT;
            match within(limit, read_blocked(&link, &idle, &command)).await {
                Some(Ok(reply)) => Ok(reports(reply)),
                Some(Err(error)) => Err(link.error(&error)),
                None => Err(link.no_answer(limit)),
            }
        });
        let task = reading.abort_handle();
        let broke = |_| StateError::Unavailable { message: "the read of a report stream broke".to_owned() };
        let reading: BoxFuture<'static, _> = Box::pin(reading.map(move |read| read.map_err(broke)?));
        (reading.shared(), task)
    }
}

async fn read_blocked(
    link: &Link,
    idle: &Mutex<Vec<MultiplexedConnection>>,
    command: &Cmd,
) -> RedisResult<Option<StreamReadReply>> {
    let mut was_idle = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    loop {
        let kept = was_idle.is_some();
        let mut connection = match was_idle.take() {
            Some(connection) => connection,
            None => link.connect().await?,
        };
        match command.query_async(&mut connection).await {
            Ok(reply) => {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE_MAX {
                    idle.push(connection);
                }
                return Ok(reply);
            }
            // The server had closed it meanwhile.
            Err(_) if kept => {}
            Err(error) => return Err(error),
        }
    }
}

/// The reports of an answer. An entry without a report, which somebody else wrote, is an empty one: readers drop what
/// does not verify, and go on behind it.
pub(super) fn reports(reply: Option<StreamReadReply>) -> Reports {
    let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
    let read = entries.filter_map(|mut entry| {
        let report = match entry.map.remove(REPORT_FIELD) {
            Some(Value::BulkString(bytes)) => Bytes::from(bytes),
            _ => Bytes::new(),
        };
        Some((position(&entry.id)?, report))
    });
    read.collect()
}

fn position(id: &str) -> Option<Position> {
    let (time, number) = id.split_once('-')?;
    Some(Position(time.parse().ok()?, number.parse().ok()?))
}
