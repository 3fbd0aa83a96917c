//! Coordinators that take over the jobs of others which fell silent: killed, or stopped for a while.

use std::time::Duration;

use coordinator::abandoned::{Abandoned, Watch};
use coordinator::backup::BackupDone;
use coordinator::error::JobError;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use proto::handles::Clock;
use proto::id::JobId;
use proto::job::JobOutcome;
use proto::names::{Record, job_record};

use crate::run::Run;
use crate::site::{Site, Started};

/// How often somebody looks whether a job is abandoned.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How a coordinator ended; none if it was killed.
pub type Outcome = Option<Result<BackupDone, JobError>>;

/// How far the record of a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing of it is there.
    Nothing,
    /// It has no result.
    Open,
    /// It has one.
    Ended(JobOutcome),
}

impl Site {
    /// What the record of a job says.
    pub async fn recorded(&self, job: &JobId) -> Recorded {
        let repository = self.bare_repository().await;
        // Memory does not fail.
        let read = async |record| repository.get_private(&job_record(job, record)).await.ok().flatten();
        let result = read(Record::Result).await.and_then(|json| serde_json::from_slice(&json).ok());
        match (result, read(Record::Submitted).await) {
            (Some(outcome), _) => Recorded::Ended(outcome),
            (None, Some(_)) => Recorded::Open,
            (None, None) => Recorded::Nothing,
        }
    }
}

impl Run {
    /// Waits for the end of a job, whoever leads it by then.
    pub(crate) async fn follow(&self, slot: usize, host: &str, started: Started) -> Result<Outcome, String> {
        let mut jobs = vec![started.job];
        let mut leaders = FuturesUnordered::from_iter([started.ended]);
        let mut last = None;
        let doors = self.site.coordinator_doors(&self.site.actor(format!("{host}-watch"))).await;
        let mut watch = Watch::default();
        loop {
            let look = self.site.clock.sleep(LOOK_EVERY);
            tokio::select! {
                biased;
                Some(ended) = leaders.next(), if !leaders.is_empty() => {
                    match ended.map_err(|error| format!("a coordinator panicked: {error}"))? {
                        Some(Ok(done)) => return Ok(Some(Ok(done))),
                        Some(Err(JobError::Fenced { .. } | JobError::Ended { .. })) => {} // another one leads
                        other => last = other,
                    }
                }
                () = look, if self.plan.takes_over => {
                    let abandoned = watch.look(&doors).await.unwrap_or_default();
                    for abandoned in abandoned.iter().filter(|abandoned| jobs.contains(&abandoned.job)) {
                        leaders.extend(self.send_heirs(slot, host, abandoned).await.map(|heir| heir.ended));
                    }
                }
            }
            while let Some(next) = self.goes_on_as(&jobs).await {
                jobs.push(next);
            }
            if leaders.is_empty() && !self.can_be_taken_over(&jobs).await {
                return Ok(last);
            }
        }
    }

    /// One takes it over, or two try.
    async fn send_heirs(&self, slot: usize, host: &str, abandoned: &Abandoned) -> impl Iterator<Item = Started> {
        let count = if self.dice.chance(250) { 2 } else { 1 };
        let mut heirs = Vec::new();
        for _ in 0..count {
            let heir = self.site.take_over(host, abandoned).await;
            self.note_leader(slot, &heir);
            heirs.push(heir);
        }
        if self.state().calm {
            heirs.iter().for_each(|heir| heir.actor.spare());
        }
        heirs.into_iter()
    }

    async fn goes_on_as(&self, jobs: &[JobId]) -> Option<JobId> {
        match self.site.recorded(jobs.last()?).await {
            Recorded::Ended(JobOutcome::Superseded { by }) => Some(by),
            _ => None,
        }
    }

    async fn can_be_taken_over(&self, jobs: &[JobId]) -> bool {
        let Some(newest) = jobs.last() else { return false };
        self.plan.takes_over && self.site.recorded(newest).await == Recorded::Open
    }
}
