//! The job state inside one process.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::Clock;
use proto::id::{CoordinatorId, Id, JobId, Round, WorkerId};
use tokio::sync::Notify;

use super::{
    COORDINATOR_GONE_AFTER, CoordinatorHeartbeat, DOCUMENT_BYTES_MAX, DOCUMENT_LIVES, DRAIN_REQUEST_LIVES, Heartbeat,
    JOBS_NOTED_MAX, JobState, Position, REPORTS_MAX, StateError, WORKER_GONE_AFTER,
};

/// State in memory. Clones share it.
#[derive(Clone)]
pub struct LocalState {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    tables: Mutex<Tables>,
    /// Told whenever a report came in.
    reported: Notify,
}

#[derive(Default)]
struct Tables {
    jobs: BTreeMap<JobId, JobTable>,
    known: BTreeMap<Id, HashSet<u64>>,
    workers: BTreeMap<WorkerId, (Duration, Heartbeat)>,
    coordinators: BTreeMap<CoordinatorId, (Duration, CoordinatorHeartbeat)>,
    cancelled: BTreeSet<JobId>,
    /// What followers read, and since when it stands there.
    documents: BTreeMap<JobId, (Duration, Bytes)>,
    noted: BTreeMap<Id, BTreeSet<JobId>>,
    /// Who was asked to drain, and when.
    drains: BTreeMap<WorkerId, Duration>,
    /// Positions stay ascending even when a job's table is lost and made anew.
    last_position: u64,
}

#[derive(Default)]
struct JobTable {
    generation: Option<u64>,
    reports: BTreeMap<Position, Bytes>,
    starts: BTreeMap<(Id, Round), BTreeSet<WorkerId>>,
}

