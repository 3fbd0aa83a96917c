//! The job state door: reports, known blobs, the registry of workers and coordinators, progress and cancel flags.
//!
//! # What may be lost
//! Everything, at any moment: all of it can be rebuilt (DESIGN 2.1). [`JobState::generation`] tells that it was.
//! An answer may also be wrong; nothing that is committed depends on one.
//!
//! # Order
//! The reports of one job are a stream: readers see them in the order of their positions, each once.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::UnixTime;
use proto::id::{CoordinatorId, Id, JobId, Round, WorkerId};
use proto::name::RawName;
use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod local;
mod redis;

pub use self::redis::RedisState;
pub use local::LocalState;

/// A place in a job's report stream. The default is before the first report.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position(pub u64, pub u64);

/// What a worker says of itself every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who.
    pub worker: WorkerId,
    /// Its pool.
    pub pool: String,
    /// Tasks that it can do at once.
    pub slots: u32,
    /// The (task, round)s that it holds.
    pub holds: Vec<(Id, Round)>,
    /// It hands back and leaves.
    pub draining: bool,
    /// When it said so, by its own clock.
    pub said_at: UnixTime,
    /// The repository that it writes.
    #[serde(default)]
    pub repository: Id,
    /// Its release.
    #[serde(default)]
    pub version: String,
    /// Slots that are at work.
    #[serde(default)]
    pub busy: u32,
    /// What it reads, as snapshots name it; nothing named: the whole host.
    #[serde(default)]
    pub roots: Vec<RawName>,
    /// Where it restores to, as snapshots name it; nothing named: the whole host.
    #[serde(default)]
    pub restore_roots: Vec<RawName>,
    /// The host that it runs on, for people.
    #[serde(default)]
    pub host: String,
}

/// Workers whose last heartbeat is older are gone.
pub const WORKER_GONE_AFTER: Duration = Duration::from_secs(30);

/// What a coordinator says of itself every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorHeartbeat {
    /// Who.
    pub coordinator: CoordinatorId,
    /// The jobs that it leads; none, while it waits for one.
    pub leads: Vec<JobId>,
    /// When it said so, by its own clock.
    pub said_at: UnixTime,
    /// The repository that it writes.
    #[serde(default)]
    pub repository: Id,
    /// Its release.
    #[serde(default)]
    pub version: String,
    /// The pools that it was told of, whether or not one of them has a worker.
    #[serde(default)]
    pub pools: Vec<String>,
}

/// Coordinators whose last heartbeat is older are gone; others may take over what they led.
pub const COORDINATOR_GONE_AFTER: Duration = Duration::from_secs(30);

/// A job's report stream takes no more than this; workers wait.
pub const REPORTS_MAX: usize = 20_000;
/// A job's document for those who follow it is no longer than this.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// And lives so long, whether or not the job was closed.
pub const DOCUMENT_LIVES: Duration = Duration::from_secs(7 * 24 * 3600);
/// A repository's jobs are remembered up to so many; the oldest are forgotten.
pub const JOBS_NOTED_MAX: usize = 1_000;
/// A worker that has not drained by then is not asked any more.
pub const DRAIN_REQUEST_LIVES: Duration = Duration::from_secs(3600);

/// An error of the job state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// Not reachable or timed out: nobody knows whether the call had an effect.
    #[error("the job state is not reachable: {message}")]
    Unavailable {
        /// What the client says.
        message: String,
    },
    /// The job's report stream is too long: wait until the coordinator has read.
    #[error("the report stream of job {job} is full")]
    Full {
        /// The job.
        job: JobId,
    },
    /// What was to be kept is longer than it may be.
    #[error("{bytes} bytes are too long for the job state")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Credentials were refused.
    #[error("the job state refused access: {message}")]
    Denied {
        /// What the service says.
        message: String,
    },
}

