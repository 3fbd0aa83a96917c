//! Who of the fleet is there: the repository of its coordinators, and the workers of a pool.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet::state::{CoordinatorHeartbeat, Heartbeat, StateError};
use proto::id::Id;

use super::{ConnectFlags, SubmitFlags};
use crate::exit::CommandError;
use crate::fleet_doors::FleetDoors;
use crate::session::Session;

/// How often somebody is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who lives has said so again by then: two heartbeats.
const SAID_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// The coordinators of the repository that is meant; waits for one.
///
/// # Errors
/// There is none in time, or those of several repositories, none of which was chosen.
pub(crate) async fn coordinators(
    session: &Session,
    doors: &FleetDoors,
    flags: &ConnectFlags,
) -> Result<Vec<CoordinatorHeartbeat>, CommandError> {
    let give_up_at = session.clock.monotonic() + flags.connect_timeout;
    loop {
        match doors.state.coordinators().await {
            Ok(coordinators) => {
                let meant = of_one_repository(coordinators, flags.repository_id)?;
                if !meant.is_empty() {
                    return Ok(meant);
                }
                if session.clock.monotonic() >= give_up_at {
                    return Err(CommandError::NoCoordinator);
                }
            }
            Err(error @ StateError::Unavailable { .. }) if session.clock.monotonic() >= give_up_at => {
                return Err(error.into());
            }
            Err(StateError::Unavailable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        session.clock.sleep(LOOK_EVERY).await;
    }
}

fn of_one_repository(
    coordinators: Vec<CoordinatorHeartbeat>,
    chosen: Option<Id>,
) -> Result<Vec<CoordinatorHeartbeat>, CommandError> {
    let repositories: BTreeSet<Id> = coordinators.iter().map(|coordinator| coordinator.repository).collect();
    match chosen {
        Some(id) => Ok(coordinators.into_iter().filter(|coordinator| coordinator.repository == id).collect()),
        None if repositories.len() <= 1 => Ok(coordinators),
        None => {
            let ids: Vec<String> = repositories.iter().map(Id::to_string).collect();
            let ids = ids.join(", ");
            Err(CommandError::Usage(format!(
                "coordinators of several repositories are there ({ids}): choose one with --repository-id"
            )))
        }
    }
}

/// Waits until a worker of the pool is there that takes tasks.
///
/// # Errors
/// `Usage` if nobody knows the pool; there is no worker in time.
pub(super) async fn await_worker(
    session: &Session,
    doors: &FleetDoors,
    flags: &SubmitFlags,
    coordinators: &[CoordinatorHeartbeat],
) -> Result<(), CommandError> {
    let begun_at = session.clock.monotonic();
    let give_up_at = begun_at + flags.wait_workers;
    // A job state that was just emptied knows no worker yet.
    let known_at = begun_at + SAID_AGAIN_WITHIN.min(flags.wait_workers);
    let repository = coordinators.first().map(|coordinator| coordinator.repository).unwrap_or_default();
    let mut is_told = false;
    loop {
        match doors.state.workers().await {
            Ok(workers) => {
                let ours: Vec<Heartbeat> =
                    workers.into_iter().filter(|worker| worker.repository == repository).collect();
                if ours.iter().any(|worker| worker.pool == flags.pool && !worker.draining) {
                    return Ok(());
                }
                if session.clock.monotonic() >= known_at {
                    check_pool(&flags.pool, coordinators, &ours)?;
                }
            }
            Err(StateError::Unavailable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if session.clock.monotonic() >= give_up_at {
            return Err(CommandError::NoWorker { pool: flags.pool.clone() });
        }
        if !std::mem::replace(&mut is_told, true) {
            session.output.note(format_args!("waits for a worker of pool {}", flags.pool));
        }
        session.clock.sleep(LOOK_EVERY).await;
    }
}

/// Whether anybody knows the pool.
fn check_pool(pool: &str, coordinators: &[CoordinatorHeartbeat], workers: &[Heartbeat]) -> Result<(), CommandError> {
    let told = coordinators.iter().flat_map(|coordinator| &coordinator.pools);
    let known: BTreeSet<&String> = told.chain(workers.iter().map(|worker| &worker.pool)).collect();
    if known.iter().any(|known| *known == pool) {
        return Ok(());
    }
    let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(CommandError::Usage(format!("nobody knows a pool {pool}; known are: {known}")))
}

#[cfg(test)]
mod tests {
    use proto::handles::UnixTime;
    use proto::id::CoordinatorId;

    use super::*;

    fn coordinator(repository: &str, pools: &[&str]) -> CoordinatorHeartbeat {
        CoordinatorHeartbeat {
            coordinator: CoordinatorId::new("c").unwrap(),
            leads: Vec::new(),
            said_at: UnixTime::default(),
            repository: Id::of(repository.as_bytes()),
            version: String::new(),
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
        }
    }

    #[test]
    fn one_repository_is_meant() {
        let (one, two) = (coordinator("one", &[]), coordinator("two", &[]));
        let meant = |coordinators: &[&CoordinatorHeartbeat], chosen| {
            of_one_repository(coordinators.iter().map(|one| (*one).clone()).collect(), chosen)
        };
        assert_eq!(meant(&[&one, &one], None).unwrap().len(), 2);
        assert_eq!(meant(&[], None).unwrap().len(), 0);
        let error = meant(&[&one, &two], None).unwrap_err().to_string();
        assert!(error.contains("--repository-id") && error.contains(&one.repository.to_string()), "{error}");
        assert_eq!(meant(&[&one, &two], Some(two.repository)).unwrap(), std::slice::from_ref(&two));
        assert_eq!(meant(&[&one], Some(two.repository)).unwrap(), []);
    }

    #[test]
    fn a_pool_that_nobody_knows_is_named_with_those_that_are_known() {
        let coordinators = [coordinator("one", &["default", "bulk"])];
        assert!(check_pool("bulk", &coordinators, &[]).is_ok());
        let error = check_pool("bluk", &coordinators, &[]).unwrap_err().to_string();
        assert_eq!(error, "nobody knows a pool bluk; known are: bulk, default");
    }
}
