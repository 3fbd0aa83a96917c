//! `worker list` and `worker drain`.

use std::time::Duration;

use clap::Args;
use fleet::state::Heartbeat;
use proto::id::WorkerId;
use proto::name::RawName;
use serde_json::{Value, json};

use crate::commands::Ended;
use crate::exit::{CommandError, ExitStatus};
use crate::fleet_client::{ConnectFlags, parse_duration};
use crate::output::{counted, printable};
use crate::session::Session;
use crate::table::Table;

/// Workers are looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// List the workers of the fleet that live.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  longshore worker list\n  longshore worker list --json")]
pub(super) struct ListArguments {
    #[command(flatten)]
    connect: ConnectFlags,
}

pub(super) async fn list(arguments: &ListArguments, session: &Session) -> Ended {
    let doors = session.connect(arguments.connect.connect_timeout).await?;
    let mut workers = doors.state.workers().await?;
    let is_meant =
        |worker: &Heartbeat| arguments.connect.repository_id.is_none_or(|repository| repository == worker.repository);
    workers.retain(is_meant);
    if session.output.is_json() {
        let workers: Vec<Value> = workers.iter().map(json).collect();
        session.output.message(&workers)?;
        return Ok(ExitStatus::Done);
    }
    let mut table = Table::new(&["ID", "Host", "Pool", "Slots", "Reads", "Restores to", "Repository", "Release"]);
    for worker in &workers {
        let state = if worker.draining { " (leaves)" } else { "" };
        table.row(vec![
            vec![worker.worker.to_string()],
            vec![printable(worker.host.as_bytes())],
            vec![printable(worker.pool.as_bytes())],
            vec![format!("{} of {}{state}", worker.busy, worker.slots)],
            paths(&worker.roots),
            paths(&worker.restore_roots),
            vec![worker.repository.short()],
            vec![printable(worker.version.as_bytes())],
        ]);
    }
    for line in table.render().lines() {
        session.output.line(line)?;
    }
    session.output.line(counted(workers.len() as u64, "worker"))?;
    Ok(ExitStatus::Done)
}

fn paths(roots: &[RawName]) -> Vec<String> {
    roots.iter().map(|root| printable(&root.0)).collect()
}

fn json(worker: &Heartbeat) -> Value {
    json!({
        "worker": worker.worker,
        "host": worker.host,
        "pool": worker.pool,
        "slots": worker.slots,
        "busy": worker.busy,
        "draining": worker.draining,
        "roots": worker.roots,
        "restore_roots": worker.restore_roots,
        "repository": worker.repository,
        "version": worker.version,
        "said_at": worker.said_at,
    })
}

/// Let a worker leave.
///
/// It takes no more tasks, hands back what it has not done, and ends. It sees that within seconds.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  longshore worker drain web-1-0123abcd --wait 90s")]
pub(super) struct DrainArguments {
    /// The worker, as `longshore worker list` names it.
    #[arg(value_name = "ID")]
    worker: String,

    /// Wait up to so long until it has left; the exit code is 9 if it has not.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,

    #[command(flatten)]
    connect: ConnectFlags,
}

pub(super) async fn drain(arguments: &DrainArguments, session: &Session) -> Ended {
    let worker = WorkerId::new(&*arguments.worker).map_err(|error| CommandError::Usage(error.to_string()))?;
    let doors = session.connect(arguments.connect.connect_timeout).await?;
    let lives = async || -> Result<bool, CommandError> {
        Ok(doors.state.workers().await?.iter().any(|other| other.worker == worker))
    };
    if !lives().await? {
        return Err(CommandError::NoSuchWorker { worker: worker.to_string() });
    }
    doors.state.request_drain(&worker).await?;
    let mut has_left = false;
    if let Some(wait) = arguments.wait {
        let give_up_at = session.clock.monotonic() + wait;
        while !has_left && session.clock.monotonic() < give_up_at {
            session.clock.sleep(LOOK_EVERY).await;
            has_left = !lives().await?;
        }
    }
    if session.output.is_json() {
        session.output.message(&json!({"message_type": "summary", "worker": worker, "has_left": has_left}))?;
    } else if has_left {
        session.output.note(format_args!("{worker} has left"));
    } else {
        session.output.note(format_args!("{worker} is asked to leave"));
    }
    Ok(if arguments.wait.is_some() && !has_left { ExitStatus::TimedOut } else { ExitStatus::Done })
}
