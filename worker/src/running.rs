//! Jobs whose record said a moment ago that they have not ended.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::id::JobId;

/// A record is not asked for again for so long: to ask costs more than the rest of a short task. A task of a job that
/// ended meanwhile is done in vain, as is one that was begun just before.
const REMEMBERED_FOR: Duration = Duration::from_secs(1);

/// What the slots of a worker know of the jobs that they work for.
#[derive(Debug, Default)]
pub(crate) struct RunningJobs(Mutex<BTreeMap<JobId, Duration>>);

impl RunningJobs {
    /// `job` ran at `now`, a time of the monotonic clock.
    pub(crate) fn saw(&self, job: &JobId, now: Duration) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, at| is_fresh(*at, now));
        seen.insert(job.clone(), now);
    }

    /// Whether `job` ran just before `now`.
    pub(crate) fn ran(&self, job: &JobId, now: Duration) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(job).is_some_and(|at| is_fresh(*at, now))
    }
}

fn is_fresh(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) < REMEMBERED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_forgotten_soon() {
        let (jobs, job, other) = (RunningJobs::default(), JobId::new("a").unwrap(), JobId::new("b").unwrap());
        let at = Duration::from_millis;
        jobs.saw(&job, at(5_000));
        assert!(jobs.ran(&job, at(5_999)));
        assert!(!jobs.ran(&other, at(5_000)));
        assert!(!jobs.ran(&job, at(6_000)));
        jobs.saw(&other, at(6_000));
        assert_eq!(jobs.0.lock().unwrap().len(), 1, "what is not fresh is not kept");
    }
}
