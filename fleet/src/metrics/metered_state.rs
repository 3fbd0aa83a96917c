//! A wrapper of the job state that counts its calls.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::Clock;
use proto::id::{CoordinatorId, Id, JobId, Round, WorkerId};

use super::table::{REDIS_ERRORS, REDIS_REQUEST_DURATION};
use crate::state::{CoordinatorHeartbeat, Heartbeat, JobState, Position, StateError};

/// Every call, as the label `op` has it.
pub(super) const OPERATIONS: [&str; 24] = [
    "open_job",
    "generation",
    "close_job",
    "append_report",
    "read_reports",
    "trim_reports",
    "add_known_blobs",
    "known_blobs",
    "heartbeat",
    "deregister",
    "workers",
    "coordinator_heartbeat",
    "deregister_coordinator",
    "coordinators",
    "request_cancel",
    "cancel_requested",
    "note_start",
    "take_back_start",
    "put_job_state",
    "job_state",
    "note_job",
    "jobs",
    "request_drain",
    "drain_requested",
];

/// Counts the calls of a job state, and how long they take.
pub struct MeteredState {
    inner: Arc<dyn JobState>,
    clock: Arc<dyn Clock>,
}

impl MeteredState {
    /// Counts the calls of `inner`.
    pub fn new(inner: Arc<dyn JobState>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock }
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let began = self.clock.monotonic();
        let result = call.await;
        REDIS_REQUEST_DURATION.observe(&[operation], self.clock.monotonic().saturating_sub(began));
        // A full stream is an answer.
        if matches!(result, Err(StateError::Unavailable { .. } | StateError::Denied { .. })) {
            REDIS_ERRORS.add(&[operation], 1);
        }
        result
    }
}

#[async_trait]
impl JobState for MeteredState {
    async fn open_job(&self, job: &JobId, generation: u64) -> Result<u64, StateError> {
        self.measure("open_job", self.inner.open_job(job, generation)).await
    }

    async fn generation(&self, job: &JobId) -> Result<Option<u64>, StateError> {
        self.measure("generation", self.inner.generation(job)).await
    }

    async fn close_job(&self, job: &JobId) -> Result<(), StateError> {
        self.measure("close_job", self.inner.close_job(job)).await
    }

    async fn append_report(&self, job: &JobId, report: Bytes) -> Result<(), StateError> {
        self.measure("append_report", self.inner.append_report(job, report)).await
    }

    async fn read_reports(
        &self,
        job: &JobId,
        after: &Position,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<(Position, Bytes)>, StateError> {
        self.measure("read_reports", self.inner.read_reports(job, after, limit, wait)).await
    }

    async fn trim_reports(&self, job: &JobId, position: &Position) -> Result<(), StateError> {
        self.measure("trim_reports", self.inner.trim_reports(job, position)).await
    }

    async fn add_known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<(), StateError> {
        self.measure("add_known_blobs", self.inner.add_known_blobs(repository, blobs)).await
    }

    async fn known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<Vec<bool>, StateError> {
        self.measure("known_blobs", self.inner.known_blobs(repository, blobs)).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), StateError> {
        self.measure("heartbeat", self.inner.heartbeat(heartbeat)).await
    }

    async fn deregister(&self, worker: &WorkerId) -> Result<(), StateError> {
        self.measure("deregister", self.inner.deregister(worker)).await
    }

    async fn workers(&self) -> Result<Vec<Heartbeat>, StateError> {
        self.measure("workers", self.inner.workers()).await
    }

    async fn coordinator_heartbeat(&self, heartbeat: &CoordinatorHeartbeat) -> Result<(), StateError> {
        self.measure("coordinator_heartbeat", self.inner.coordinator_heartbeat(heartbeat)).await
    }

    async fn deregister_coordinator(&self, coordinator: &CoordinatorId) -> Result<(), StateError> {
        self.measure("deregister_coordinator", self.inner.deregister_coordinator(coordinator)).await
    }

    async fn coordinators(&self) -> Result<Vec<CoordinatorHeartbeat>, StateError> {
        self.measure("coordinators", self.inner.coordinators()).await
    }

    async fn request_cancel(&self, job: &JobId) -> Result<(), StateError> {
        self.measure("request_cancel", self.inner.request_cancel(job)).await
    }

    async fn cancel_requested(&self, job: &JobId) -> Result<bool, StateError> {
        self.measure("cancel_requested", self.inner.cancel_requested(job)).await
    }

    async fn note_start(
        &self,
        job: &JobId,
        task: &Id,
        round: Round,
        worker: &WorkerId,
    ) -> Result<Vec<WorkerId>, StateError> {
        self.measure("note_start", self.inner.note_start(job, task, round, worker)).await
    }

    async fn take_back_start(&self, job: &JobId, task: &Id, round: Round, worker: &WorkerId) -> Result<(), StateError> {
        self.measure("take_back_start", self.inner.take_back_start(job, task, round, worker)).await
    }

    async fn put_job_state(&self, job: &JobId, state: Bytes) -> Result<(), StateError> {
        self.measure("put_job_state", self.inner.put_job_state(job, state)).await
    }

    async fn job_state(&self, job: &JobId) -> Result<Option<Bytes>, StateError> {
        self.measure("job_state", self.inner.job_state(job)).await
    }

    async fn note_job(&self, repository: &Id, job: &JobId) -> Result<(), StateError> {
        self.measure("note_job", self.inner.note_job(repository, job)).await
    }

    async fn jobs(&self, repository: &Id) -> Result<Vec<JobId>, StateError> {
        self.measure("jobs", self.inner.jobs(repository)).await
    }

    async fn request_drain(&self, worker: &WorkerId) -> Result<(), StateError> {
        self.measure("request_drain", self.inner.request_drain(worker)).await
    }

    async fn drain_requested(&self, worker: &WorkerId) -> Result<bool, StateError> {
        self.measure("drain_requested", self.inner.drain_requested(worker)).await
    }
}
