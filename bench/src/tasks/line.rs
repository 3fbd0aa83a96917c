//! What a coordinator does for each task, without the decisions: seal, publish, confirmed; read the report, verify it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet::clock::SystemClock;
use fleet::queue::{Address, Message, RabbitQueue, Route, TaskQueue};
use fleet::rand::SystemRandom;
use fleet::service::Service;
use fleet::state::{JobState, Position, RedisState};
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::handles::{Clock, UnixTime};
use proto::id::{Id, JobId};
use proto::names::state::Keys;
use proto::report::{Outcome, Report};
use proto::task::{Task, Work};
use repository::repository::Repository;
use repository::storage::{Location, Options};
use tests::processes::Fleet;
use tests::restic::PASSWORD;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::interrupted;

/// Whose worker does the tasks.
pub(super) const POOL: &str = "bench";
/// A task or report that nobody took by then is of no use.
const EXPIRES_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// As a coordinator reads them.
const REPORTS_AT_ONCE: usize = 256;
/// As a coordinator waits for them.
const WAIT: Duration = Duration::from_secs(1);
/// The stream of reports is cut after so many; it holds 20,000.
const TRIM_EVERY: usize = 5_000;
/// No report for so long is an error.
const SILENT_MAX: u32 = 30;

/// When the next task is published.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// While fewer are under way.
    Window(usize),
    /// So many a second, whatever becomes of them.
    EachSecond(u64),
}

/// What a job of tasks without work took.
pub(super) struct Done {
    pub(super) seconds: f64,
    pub(super) latencies_ms: Vec<f64>,
}

/// The doors of one coordinator.
pub(super) struct Line {
    pub(super) state: RedisState,
    queue: RabbitQueue,
    repository: Id,
    key: MessageKey,
    address: Address,
    jobs: AtomicU64,
}

impl Line {
    /// Connects as a coordinator does.
    pub(super) async fn connect(fleet: &Fleet) -> Result<Self, String> {
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        let location = Location::Local(fleet.restic.repository().to_path_buf());
        let storage = repository::storage::open(&location, Options::new(clock, random.clone()));
        let storage = storage.map_err(|error| error.to_string())?;
        let opened = Repository::open(storage, PASSWORD.as_bytes(), None, random).await;
        let opened = opened.map_err(|error| error.to_string())?;
        let (queue, state) = (Service::new(fleet.amqp.as_str()), Service::new(fleet.redis.url("")));
        let queue = RabbitQueue::connect(&queue).await.map_err(|error| error.to_string())?;
        let state = RedisState::connect(&state, Keys::default()).await.map_err(|error| error.to_string())?;
        let route = Route::normal(POOL);
        queue.declare(&route).await.map_err(|error| error.to_string())?;
        let key = MessageKey::derive(&*opened.master_key().material(), &opened.id());
        let address = Address::Tasks(route);
        Ok(Self { state, queue, repository: opened.id(), key, address, jobs: AtomicU64::new(0) })
    }

    /// A job of `count` tasks without work, from its first publication to its last report.
    pub(super) async fn run_job(self: &Arc<Self>, count: u64, pace: Pace) -> Result<Done, String> {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let job = JobId::new(format!("bench-{}-{number}", std::process::id())).map_err(|error| error.to_string())?;
        self.state.open_job(&job, number).await.map_err(|error| error.to_string())?;
        let room = match pace {
            Pace::Window(tasks) => tasks,
            Pace::EachSecond(_) => count as usize,
        };
        let (room, started) = (Arc::new(Semaphore::new(room)), Instant::now());
        let publishing = self.publish_all(&job, count, pace, &room);
        let (published, began) = tokio::try_join!(publishing, self.collect(&job, count, &room))?;
        let seconds = started.elapsed().as_secs_f64();
        self.state.close_job(&job).await.map_err(|error| error.to_string())?;
        let latency = |(task, at): (&Id, &UnixTime)| {
            Some(1000.0 * published.get(task).map(|from| at.since(*from))?.as_secs_f64())
        };
        Ok(Done { seconds, latencies_ms: began.iter().filter_map(latency).collect() })
    }

    /// Publications run beside each other, as those of a coordinator do. When each task was handed over.
    async fn publish_all(
        self: &Arc<Self>,
        job: &JobId,
        count: u64,
        pace: Pace,
        room: &Semaphore,
    ) -> Result<BTreeMap<Id, UnixTime>, String> {
        let (mut publications, mut published) = (JoinSet::new(), BTreeMap::new());
        let started = tokio::time::Instant::now();
        for number in 0..count {
            if let Pace::EachSecond(rate) = pace {
                tokio::time::sleep_until(started + Duration::from_secs(number) / rate as u32).await;
            }
            room.acquire().await.map_err(|error| error.to_string())?.forget();
            let (line, job) = (self.clone(), job.clone());
            publications.spawn(async move { line.publish(job, number).await });
            while let Some(done) = publications.try_join_next() {
                published.extend([done.map_err(|error| error.to_string())??]);
            }
        }
        while let Some(done) = publications.join_next().await {
            published.extend([done.map_err(|error| error.to_string())??]);
        }
        Ok(published)
    }

    async fn publish(&self, job: JobId, number: u64) -> Result<(Id, UnixTime), String> {
        let now = SystemClock::new().now();
        let work = Work::Probe(number);
        let id = Task::id_for(&job, &work, 0);
        let body =
            Task { id, job: job.clone(), round: 0, stage: 0, facts: Id::default(), refused_by: Vec::new(), work };
        let (minor, repository, expires_at) = (SCHEMA_MINOR, self.repository, now.plus(EXPIRES_AFTER));
        let sealed = Envelope { minor, repository, job, expires_at, body }.seal(&self.key);
        let body = sealed.map_err(|error| error.to_string())?.into();
        let message = Message { body, attempt: 1, last_error: None, subject: id.to_string() };
        self.queue.publish(&self.address, message).await.map_err(|error| error.to_string())?;
        Ok((id, now))
    }

    /// When the work of each task began; makes room for each that is done.
    async fn collect(&self, job: &JobId, count: u64, room: &Semaphore) -> Result<BTreeMap<Id, UnixTime>, String> {
        let (mut began, mut position) = (BTreeMap::new(), Position::default());
        let (mut trim_at, mut silent) = (TRIM_EVERY, 0);
        while (began.len() as u64) < count {
            interrupted::check()?;
            let reports = self.state.read_reports(job, &position, REPORTS_AT_ONCE, WAIT).await;
            let reports = reports.map_err(|error| error.to_string())?;
            silent = if reports.is_empty() { silent + 1 } else { 0 };
            if silent > SILENT_MAX {
                return Err(format!("{} of {count} tasks were reported, and no more come", began.len()));
            }
            for (at, report) in reports {
                position = at;
                let (task, ended_at) = self.open(&report)?;
                if began.insert(task, ended_at).is_none() {
                    room.add_permits(1);
                }
            }
            if began.len() >= trim_at {
                trim_at += TRIM_EVERY;
                self.state.trim_reports(job, &position).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(began)
    }

    fn open(&self, report: &[u8]) -> Result<(Id, UnixTime), String> {
        let opened = Envelope::<Report>::open(report, &self.key, &self.repository, SystemClock::new().now());
        match opened.map_err(|error| error.to_string())?.body {
            Report::Result(result) if matches!(result.outcome, Outcome::Probed) => Ok((result.task, result.ended_at)),
            other => Err(format!("a task without work was answered by {other:?}")),
        }
    }
}
