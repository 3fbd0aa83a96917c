//! `coordinator`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use coordinator::Doors;
use coordinator::daemon::{self, Settings, new_coordinator_id};
use coordinator::leadership::Leadership;
use fleet::cpu::Cpu;
use fleet::metrics::Role;
use fleet::objects::RepositoryObjects;
use repository::locks::{LockRequest, fleet_hostname};
use repository::repository::Repository;

use super::Ended;
use crate::exit::{CommandError, ExitStatus};
use crate::fleet_client::parse_duration;
use crate::page::PageFlags;
use crate::session::Session;
use crate::signals::Signals;

/// Lead the jobs of a fleet.
///
/// Takes submissions, shares each job out to workers, and commits what they did. Several coordinators of one repository
/// may run: each leads some jobs, and goes on with those of one that has died.
///
/// A first SIGTERM or Ctrl-C leaves the jobs to another coordinator, or to the next one that is started, and ends with 0.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore -r azure:backups:/ coordinator --pool default --pool bulk\n  \
    LONGSHORE_AMQP_URL_FILE=/run/secrets/amqp LONGSHORE_REDIS_URL_FILE=/run/secrets/redis longshore coordinator")]
pub(crate) struct Arguments {
    /// A pool of workers that jobs may be submitted for before a worker of it is there; may be repeated.
    #[arg(long, value_name = "POOL", default_value = crate::embedded::POOL)]
    pool: Vec<String>,

    /// Jobs that are done at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,

    /// A job that has no live worker for so long fails.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    wait_workers: Duration,

    /// How long to wait for a lock that others hold, before a job fails.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    retry_lock: Option<Duration>,

    #[command(flatten)]
    page: PageFlags,
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    let mut signals = Signals::listen()?;
    let page = arguments.page.open(session, Role::Coordinator, &arguments.pool)?;
    let begin = async {
        let fleet = session.connect_for_good().await?;
        let repository = session.open_for_good().await?;
        Ok::<_, CommandError>((fleet, repository))
    };
    let (fleet, repository) = tokio::select! {
        biased;
        begun = begin => begun?,
        () = signals.stop() => return Ok(ExitStatus::Done),
    };
    repository.check_writable()?;
    if page.is_open()
        && let Err(error) = coordinator::metrics::show_data_sets(&repository).await
    {
        tracing::warn!(%error, "data sets are shown with their next snapshots only");
    }
    let fleet = page.watch(session, fleet);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let doors = Doors {
        queue: fleet.queue,
        state: fleet.state,
        objects: Arc::new(RepositoryObjects::new(repository.clone())),
        clock: session.clock.clone(),
        cpu: Cpu::threads(cores),
        cache: session.cache(&repository.id()),
        repository,
    };
    let leadership = Leadership::new(new_coordinator_id(&doors), arguments.pool.clone());
    page.until_it_leaves({
        let leadership = leadership.clone();
        move || leadership.is_stopping()
    });
    let (id, location) = (leadership.coordinator(), doors.repository.location());
    session.output.note(format_args!("coordinator {id} leads jobs on repository {location}"));
    let settings = Settings {
        lock: lock_request(session, &doors.repository),
        jobs_at_once: arguments.jobs as usize,
        retry_lock: arguments.retry_lock,
        wait_workers: arguments.wait_workers,
    };
    let working = daemon::run(&doors, &settings, &leadership);
    tokio::pin!(working);
    loop {
        tokio::select! {
            biased;
            ended = &mut working => {
                ended?;
                return Ok(ExitStatus::Done);
            }
            () = signals.stop() => {
                if leadership.is_stopping() {
                    return Err(CommandError::Interrupted); // what is left is found by others, a little later
                }
                session.output.note("stops; its jobs are left to other coordinators");
                leadership.stop();
            }
        }
    }
}

/// A lock that no single host holds; the job is filled in.
fn lock_request(session: &Session, repository: &Repository) -> LockRequest {
    let identity = &session.identity;
    LockRequest {
        exclusive: false,
        hostname: fleet_hostname(&repository.id()),
        username: identity.username.clone(),
        pid: identity.pid,
        uid: identity.uid,
        gid: identity.gid,
        job: None,
        is_alive: |_| true, // no host can tell
    }
}
