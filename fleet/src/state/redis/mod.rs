//! The job state in Redis (6.2 or newer).
//!
//! # What may be lost
//! Everything. Every key has a time to live, and a bound on what is in it.
//!
//! # Retries
//! Every call ends within two seconds ([`read_reports`](JobState::read_reports) that much after its wait), and may have
//! had its effect when it fails. A report may be appended twice.
//!
//! No call is a transaction (`MULTI`): each of its commands may be done without the others, and the client cannot read the
//! answer of a server that refuses one (redis-rs 1.8.1 counts below zero). What must be done at once is a script.
//!
//! A read of reports that does not come in time asks for half as many the next time: the same again would not come, either.
//!
//! # Order
//! Reports are the entries of a stream; a place in it is the entry's id, which the server draws from its clock. After a
//! loss a new stream may begin behind the old one: who sees the generation gone reads from the start.
//!
//! # What may leak
//! Reports, heartbeats and documents are readable for whoever may read the server; blobs are there by blinded names only.
//! The password of the address is in no error.

mod at_once;
mod blobs;
mod link;
mod readers;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::Clock;
use proto::id::{CoordinatorId, Id, JobId, Round, WorkerId};
use proto::names::state::{Keys, REPORT_FIELD};
use redis::streams::StreamReadReply;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::at_once::AtOnce;
use self::link::Link;
use self::readers::{Place, Readers, reports};
use self::scripts::{APPEND, LIST_REGISTRY, NOTE_START, TAKE_BACK_START};
use super::{
    COORDINATOR_GONE_AFTER, CoordinatorHeartbeat, DOCUMENT_BYTES_MAX, DOCUMENT_LIVES, DRAIN_REQUEST_LIVES, Heartbeat,
    JOBS_NOTED_MAX, JobState, Position, REPORTS_MAX, StateError, WORKER_GONE_AFTER,
};
use crate::clock::SystemClock;
use crate::service::Service;

/// State of a job that nobody touched for so long is of no use: its tasks have expired.
const JOB_LIVES: Duration = Duration::from_secs(7 * 24 * 3600);
/// The list of a repository's jobs is kept a little longer than their records.
const JOBS_NOTED_LIVE: Duration = Duration::from_secs(100 * 24 * 3600);
/// A registry that nobody is in.
const REGISTRY_LIVES: Duration = Duration::from_secs(3600);
/// Workers that are remembered for one (task, round): three that are gone are enough to give it up.
const STARTS_MAX: usize = 16;

/// State in Redis. Clones share the connections.
#[derive(Clone)]
pub struct RedisState {
    link: Arc<Link>,
    readers: Arc<Readers>,
    keys: Keys,
    clock: SystemClock,
    at_once: Arc<AtOnce>,
}

impl RedisState {
    /// Connects to `service`, `redis://` or `rediss://`. Every key is one of `keys`.
    ///
    /// # Errors
    /// `Unavailable` and `Denied`, if the first connection fails. Later ones are made by themselves.
    pub async fn connect(service: &Service, keys: Keys) -> Result<Self, StateError> {
        let link = Arc::new(Link::new(service)?);
        link.ask::<()>(redis::cmd("PING")).await?;
        let readers = Arc::new(Readers::new(link.clone()));
        Ok(Self { link, readers, keys, clock: SystemClock::new(), at_once: Arc::default() })
    }

    async fn say(&self, index: String, prefix: &str, id: &str, heartbeat: Vec<u8>, gone_after: Duration) -> Done {
        let mut say = redis::pipe();
        say.cmd("SET").arg(format!("{prefix}{id}")).arg(heartbeat).arg("EX").arg(gone_after.as_secs());
        say.cmd("SADD").arg(&index).arg(id);
        say.cmd("EXPIRE").arg(index).arg(REGISTRY_LIVES.as_secs());
        self.link.ask::<()>(say).await
    }

    async fn leave(&self, index: String, prefix: &str, id: &str) -> Done {
        let mut leave = redis::pipe();
        leave.cmd("DEL").arg(format!("{prefix}{id}"));
        leave.cmd("SREM").arg(index).arg(id);
        self.link.ask::<()>(leave).await
    }

    async fn registered<T: DeserializeOwned>(&self, index: String, prefix: String) -> Result<Vec<T>, StateError> {
        let mut list = LIST_REGISTRY.prepare_invoke();
        list.key(index).arg(prefix);
        let said: Vec<Vec<u8>> = self.link.ask(list).await?;
        // What somebody else wrote there is nobody's heartbeat.
        Ok(said.iter().filter_map(|heartbeat| rmp_serde::from_slice(heartbeat).ok()).collect())
    }