/// Shared state of running jobs.
#[async_trait]
pub trait JobState: Send + Sync {
    /// Makes a job's state with a new generation, if there is none; returns the generation that is there.
    async fn open_job(&self, job: &JobId, generation: u64) -> Result<u64, StateError>;

    /// The job's generation; `None` when its state was lost or never made.
    async fn generation(&self, job: &JobId) -> Result<Option<u64>, StateError>;

    /// Removes all state of a job, but the document of [`JobState::put_job_state`].
    async fn close_job(&self, job: &JobId) -> Result<(), StateError>;

    /// Appends to the report stream.
    async fn append_report(&self, job: &JobId, report: Bytes) -> Result<(), StateError>;

    /// At most `limit` reports behind `after`, waiting up to `wait` for the first.
    async fn read_reports(
        &self,
        job: &JobId,
        after: &Position,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<(Position, Bytes)>, StateError>;

    /// Drops the reports up to and with `position`; only the coordinator may, when a checkpoint covers them.
    async fn trim_reports(&self, job: &JobId, position: &Position) -> Result<(), StateError>;

    /// Remembers blobs (by [`proto::auth::MessageKey::blind`]) that a running job stored.
    async fn add_known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<(), StateError>;

    /// For each blob, whether it may be stored.
    async fn known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<Vec<bool>, StateError>;

    /// Registers a worker, or renews it.
    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), StateError>;

    /// Takes a worker out of the registry.
    async fn deregister(&self, worker: &WorkerId) -> Result<(), StateError>;

    /// Workers that live: whose heartbeat is not older than [`WORKER_GONE_AFTER`].
    async fn workers(&self) -> Result<Vec<Heartbeat>, StateError>;

    /// Registers a coordinator and what it leads, or renews that.
    async fn coordinator_heartbeat(&self, heartbeat: &CoordinatorHeartbeat) -> Result<(), StateError>;

    /// Takes a coordinator out of the registry.
    async fn deregister_coordinator(&self, coordinator: &CoordinatorId) -> Result<(), StateError>;

    /// Coordinators that live: whose heartbeat is not older than [`COORDINATOR_GONE_AFTER`].
    async fn coordinators(&self) -> Result<Vec<CoordinatorHeartbeat>, StateError>;

    /// Asks the workers of a job to stop.
    async fn request_cancel(&self, job: &JobId) -> Result<(), StateError>;

    /// Whether that was asked.
    async fn cancel_requested(&self, job: &JobId) -> Result<bool, StateError>;

    /// Notes that a worker starts a (task, round); returns who started it and has not taken that back, this one left out.
    async fn note_start(
        &self,
        job: &JobId,
        task: &Id,
        round: Round,
        worker: &WorkerId,
    ) -> Result<Vec<WorkerId>, StateError>;

    /// Takes a start back: the task ended in any way but a crash.
    async fn take_back_start(&self, job: &JobId, task: &Id, round: Round, worker: &WorkerId) -> Result<(), StateError>;

    /// Writes the document of a job for those who follow it, at most [`DOCUMENT_BYTES_MAX`]; the last writer wins. It
    /// lives for [`DOCUMENT_LIVES`].
    async fn put_job_state(&self, job: &JobId, state: Bytes) -> Result<(), StateError>;

    /// That document.
    async fn job_state(&self, job: &JobId) -> Result<Option<Bytes>, StateError>;

    /// Remembers that a repository has this job.
    async fn note_job(&self, repository: &Id, job: &JobId) -> Result<(), StateError>;

    /// The newest [`JOBS_NOTED_MAX`] jobs of a repository, the newest last.
    async fn jobs(&self, repository: &Id) -> Result<Vec<JobId>, StateError>;

    /// Asks a worker to drain. Forgotten after [`DRAIN_REQUEST_LIVES`].
    async fn request_drain(&self, worker: &WorkerId) -> Result<(), StateError>;

    /// Whether that was asked.
    async fn drain_requested(&self, worker: &WorkerId) -> Result<bool, StateError>;
}
