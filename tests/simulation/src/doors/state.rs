//! The job state as one process reaches it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet::state::{CoordinatorHeartbeat, Heartbeat, JobState, LocalState, Position, StateError};
use proto::handles::Clock;
use proto::id::{CoordinatorId, Id, JobId, Round, WorkerId};

use super::Way;
use crate::faults::Fault;

/// Every call may fail, before or after its effect; answers about known blobs may be lies.
pub struct SimState {
    state: LocalState,
    way: Way,
}

impl SimState {
    /// `state` at the end of `way`.
    pub fn new(state: LocalState, way: Way) -> Self {
        Self { state, way }
    }

    async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        self.way.out().await;
        let fault = self.way.faults.state(false);
        if fault != Fault::None {
            self.way.note(format_args!("{name} {fault:?}"));
        }
        if fault == Fault::LostRequest {
            return Err(unavailable());
        }
        let answer = call.await;
        self.way.back().await;
        if fault == Fault::None { answer } else { Err(unavailable()) }
    }
}

fn unavailable() -> StateError {
    StateError::Unavailable { message: "no answer".to_owned() }
}

#[async_trait]
impl JobState for SimState {
    async fn open_job(&self, job: &JobId, generation: u64) -> Result<u64, StateError> {
        self.call("open_job", self.state.open_job(job, generation)).await
    }

    async fn generation(&self, job: &JobId) -> Result<Option<u64>, StateError> {
        self.call("generation", self.state.generation(job)).await
    }

    async fn close_job(&self, job: &JobId) -> Result<(), StateError> {
        self.way.note(format_args!("close_job {job}"));
        self.call("close_job", self.state.close_job(job)).await
    }

    async fn append_report(&self, job: &JobId, report: Bytes) -> Result<(), StateError> {
        self.way.actor.is_about_to("append_report");
        let fault = self.way.faults.state(true);
        self.way.note(format_args!("append_report {} bytes {fault:?}", report.len()));
        let (state, to) = (self.state.clone(), job.clone());
        let append = move |report: Bytes| async move { state.append_report(&to, report).await };
        match fault {
            Fault::LostRequest => {
                self.way.out().await;
                return Err(unavailable());
            }
            Fault::Late(after) => {
                self.way.out().await;
                let sent = append(report);
                self.way.later(after, async move { drop(sent.await) });
                return Err(unavailable());
            }
            Fault::Twice(after) => {
                let again = append.clone()(report.clone());
                self.way.later(after, async move { drop(again.await) });
            }
            _ => {}
        }
        let answer = self.way.on_its_way(append(report.clone())).await;
        self.way.back().await;
        let answer = if fault == Fault::LostAnswer { Err(unavailable()) } else { answer };
        if answer.is_ok() {
            self.way.witness.sees_report(self.way.actor.name(), &report, self.way.clock.now());
        }
        answer
    }

    async fn read_reports(
        &self,
        job: &JobId,
        after: &Position,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<(Position, Bytes)>, StateError> {
        // No delay: who waits here is interrupted by whatever else happens.
        self.way.actor.point().await;
        let fault = self.way.faults.state(false);
        if fault != Fault::None {
            self.way.note(format_args!("read_reports {fault:?}"));
            return Err(unavailable());
        }
        let reports = self.state.read_reports(job, after, limit, wait).await?;
        if !self.way.actor.spark() {
            return std::future::pending().await;
        }
        if !reports.is_empty() {
            self.way.note(format_args!("read_reports {}", reports.len()));
        }
        Ok(reports)
    }

    async fn trim_reports(&self, job: &JobId, position: &Position) -> Result<(), StateError> {
        self.call("trim_reports", self.state.trim_reports(job, position)).await
    }

    async fn add_known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<(), StateError> {
        self.way.actor.is_about_to("add_known_blobs");
        self.way.note(format_args!("add_known_blobs {}", blobs.len()));
        self.call("add_known_blobs", self.state.add_known_blobs(repository, blobs)).await
    }

    async fn known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<Vec<bool>, StateError> {
        let known = self.call("known_blobs", self.state.known_blobs(repository, blobs)).await?;
        let told: Vec<bool> = known.iter().map(|known| *known ^ self.way.faults.lies()).collect();
        let count = |list: &[bool]| list.iter().filter(|known| **known).count();
        self.way.note(format_args!("known_blobs {} of {} told {}", count(&known), known.len(), count(&told)));
        Ok(told)
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), StateError> {
        self.call("heartbeat", self.state.heartbeat(heartbeat)).await
    }

    async fn deregister(&self, worker: &WorkerId) -> Result<(), StateError> {
        self.call("deregister", self.state.deregister(worker)).await
    }

    async fn workers(&self) -> Result<Vec<Heartbeat>, StateError> {
        self.call("workers", self.state.workers()).await
    }

    async fn coordinator_heartbeat(&self, heartbeat: &CoordinatorHeartbeat) -> Result<(), StateError> {
        self.call("coordinator_heartbeat", self.state.coordinator_heartbeat(heartbeat)).await
    }

    async fn deregister_coordinator(&self, coordinator: &CoordinatorId) -> Result<(), StateError> {
        self.call("deregister_coordinator", self.state.deregister_coordinator(coordinator)).await
    }

    async fn coordinators(&self) -> Result<Vec<CoordinatorHeartbeat>, StateError> {
        self.call("coordinators", self.state.coordinators()).await
    }

    async fn request_cancel(&self, job: &JobId) -> Result<(), StateError> {
        self.call("request_cancel", self.state.request_cancel(job)).await
    }

    async fn cancel_requested(&self, job: &JobId) -> Result<bool, StateError> {
        let answer = self.call("cancel_requested", self.state.cancel_requested(job)).await;
        if matches!(answer, Ok(true)) {
            self.way.witness.sees_cancel(job);
        }
        answer
    }

    async fn note_start(
        &self,
        job: &JobId,
        task: &Id,
        round: Round,
        worker: &WorkerId,
    ) -> Result<Vec<WorkerId>, StateError> {
        self.call("note_start", self.state.note_start(job, task, round, worker)).await
    }

    async fn take_back_start(&self, job: &JobId, task: &Id, round: Round, worker: &WorkerId) -> Result<(), StateError> {
        self.call("take_back_start", self.state.take_back_start(job, task, round, worker)).await
    }

    async fn put_job_state(&self, job: &JobId, state: Bytes) -> Result<(), StateError> {
        self.call("put_job_state", self.state.put_job_state(job, state)).await
    }

    async fn job_state(&self, job: &JobId) -> Result<Option<Bytes>, StateError> {
        self.call("job_state", self.state.job_state(job)).await
    }

    async fn note_job(&self, repository: &Id, job: &JobId) -> Result<(), StateError> {
        self.call("note_job", self.state.note_job(repository, job)).await
    }

    async fn jobs(&self, repository: &Id) -> Result<Vec<JobId>, StateError> {
        self.call("jobs", self.state.jobs(repository)).await
    }

    async fn request_drain(&self, worker: &WorkerId) -> Result<(), StateError> {
        self.call("request_drain", self.state.request_drain(worker)).await
    }

    async fn drain_requested(&self, worker: &WorkerId) -> Result<bool, StateError> {
        self.call("drain_requested", self.state.drain_requested(worker)).await
    }
}
