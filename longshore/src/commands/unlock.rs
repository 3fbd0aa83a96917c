//! `unlock`.

use clap::Args;
use repository::locks::{self, process_is_alive};
use serde_json::json;

use super::Ended;
use crate::exit::ExitStatus;
use crate::output::counted;
use crate::session::Session;

/// Remove locks that nobody holds any more.
///
/// A lock is left behind by a process that was killed or lost its network. It is stale when its process on this host is
/// gone, or when it was not refreshed for 30 minutes; until somebody removes it, it stands in the way of others.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  longshore unlock\n  longshore unlock --remove-all")]
pub(crate) struct Arguments {
    /// Remove every lock, those of running commands too: make sure that nobody is at work.
    #[arg(long)]
    remove_all: bool,
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    let repository = session.open().await?;
    let removed = if arguments.remove_all {
        locks::remove_all_locks(&repository).await?
    } else {
        locks::remove_stale_locks(&repository, session.clock.now(), &session.identity.hostname, process_is_alive)
            .await?
    };
    let count = removed.len() as u64;
    if session.output.is_json() {
        session.output.message(&json!({"message_type": "summary", "locks_removed": count, "ids": removed}))?;
    } else if count > 0 {
        session.output.line(format_args!("removed {}", counted(count, "lock")))?;
    } else {
        session.output.note("there is no lock to remove");
    }
    Ok(ExitStatus::Done)
}
