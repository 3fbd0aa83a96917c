//! Finds jobs that nobody leads any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::id::{Epoch, JobId};
use proto::job::Request;
use proto::names::JOBS_PREFIX;

use crate::Doors;
use crate::error::JobError;
use crate::found_record::{FoundRecord, epoch_of};
use crate::heartbeat::HEARTBEAT_EVERY;

/// So long a job must be seen without a leader: a registry that was just lost is complete again after two heartbeats.
const SEEN_ABANDONED_FOR: Duration = HEARTBEAT_EVERY.saturating_mul(3);

/// A job whose record has no result, and that no live coordinator leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Abandoned {
    /// The job.
    pub job: JobId,
    /// Who led it last: a coordinator of a later epoch has not abandoned it. 0 if nobody began.
    pub epoch: Epoch,
}

/// Looks for such jobs once. Whoever just lost the registry of coordinators is found, too: see [`Watch`].
///
/// # Errors
/// The records cannot be listed or read, or nobody can be asked who lives.
pub async fn find_abandoned(doors: &Doors) -> Result<Vec<Abandoned>, JobError> {
    let names = doors.repository.list_private(JOBS_PREFIX).await?;
    // Asked after the listing: whoever began a record that is in it was in the registry before.
    let led: BTreeSet<JobId> =
        doors.state.coordinators().await?.into_iter().flat_map(|coordinator| coordinator.leads).collect();
    let mut abandoned = Vec::new();
    for found in open_jobs(&names) {
        if led.contains(&found.job) {
            continue;
        }
        match may_be_taken_over(doors, &found.job).await {
            Ok(true) => abandoned.push(found),
            Ok(false) => {}
            // One record that nobody understands keeps no other job from going on.
            Err(error) if error.is_final() => {
                tracing::warn!(job = %found.job, error = error.chain(), "the record of a job cannot be read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(abandoned)
}

/// Jobs that were submitted and have no result.
fn open_jobs(names: &[String]) -> Vec<Abandoned> {
    let mut records: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (job, record) in names.iter().filter_map(|name| name.strip_prefix(JOBS_PREFIX)?.split_once('/')) {
        records.entry(job).or_default().push(record);
    }
    let is_open = |records: &Vec<&str>| records.contains(&"submitted") && !records.contains(&"result");
    let open = records.into_iter().filter(|(_, records)| is_open(records));
    let describe = |(job, records): (&str, Vec<&str>)| {
        let epoch = records.into_iter().filter_map(epoch_of).max().unwrap_or(0);
        Some(Abandoned { job: JobId::new(job).ok()?, epoch })
    };
    open.filter_map(describe).collect()
}

/// A job of a fleet: what an embedded run left behind went with its process.
async fn may_be_taken_over(doors: &Doors, job: &JobId) -> Result<bool, JobError> {
    let record = FoundRecord::read(&doors.repository, job).await?;
    match record.submission().await?.map(|submission| submission.request) {
        Some(Request::Backup(_)) => Ok(!record.start().await?.is_some_and(|start| start.embedded)),
        Some(Request::Restore(_) | Request::Check(_)) => Ok(true), // embedded ones leave no record
        None => Ok(false),
    }
}

/// Remembers since when jobs are seen without a leader.
#[derive(Debug, Default)]
pub struct Watch {
    since: BTreeMap<Abandoned, Duration>,
}

impl Watch {
    /// Looks once more; returns the jobs that nobody led for so long that somebody should: backups are taken over
    /// ([`crate::takeover::take_over`]), what has no checkpoints is begun anew.
    ///
    /// # Errors
    /// As of [`find_abandoned`]; what was seen before stays known.
    pub async fn look(&mut self, doors: &Doors) -> Result<Vec<Abandoned>, JobError> {
        let found = find_abandoned(doors).await?;
        Ok(self.note(found, doors.clock.monotonic()))
    }

    fn note(&mut self, found: Vec<Abandoned>, now: Duration) -> Vec<Abandoned> {
        let known = std::mem::take(&mut self.since);
        self.since = found.into_iter().map(|job| (job.clone(), known.get(&job).copied().unwrap_or(now))).collect();
        let is_due = |since: &Duration| now.saturating_sub(*since) >= SEEN_ABANDONED_FOR;
        self.since.iter().filter(|(_, since)| is_due(since)).map(|(job, _)| job.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abandoned(job: &str, epoch: Epoch) -> Abandoned {
        Abandoned { job: JobId::new(job).unwrap(), epoch }
    }

    fn names(records: &[&str]) -> Vec<String> {
        records.iter().map(|record| format!("{JOBS_PREFIX}{record}")).collect()
    }

    #[test]
    fn a_job_is_open_until_it_has_a_result() {
        let names = names(&[
            "a/submitted",
            "a/start",
            "a/epoch-00000001",
            "a/epoch-00000012",
            "a/checkpoint-00000099-00000001",
            "b/submitted",
            "b/epoch-00000001",
            "b/result",
            "c/submitted",
            "d/payload/00",
        ]);
        assert_eq!(open_jobs(&names), [abandoned("a", 12), abandoned("c", 0)]);
    }

    #[test]
    fn a_job_is_due_once_it_was_seen_without_a_leader_for_a_while() {
        let mut watch = Watch::default();
        let job = abandoned("a", 1);
        let at = |seconds| Duration::from_secs(seconds);
        assert!(watch.note(vec![job.clone()], at(100)).is_empty());
        assert!(watch.note(vec![job.clone()], at(114)).is_empty());
        assert_eq!(watch.note(vec![job.clone()], at(115)), std::slice::from_ref(&job));
        assert!(watch.note(Vec::new(), at(116)).is_empty());
        assert!(watch.note(vec![job.clone()], at(117)).is_empty(), "its coordinator was heard in between");
        assert!(watch.note(vec![abandoned("a", 2)], at(140)).is_empty(), "led by another, who fell silent just now");
    }
}
