//! What a coordinator that leads several jobs shares with them: its name, the jobs in its heartbeat, and when to stop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::state::CoordinatorHeartbeat;
use proto::id::{CoordinatorId, JobId};
use tokio::sync::watch;

use crate::Doors;

/// One coordinator's part in its jobs. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    coordinator: CoordinatorId,
    /// The pools that it was told of.
    pools: Vec<String>,
    jobs: Mutex<Jobs>,
    stopping: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Jobs {
    /// How many times each is led: a job that goes on under another name is led by who began it, too.
    led: BTreeMap<JobId, u32>,
    /// Jobs that go on under another name.
    successors: BTreeMap<JobId, JobId>,
}

impl Leadership {
    /// A coordinator that leads nothing yet.
    pub fn new(coordinator: CoordinatorId, pools: Vec<String>) -> Self {
        let stopping = watch::Sender::new(false);
        Self { shared: Arc::new(Shared { coordinator, pools, jobs: Mutex::default(), stopping }) }
    }

    /// Its name.
    pub fn coordinator(&self) -> &CoordinatorId {
        &self.shared.coordinator
    }

    /// The pools that it was told of.
    pub fn pools(&self) -> &[String] {
        &self.shared.pools
    }

    /// Asks it to hand its jobs over.
    pub fn stop(&self) {
        self.shared.stopping.send_replace(true);
    }

    /// Whether that was asked.
    pub fn is_stopping(&self) -> bool {
        *self.shared.stopping.borrow()
    }

    /// Waits until it is asked.
    pub async fn stopping(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Nothing panics while it is held; a poisoned lock holds whole maps.
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to lead a job, unless it is led already: nobody begins it twice.
    pub(crate) fn lead(&self, job: &JobId) -> Option<Leading> {
        let mut jobs = self.lock();
        if jobs.led.contains_key(job) {
            return None;
        }
        jobs.led.insert(job.clone(), 1);
        Some(Leading { leadership: self.clone(), job: job.clone() })
    }

    /// The heartbeat names the job until the guard is dropped, whoever else here leads it, too.
    pub(crate) fn lead_too(&self, job: &JobId) -> Leading {
        *self.lock().led.entry(job.clone()).or_default() += 1;
        Leading { leadership: self.clone(), job: job.clone() }
    }

    /// Whether it leads the job.
    pub(crate) fn leads(&self, job: &JobId) -> bool {
        self.lock().led.contains_key(job)
    }

    /// The job goes on as another one.
    pub(crate) fn note_successor(&self, job: &JobId, by: &JobId) {
        self.lock().successors.insert(job.clone(), by.clone());
    }

    /// The job that goes on in place of `job`, if it is known here.
    pub(crate) fn successor(&self, job: &JobId) -> Option<JobId> {
        self.lock().successors.get(job).cloned()
    }

    /// Forgets what went on in place of `job`; returns the last one.
    pub(crate) fn forget_successors(&self, job: &JobId) -> JobId {
        let mut jobs = self.lock();
        let mut last = job.clone();
        while let Some(by) = jobs.successors.remove(&last) {
            last = by;
        }
        last
    }

    /// Says once which jobs it leads.
    pub(crate) async fn beat(&self, doors: &Doors) {
        let leads = self.lock().led.keys().cloned().collect();
        let heartbeat = CoordinatorHeartbeat {
            coordinator: self.shared.coordinator.clone(),
            leads,
            said_at: doors.clock.now(),
            repository: doors.repository.id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pools: self.shared.pools.clone(),
        };
        if let Err(error) = doors.state.coordinator_heartbeat(&heartbeat).await {
            tracing::warn!(%error, "no heartbeat");
        }
    }
}

/// Waits until the coordinator is asked to hand over; for ever where nobody can ask.
pub(crate) async fn stopping(leadership: Option<&Leadership>) {
    match leadership {
        Some(leadership) => leadership.stopping().await,
        None => std::future::pending().await,
    }
}

/// A job that this coordinator leads.
#[derive(Debug)]
pub(crate) struct Leading {
    leadership: Leadership,
    job: JobId,
}

impl Drop for Leading {
    fn drop(&mut self) {
        let mut jobs = self.leadership.lock();
        if let Some(count) = jobs.led.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                jobs.led.remove(&self.job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_led_until_the_last_one_lets_go() {
        let leadership = Leadership::new(CoordinatorId::new("c").unwrap(), Vec::new());
        let (job, by) = (JobId::new("j").unwrap(), JobId::new("k").unwrap());
        let first = leadership.lead(&job).unwrap();
        assert!(leadership.lead(&job).is_none(), "nobody begins it twice");
        let second = leadership.lead_too(&job);
        leadership.note_successor(&job, &by);
        drop(first);
        assert!(leadership.leads(&job));
        assert!(leadership.lead(&job).is_none());
        drop(second);
        assert!(!leadership.leads(&job));
        assert!(leadership.lead(&job).is_some());
        assert_eq!(leadership.successor(&job), Some(by.clone()));
        assert_eq!(leadership.forget_successors(&job), by);
        assert_eq!(leadership.successor(&job), None);
    }

    #[tokio::test]
    async fn who_asks_to_stop_is_heard_before_and_after() {
        let leadership = Leadership::new(CoordinatorId::new("c").unwrap(), Vec::new());
        let heard = leadership.stopping();
        leadership.stop();
        heard.await;
        leadership.stopping().await;
        assert!(leadership.is_stopping());
    }
}
