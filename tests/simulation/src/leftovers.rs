//! Locks that are left after a round: each needs a reason why nobody removed it.
//!
//! Calls that fail are no reason: they are tried again.

use proto::id::{Id, JobId};
use proto::job::JobOutcome;
use proto::names::{Record, job_record};
use repository::format::lock::Lock;
use repository::repository::FileKind;

use crate::heirs::Recorded;
use crate::site::Site;

impl Site {
    /// Judges the locks that are left.
    ///
    /// # Errors
    /// The first one that somebody should have removed.
    pub async fn judge_locks(&self, left: &[Id]) -> Result<(), String> {
        for id in left {
            match self.reason_to_stay(id).await {
                Ok(reason) => self.note(format_args!("lock {id} is left: {reason}")),
                Err(wrong) => return Err(format!("lock {id} is left: {wrong}")),
            }
        }
        Ok(())
    }

    /// Why nobody removed a lock, or what is wrong about that.
    async fn reason_to_stay(&self, id: &Id) -> Result<&'static str, String> {
        let Some(held) = self.witness.held(&FileKind::Lock.name(id)) else {
            return Err("nobody of the fleet put it".to_owned());
        };
        if held.came_back {
            return Ok("it was put after it had been removed");
        }
        let Some(job) = self.job_of(id).await else { return Err("it names no job".to_owned()) };
        let recorded = self.recorded(&job).await;
        let holder = held.holder.name();
        match (held.holder.is_dead(), recorded) {
            (false, Recorded::Open) => Ok("its job waits for another coordinator"),
            (false, recorded) => Err(format!("{holder} lives, its job {job} is {recorded:?}")),
            (true, Recorded::Ended(outcome)) if self.should_have_gone(id, &job, &outcome).await => {
                Err(format!("{holder} was killed, but its job {job} was taken over, and is {outcome:?}"))
            }
            (true, _) => Ok("its holder was killed"),
        }
    }

    /// Whether whoever took the job over knew of this lock: one that the job began under. Then it goes with the heir's own
    /// one, unless the heir met a gap.
    async fn should_have_gone(&self, id: &Id, job: &JobId, outcome: &JobOutcome) -> bool {
        let has_heir = self.witness.leader(job).is_some_and(|leader| !leader.is_dead());
        has_heir && !matches!(outcome, JobOutcome::Superseded { .. }) && self.began_under(job).await == Some(*id)
    }

    async fn job_of(&self, lock: &Id) -> Option<JobId> {
        let json = self.bare_repository().await.load_file(FileKind::Lock, lock).await.ok()?;
        JobId::new(Lock::decode(&json).ok()?.longshore_job?).ok()
    }

    async fn began_under(&self, job: &JobId) -> Option<Id> {
        let repository = self.bare_repository().await;
        let json = repository.get_private(&job_record(job, Record::Start)).await.ok()??;
        let start: serde_json::Value = serde_json::from_slice(&json).ok()?;
        start["lock"].as_str()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use repository::locks::{LockRequest, RepositoryLock, fleet_hostname};
    use sources::generated::GeneratedTree;

    use super::*;
    use crate::actor::Actor;
    use crate::dice::Dice;
    use crate::faults::Rates;
    use crate::site::Manner;

    /// A lock that nobody removes, and the process that put it.
    struct Left {
        site: Site,
        holder: Arc<Actor>,
        job: JobId,
        lock: Id,
    }

    impl Left {
        async fn new() -> Self {
            let manner = Manner { embedded: false, rates: Rates::default(), is_printed: false };
            let site = Site::new(&Dice::new(7), Arc::new(GeneratedTree::new()), manner).await;
            let (holder, job) = (site.actor("holder"), JobId::new("job").unwrap());
            let repository = site.repository(&holder).await;
            let request = LockRequest {
                exclusive: false,
                hostname: fleet_hostname(&repository.id()),
                username: String::new(),
                pid: 1,
                uid: 0,
                gid: 0,
                job: Some(job.clone()),
                is_alive: |_| true,
            };
            let lock = RepositoryLock::take(&repository, request, site.actor_clock(&holder), None).await.unwrap().id();
            Self { site, holder, job, lock }
        }

        async fn put(&self, who: &Arc<Actor>, record: Record, value: &serde_json::Value) {
            let repository = self.site.repository(who).await;
            repository.put_private(&job_record(&self.job, record), value.to_string().as_bytes()).await.unwrap();
        }

        /// The job began under the lock; its holder is killed, and another one ends the job.
        async fn end_by_heir(&self, outcome: &JobOutcome) {
            self.put(&self.holder, Record::Start, &serde_json::json!({ "lock": self.lock })).await;
            self.put(&self.holder, Record::Epoch(1), &serde_json::Value::Null).await;
            self.holder.kill();
            let heir = self.site.actor("heir");
            self.put(&heir, Record::Epoch(2), &serde_json::Value::Null).await;
            self.put(&heir, Record::Result, &serde_json::to_value(outcome).unwrap()).await;
        }

        async fn judged(&self) -> Result<(), String> {
            self.site.judge_locks(&[self.lock]).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_lives_removes_its_lock() {
        let left = Left::new().await;
        assert!(left.judged().await.unwrap_err().contains("holder lives"));
        left.put(&left.holder, Record::Submitted, &serde_json::Value::Null).await;
        assert_eq!(left.judged().await, Ok(()), "the job is open: it was handed over");
        left.put(&left.holder, Record::Result, &serde_json::to_value(JobOutcome::Cancelled).unwrap()).await;
        assert!(left.judged().await.unwrap_err().contains("holder lives"));
        left.holder.kill();
        assert_eq!(left.judged().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_heir_removes_the_lock_that_the_job_began_under() {
        let left = Left::new().await;
        left.end_by_heir(&JobOutcome::Cancelled).await;
        assert!(left.judged().await.unwrap_err().contains("taken over"));
        let left = Left::new().await;
        left.end_by_heir(&JobOutcome::Superseded { by: JobId::new("next").unwrap() }).await;
        assert_eq!(left.judged().await, Ok(()), "it met a gap");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_of_nobody_is_accused() {
        let left = Left::new().await;
        let stranger = left.site.memory.content()[&FileKind::Lock.name(&left.lock)].clone();
        let id = Id::of(b"another name");
        left.site.memory.tamper(&FileKind::Lock.name(&id), Some(stranger));
        assert!(left.site.judge_locks(&[id]).await.unwrap_err().contains("nobody of the fleet"));
    }
}
