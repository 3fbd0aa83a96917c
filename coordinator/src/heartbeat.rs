//! A coordinator says every few seconds which job it leads, so that others take over what nobody leads any more; and
//! workers say that they live.

use std::future::Future;
use std::time::Duration;

use fleet::state::{CoordinatorHeartbeat, Heartbeat};
use proto::handles::RandomExt;
use proto::id::{CoordinatorId, Id, JobId};

use crate::Doors;
use crate::leadership::Leadership;

/// How often it says so.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);

/// A name that no other coordinator has: what a record calls its leader.
pub fn new_coordinator_id(doors: &Doors) -> CoordinatorId {
    let random: [u8; 16] = doors.repository.random().bytes();
    match CoordinatorId::new(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>()) {
        Ok(id) => id,
        Err(_) => unreachable!("hex digits are the id of a coordinator"),
    }
}

/// Those who do the tasks of a pool: others may share the job state, and work for another repository.
pub(crate) fn of_pool(workers: Vec<Heartbeat>, repository: &Id, pool: &str) -> Vec<Heartbeat> {
    workers.into_iter().filter(|worker| worker.pool == pool && worker.repository == *repository).collect()
}

/// Does `work`, which is to lead `job`, and says so meanwhile: in the heartbeat of a coordinator that leads several jobs,
/// or in one of its own.
pub(crate) async fn while_leading<T>(
    doors: &Doors,
    leadership: Option<&Leadership>,
    me: &CoordinatorId,
    job: &JobId,
    work: impl Future<Output = T>,
) -> T {
    if let Some(leadership) = leadership {
        let _leading = leadership.lead_too(job);
        leadership.beat(doors).await; // before anything of the job is there
        return work.await;
    }
    let ended = tokio::select! {
        biased;
        ended = work => ended,
        never = say_again(doors, me, job) => match never {},
    };
    if let Err(error) = doors.state.deregister_coordinator(me).await {
        tracing::debug!(%error, "the registry still names this coordinator for a while");
    }
    ended
}

async fn say_again(doors: &Doors, me: &CoordinatorId, job: &JobId) -> std::convert::Infallible {
    loop {
        let said_at = doors.clock.now();
        let heartbeat = CoordinatorHeartbeat {
            coordinator: me.clone(),
            leads: vec![job.clone()],
            said_at,
            repository: doors.repository.id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pools: Vec::new(),
        };
        if let Err(error) = doors.state.coordinator_heartbeat(&heartbeat).await {
            tracing::debug!(%error, "a heartbeat was not heard");
        }
        doors.clock.sleep(HEARTBEAT_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use proto::handles::UnixTime;
    use proto::id::WorkerId;

    use super::*;

    #[test]
    fn workers_of_another_repository_do_not_count() {
        let worker = |id: &str, pool: &str, repository: &[u8]| Heartbeat {
            worker: WorkerId::new(id).unwrap(),
            pool: pool.to_owned(),
            slots: 1,
            holds: Vec::new(),
            draining: false,
            said_at: UnixTime::default(),
            repository: Id::of(repository),
            version: String::new(),
            busy: 0,
            roots: Vec::new(),
            restore_roots: Vec::new(),
            host: String::new(),
        };
        let all = vec![worker("a", "p", b"ours"), worker("b", "p", b"theirs"), worker("c", "q", b"ours")];
        let ours = of_pool(all, &Id::of(b"ours"), "p");
        assert_eq!(ours.iter().map(|worker| worker.worker.as_str()).collect::<Vec<_>>(), ["a"]);
    }
}