    async fn set_flag(&self, key: String, lives: Duration) -> Done {
        self.link.ask::<()>(set(&key, &b"1"[..], lives)).await
    }

    async fn has_flag(&self, key: String) -> Result<bool, StateError> {
        self.link.ask(command("EXISTS", key)).await
    }
}

type Done = Result<(), StateError>;

fn command(name: &str, key: String) -> redis::Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

fn set(key: &str, value: &[u8], lives: Duration) -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(value).arg("EX").arg(lives.as_secs());
    command
}

fn encode(heartbeat: &impl Serialize) -> Result<Vec<u8>, StateError> {
    let broken = |error: rmp_serde::encode::Error| StateError::Unavailable { message: error.to_string() };
    rmp_serde::to_vec_named(heartbeat).map_err(broken)
}

fn start(task: &Id, round: Round) -> String {
    format!("{task}:{round}")
}

#[async_trait]
impl JobState for RedisState {
    async fn open_job(&self, job: &JobId, generation: u64) -> Result<u64, StateError> {
        let key = self.keys.generation(job);
        let mut open = redis::pipe();
        open.cmd("SET").arg(&key).arg(generation).arg("NX").arg("EX").arg(JOB_LIVES.as_secs()).ignore();
        open.cmd("GET").arg(&key);
        let (found,): (Option<u64>,) = self.link.ask(open).await?;
        let lost = || StateError::Unavailable { message: "the job state was lost at this moment".to_owned() };
        found.ok_or_else(lost)
    }

    async fn generation(&self, job: &JobId) -> Result<Option<u64>, StateError> {
        let mut read = command("GETEX", self.keys.generation(job));
        read.arg("EX").arg(JOB_LIVES.as_secs());
        self.link.ask(read).await
    }

    async fn close_job(&self, job: &JobId) -> Result<(), StateError> {
        let keys = [self.keys.generation(job), self.keys.reports(job), self.keys.starts(job), self.keys.cancel(job)];
        let mut close = redis::cmd("UNLINK");
        close.arg(&keys);
        self.link.ask::<()>(close).await
    }

    async fn append_report(&self, job: &JobId, report: Bytes) -> Result<(), StateError> {
        let mut append = APPEND.prepare_invoke();
        append.key(self.keys.reports(job)).arg(REPORTS_MAX).arg(JOB_LIVES.as_secs());
        append.arg(REPORT_FIELD).arg(&report[..]);
        match self.link.ask(append).await? {
            true => Ok(()),
            false => Err(StateError::Full { job: job.clone() }),
        }
    }