impl LocalState {
    /// Empty state.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { clock, tables: Mutex::default(), reported: Notify::new() }) }
    }

    /// Loses everything, as a service that keeps nothing on disk does when it restarts.
    pub fn flush(&self) {
        let mut tables = self.lock();
        *tables = Tables { last_position: tables.last_position, ..Tables::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing panics while it is held; a poisoned lock holds whole tables.
        self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports_after(&self, job: &JobId, after: &Position, limit: usize) -> Vec<(Position, Bytes)> {
        let tables = self.lock();
        let Some(table) = tables.jobs.get(job) else { return Vec::new() };
        let behind = (std::ops::Bound::Excluded(after.clone()), std::ops::Bound::Unbounded);
        table.reports.range(behind).take(limit).map(|(at, report)| (at.clone(), report.clone())).collect()
    }
}

#[async_trait]
impl JobState for LocalState {
    async fn open_job(&self, job: &JobId, generation: u64) -> Result<u64, StateError> {
        let mut tables = self.lock();
        Ok(*tables.jobs.entry(job.clone()).or_default().generation.get_or_insert(generation))
    }

    async fn generation(&self, job: &JobId) -> Result<Option<u64>, StateError> {
        Ok(self.lock().jobs.get(job).and_then(|table| table.generation))
    }

    async fn close_job(&self, job: &JobId) -> Result<(), StateError> {
        let mut tables = self.lock();
        tables.jobs.remove(job);
        tables.cancelled.remove(job);
        if tables.jobs.is_empty() {
            tables.known.clear();
        }
        Ok(())
    }

    async fn append_report(&self, job: &JobId, report: Bytes) -> Result<(), StateError> {
        let mut tables = self.lock();
        tables.last_position += 1;
        let position = Position(tables.last_position, 0);
        let table = tables.jobs.entry(job.clone()).or_default();
        if table.reports.len() >= REPORTS_MAX {
            return Err(StateError::Full { job: job.clone() });
        }
        table.reports.insert(position, report);
        drop(tables);
        self.shared.reported.notify_waiters();
        Ok(())
    }

    async fn read_reports(
        &self,
        job: &JobId,
        after: &Position,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<(Position, Bytes)>, StateError> {
        let deadline = self.shared.clock.monotonic() + wait;
        loop {
            // Listen before looking, so that nothing arrives unseen in between.
            let reported = self.shared.reported.notified();
            tokio::pin!(reported);
            reported.as_mut().enable();
            let reports = self.reports_after(job, after, limit);
            let left = deadline.saturating_sub(self.shared.clock.monotonic());
            if !reports.is_empty() || left.is_zero() {
                return Ok(reports);
            }
            let timeout = self.shared.clock.sleep(left);
            tokio::select! { biased; () = reported => {}, () = timeout => {} }
        }
    }

    async fn trim_reports(&self, job: &JobId, position: &Position) -> Result<(), StateError> {
        if let Some(table) = self.lock().jobs.get_mut(job) {
            table.reports.retain(|at, _| at > position);
        }
        Ok(())
    }

    async fn add_known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<(), StateError> {
        self.lock().known.entry(*repository).or_default().extend(blobs);
        Ok(())
    }

    async fn known_blobs(&self, repository: &Id, blobs: &[u64]) -> Result<Vec<bool>, StateError> {
        let tables = self.lock();
        let known = tables.known.get(repository);
        Ok(blobs.iter().map(|blob| known.is_some_and(|known| known.contains(blob))).collect())
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), StateError> {
        let now = self.shared.clock.monotonic();
        self.lock().workers.insert(heartbeat.worker.clone(), (now, heartbeat.clone()));
        Ok(())
    }

    async fn deregister(&self, worker: &WorkerId) -> Result<(), StateError> {
        self.lock().workers.remove(worker);
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<Heartbeat>, StateError> {
        let now = self.shared.clock.monotonic();
        let mut tables = self.lock();
        tables.workers.retain(|_, (at, _)| now.saturating_sub(*at) <= WORKER_GONE_AFTER);
        Ok(tables.workers.values().map(|(_, heartbeat)| heartbeat.clone()).collect())
    }

    async fn coordinator_heartbeat(&self, heartbeat: &CoordinatorHeartbeat) -> Result<(), StateError> {
        let now = self.shared.clock.monotonic();
        self.lock().coordinators.insert(heartbeat.coordinator.clone(), (now, heartbeat.clone()));
        Ok(())
    }

    async fn deregister_coordinator(&self, coordinator: &CoordinatorId) -> Result<(), StateError> {
        self.lock().coordinators.remove(coordinator);
        Ok(())
    }

    async fn coordinators(&self) -> Result<Vec<CoordinatorHeartbeat>, StateError> {
        let now = self.shared.clock.monotonic();
        let mut tables = self.lock();
        tables.coordinators.retain(|_, (at, _)| now.saturating_sub(*at) <= COORDINATOR_GONE_AFTER);
        Ok(tables.coordinators.values().map(|(_, heartbeat)| heartbeat.clone()).collect())
    }

    async fn request_cancel(&self, job: &JobId) -> Result<(), StateError> {
        self.lock().cancelled.insert(job.clone());
        Ok(())
    }

    async fn cancel_requested(&self, job: &JobId) -> Result<bool, StateError> {
        Ok(self.lock().cancelled.contains(job))
    }

    async fn note_start(
        &self,
        job: &JobId,
        task: &Id,
        round: Round,
        worker: &WorkerId,
    ) -> Result<Vec<WorkerId>, StateError> {
        let mut tables = self.lock();
        let starts = tables.jobs.entry(job.clone()).or_default().starts.entry((*task, round)).or_default();
        let others = starts.iter().filter(|other| *other != worker).cloned().collect();
        starts.insert(worker.clone());
        Ok(others)
    }

    async fn take_back_start(&self, job: &JobId, task: &Id, round: Round, worker: &WorkerId) -> Result<(), StateError> {
        if let Some(table) = self.lock().jobs.get_mut(job)
            && let Some(starts) = table.starts.get_mut(&(*task, round))
        {
            starts.remove(worker);
            if starts.is_empty() {
                table.starts.remove(&(*task, round));
            }
        }
        Ok(())
    }

    async fn put_job_state(&self, job: &JobId, state: Bytes) -> Result<(), StateError> {
        if state.len() > DOCUMENT_BYTES_MAX {
            return Err(StateError::TooLong { bytes: state.len() });
        }
        let now = self.shared.clock.monotonic();
        let mut tables = self.lock();
        tables.documents.retain(|_, (at, _)| now.saturating_sub(*at) <= DOCUMENT_LIVES);
        tables.documents.insert(job.clone(), (now, state));
        Ok(())
    }

    async fn job_state(&self, job: &JobId) -> Result<Option<Bytes>, StateError> {
        let now = self.shared.clock.monotonic();
        let lives = |(at, _): &&(Duration, Bytes)| now.saturating_sub(*at) <= DOCUMENT_LIVES;
        Ok(self.lock().documents.get(job).filter(lives).map(|(_, state)| state.clone()))
    }

    async fn note_job(&self, repository: &Id, job: &JobId) -> Result<(), StateError> {
        let mut tables = self.lock();
        let noted = tables.noted.entry(*repository).or_default();
        noted.insert(job.clone());
        if noted.len() > JOBS_NOTED_MAX {
            noted.pop_first();
        }
        Ok(())
    }

    async fn jobs(&self, repository: &Id) -> Result<Vec<JobId>, StateError> {
        Ok(self.lock().noted.get(repository).into_iter().flatten().cloned().collect())
    }

    async fn request_drain(&self, worker: &WorkerId) -> Result<(), StateError> {
        let now = self.shared.clock.monotonic();
        let mut tables = self.lock();
        tables.drains.retain(|_, at| now.saturating_sub(*at) <= DRAIN_REQUEST_LIVES);
        tables.drains.insert(worker.clone(), now);
        Ok(())
    }

    async fn drain_requested(&self, worker: &WorkerId) -> Result<bool, StateError> {
        let now = self.shared.clock.monotonic();
        Ok(self.lock().drains.get(worker).is_some_and(|at| now.saturating_sub(*at) <= DRAIN_REQUEST_LIVES))
    }
}

#[cfg(test)]
mod tests {
    use proto::handles::{BoxFuture, UnixTime};

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        super::super::contract::run(async || LocalState::new(Arc::new(SystemClock::new()))).await;
    }

    #[tokio::test]
    async fn a_flush_loses_the_generation() {
        let state = LocalState::new(Arc::new(SystemClock::new()));
        let job = JobId::new("job").unwrap();
        state.open_job(&job, 7).await.unwrap();
        state.flush();
        assert_eq!(state.generation(&job).await.unwrap(), None);
    }

    /// A clock that goes only when it is told to.
    #[derive(Default)]
    struct HandClock(Mutex<Duration>);

    impl Clock for HandClock {
        fn now(&self) -> UnixTime {
            UnixTime::default().plus(self.monotonic())
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_coordinator_that_is_silent_is_gone() {
        let clock = Arc::new(HandClock::default());
        let state = LocalState::new(clock.clone());
        let coordinator = CoordinatorId::new("c").unwrap();
        let heartbeat = CoordinatorHeartbeat {
            coordinator,
            leads: Vec::new(),
            said_at: UnixTime::default(),
            repository: Id::default(),
            version: String::new(),
            pools: Vec::new(),
        };
        state.coordinator_heartbeat(&heartbeat).await.unwrap();
        *clock.0.lock().unwrap() = COORDINATOR_GONE_AFTER;
        assert_eq!(state.coordinators().await.unwrap().len(), 1);
        *clock.0.lock().unwrap() += Duration::from_millis(1);
        assert!(state.coordinators().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn documents_and_requests_are_forgotten_in_time() {
        let clock = Arc::new(HandClock::default());
        let state = LocalState::new(clock.clone());
        let (job, worker) = (JobId::new("job").unwrap(), WorkerId::new("w").unwrap());
        state.put_job_state(&job, Bytes::from_static(b"{}")).await.unwrap();
        state.request_drain(&worker).await.unwrap();
        *clock.0.lock().unwrap() = DRAIN_REQUEST_LIVES + Duration::from_millis(1);
        assert!(!state.drain_requested(&worker).await.unwrap());
        assert!(state.job_state(&job).await.unwrap().is_some());
        *clock.0.lock().unwrap() = DOCUMENT_LIVES + Duration::from_millis(1);
        assert_eq!(state.job_state(&job).await.unwrap(), None);
    }
}
