//! A worker process.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use fleet::cpu::Cpu;
use fleet::metrics::Role;
use fleet::objects::RepositoryObjects;
use proto::handles::RandomExt;
use proto::id::WorkerId;
use proto::name::RawName;
use sources::files::FileSource;
use sources::files::roots::Root;
use worker::restore::RootTargets;
use worker::worker::{Doors, Drain, Settings, Worker};

use crate::commands::Ended;
use crate::exit::{CommandError, ExitStatus};
use crate::page::PageFlags;
use crate::session::Session;
use crate::signals::Signals;

/// After so long a drained worker leaves whatever it still does: that is done again elsewhere.
const LEAVES_WITHIN: Duration = Duration::from_secs(58);

/// A worker process.
#[derive(Args, Debug)]
pub(super) struct ServeArguments {
    /// What it may read: PATH is the name in snapshots, MOUNT where this host has it; may be repeated.
    #[arg(long, value_name = "PATH[=MOUNT]", required_unless_present = "restore_root")]
    root: Vec<OsString>,

    /// Where it may restore to: PATH is the name in restores, MOUNT where this host has it; may be repeated.
    #[arg(long, value_name = "PATH[=MOUNT]")]
    restore_root: Vec<OsString>,

    /// Whose tasks it takes.
    #[arg(long, value_name = "POOL", default_value = crate::embedded::POOL)]
    pool: String,

    /// Tasks that it does at once; as many as the machine has cores if nothing is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: Option<u32>,

    #[command(flatten)]
    page: PageFlags,
}

pub(super) async fn run(arguments: &ServeArguments, session: &Session) -> Ended {
    let (roots, restore_roots) = (parse(&arguments.root)?, parse(&arguments.restore_root)?);
    let mut signals = Signals::listen()?;
    let page = arguments.page.open(session, Role::Worker, std::slice::from_ref(&arguments.pool))?;
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
    let fleet = page.watch(session, fleet);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cache = session.cache(&repository.id());
    let doors = Doors {
        queue: fleet.queue,
        state: fleet.state,
        objects: Arc::new(RepositoryObjects::new(repository.clone())),
        source: Arc::new(FileSource::new(roots.clone())),
        repository,
        clock: session.clock.clone(),
        cpu: Cpu::threads(cores),
        cache,
    };
    let settings = Settings {
        worker: worker_id(&session.identity.hostname, session.random.bytes()),
        pool: arguments.pool.clone(),
        slots: arguments.slots.unwrap_or_else(|| u32::try_from(cores).unwrap_or(1)),
        roots: names(&roots),
        restore_roots: names(&restore_roots),
        host: session.identity.hostname.clone(),
    };
    let (id, pool) = (&settings.worker, &settings.pool);
    session.output.note(format_args!("worker {id} takes tasks of pool {pool}"));
    let drain = Drain::default();
    let worker = Arc::new(Worker::new(settings, doors, drain.clone()));
    page.ask({
        let worker = worker.clone();
        move || worker.show_figures()
    });
    page.until_it_leaves({
        let drain = drain.clone();
        move || drain.has_begun()
    });
    if !restore_roots.is_empty() {
        worker.allow_restores(Arc::new(RootTargets::new(restore_roots)));
    }
    until_it_leaves(session, &worker, &drain, &mut signals).await
}

async fn until_it_leaves(session: &Session, worker: &Worker, drain: &Drain, signals: &mut Signals) -> Ended {
    let working = worker.run();
    tokio::pin!(working);
    let leaving = async {
        drain.begun().await;
        session.output.note("leaves; hands back what it has not done");
        session.clock.sleep(LEAVES_WITHIN).await;
    };
    tokio::pin!(leaving);
    loop {
        tokio::select! {
            biased;
            ended = &mut working => {
                ended?;
                return Ok(ExitStatus::Done);
            }
            () = signals.stop() => {
                if drain.has_begun() {
                    return Err(CommandError::Interrupted);
                }
                drain.begin();
            }
            () = &mut leaving => {
                session.output.warn("something did not end in time; it is done again elsewhere");
                return Ok(ExitStatus::Done);
            }
        }
    }
}

fn parse(roots: &[OsString]) -> Result<Vec<Root>, CommandError> {
    let parse = |root: &OsString| Root::parse(root.as_encoded_bytes());
    roots.iter().map(parse).collect::<Result<_, _>>().map_err(|error| CommandError::Usage(error.to_string()))
}

fn names(roots: &[Root]) -> Vec<RawName> {
    roots.iter().map(|root| root.path.clone().into()).collect()
}

/// Longer host names are cut.
const HOST_CHARACTERS_MAX: usize = 40;

/// A name that no other worker has, with the host's for people.
fn worker_id(host: &str, random: [u8; 4]) -> WorkerId {
    let fits = |character: &char| character.is_ascii_lowercase() || character.is_ascii_digit() || *character == '-';
    let host: String = host.to_lowercase().chars().filter(fits).take(HOST_CHARACTERS_MAX).collect();
    let host = if host.is_empty() { "host".to_owned() } else { host };
    match WorkerId::new(format!("{host}-{:08x}", u32::from_be_bytes(random))) {
        Ok(id) => id,
        Err(_) => unreachable!("it is made of letters, digits and dashes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_named_after_their_host() {
        assert_eq!(worker_id("Web-1.example", [0, 0, 0, 7]).as_str(), "web-1example-00000007");
        assert_eq!(worker_id("", [0xff; 4]).as_str(), "host-ffffffff");
        assert_eq!(worker_id(&"ä".repeat(99), [0; 4]).as_str(), "host-00000000");
        assert_eq!(worker_id(&"x".repeat(99), [0; 4]).as_str().len(), 49);
    }

    #[test]
    fn roots_are_absolute() {
        assert!(parse(&["/srv".into(), "/home=/mnt/home".into()]).is_ok());
        assert!(parse(&["srv".into()]).is_err());
    }
}