    async fn read_reports(
        &self,
        job: &JobId,
        after: &Position,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<(Position, Bytes)>, StateError> {
        let deadline = self.clock.monotonic() + wait;
        let limit = self.at_once.of(limit);
        let place = Place { key: self.keys.reports(job), after: after.clone(), limit };
        let read = async {
            if wait.is_zero() {
                return Ok(reports(self.link.ask::<Option<StreamReadReply>>(place.read()).await?));
            }
            loop {
                // Even if there is something to read: a long answer must not hold up everything else.
                let left = deadline.saturating_sub(self.clock.monotonic());
                let read = self.readers.wait(job, &place, left).await?;
                if !read.is_empty() || self.clock.monotonic() >= deadline {
                    return Ok(read);
                }
            }
        };
        let read: Result<Vec<(Position, Bytes)>, StateError> = read.await;
        match &read {
            Ok(reports) => self.at_once.came(limit, reports.len()),
            Err(StateError::Unavailable { .. }) => self.at_once.did_not_come(limit),
            Err(_) => {}
        }
        read
    }

    async fn trim_reports(&self, job: &JobId, position: &Position) -> Result<(), StateError> {
        let Position(time, number) = *position;
        let (time, number) = number.checked_add(1).map_or((time.saturating_add(1), 0), |number| (time, number));
        let mut trim = command("XTRIM", self.keys.reports(job));
        trim.arg("MINID").arg(format!("{time}-{number}"));
        self.link.ask::<()>(trim).await
    }

    async fn add_known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<(), StateError> {
        blobs::add(&self.link, &self.keys, repository, blobs).await
    }

    async fn known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<Vec<bool>, StateError> {
        blobs::known(&self.link, &self.keys, repository, blobs).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), StateError> {
        let (said, id) = (encode(heartbeat)?, heartbeat.worker.as_str());
        self.say(self.keys.workers(), &self.keys.worker_prefix(), id, said, WORKER_GONE_AFTER).await
    }

    async fn deregister(&self, worker: &WorkerId) -> Result<(), StateError> {
        self.leave(self.keys.workers(), &self.keys.worker_prefix(), worker.as_str()).await
    }

    async fn workers(&self) -> Result<Vec<Heartbeat>, StateError> {
        let mut found: Vec<Heartbeat> = self.registered(self.keys.workers(), self.keys.worker_prefix()).await?;
        found.sort_by(|a, b| a.worker.cmp(&b.worker));
        Ok(found)
    }

    async fn coordinator_heartbeat(&self, heartbeat: &CoordinatorHeartbeat) -> Result<(), StateError> {
        let (said, id) = (encode(heartbeat)?, heartbeat.coordinator.as_str());
        self.say(self.keys.coordinators(), &self.keys.coordinator_prefix(), id, said, COORDINATOR_GONE_AFTER).await
    }

    async fn deregister_coordinator(&self, coordinator: &CoordinatorId) -> Result<(), StateError> {
        self.leave(self.keys.coordinators(), &self.keys.coordinator_prefix(), coordinator.as_str()).await
    }

    async fn coordinators(&self) -> Result<Vec<CoordinatorHeartbeat>, StateError> {
        let (index, prefix) = (self.keys.coordinators(), self.keys.coordinator_prefix());
        let mut found: Vec<CoordinatorHeartbeat> = self.registered(index, prefix).await?;
        found.sort_by(|a, b| a.coordinator.cmp(&b.coordinator));
        Ok(found)
    }

    async fn request_cancel(&self, job: &JobId) -> Result<(), StateError> {
        self.set_flag(self.keys.cancel(job), JOB_LIVES).await
    }

    async fn cancel_requested(&self, job: &JobId) -> Result<bool, StateError> {
        self.has_flag(self.keys.cancel(job)).await
    }

    async fn note_start(
        &self,
        job: &JobId,
        task: &Id,
        round: Round,
        worker: &WorkerId,
    ) -> Result<Vec<WorkerId>, StateError> {
        let mut note = NOTE_START.prepare_invoke();
        note.key(self.keys.starts(job)).arg(start(task, round)).arg(worker.as_str());
        note.arg(JOB_LIVES.as_secs()).arg(STARTS_MAX);
        let others: String = self.link.ask(note).await?;
        let mut others: Vec<WorkerId> = others.split(' ').filter_map(|other| WorkerId::new(other).ok()).collect();
        others.sort();
        Ok(others)
    }

    async fn take_back_start(&self, job: &JobId, task: &Id, round: Round, worker: &WorkerId) -> Result<(), StateError> {
        let mut back = TAKE_BACK_START.prepare_invoke();
        back.key(self.keys.starts(job)).arg(start(task, round)).arg(worker.as_str());
        self.link.ask::<()>(back).await
    }

    async fn put_job_state(&self, job: &JobId, state: Bytes) -> Result<(), StateError> {
        if state.len() > DOCUMENT_BYTES_MAX {
            return Err(StateError::TooLong { bytes: state.len() });
        }
        self.link.ask::<()>(set(&self.keys.document(job), &state, DOCUMENT_LIVES)).await
    }

    async fn job_state(&self, job: &JobId) -> Result<Option<Bytes>, StateError> {
        let found: Option<Vec<u8>> = self.link.ask(command("GET", self.keys.document(job))).await?;
        Ok(found.map(Bytes::from))
    }

    async fn note_job(&self, repository: &Id, job: &JobId) -> Result<(), StateError> {
        let key = self.keys.jobs(repository);
        let mut note = redis::pipe();
        // All have the same score: they stand in the order of their names, which is that of time.
        note.cmd("ZADD").arg(&key).arg(0).arg(job.as_str());
        note.cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(format!("-{}", JOBS_NOTED_MAX + 1));
        note.cmd("EXPIRE").arg(&key).arg(JOBS_NOTED_LIVE.as_secs());
        self.link.ask::<()>(note).await
    }

    async fn jobs(&self, repository: &Id) -> Result<Vec<JobId>, StateError> {
        let mut list = command("ZRANGE", self.keys.jobs(repository));
        list.arg(0).arg(-1);
        let found: Vec<String> = self.link.ask(list).await?;
        Ok(found.into_iter().filter_map(|job| JobId::new(job).ok()).collect())
    }

    async fn request_drain(&self, worker: &WorkerId) -> Result<(), StateError> {
        self.set_flag(self.keys.drain(worker), DRAIN_REQUEST_LIVES).await
    }

    async fn drain_requested(&self, worker: &WorkerId) -> Result<bool, StateError> {
        self.has_flag(self.keys.drain(worker)).await
    }
}
