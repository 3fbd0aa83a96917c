//! `worker`, and what is asked of workers.

mod registry;
mod serve;

use clap::{Args, Subcommand};

use self::serve::ServeArguments;
use super::Ended;
use crate::session::Session;

/// Work for a fleet.
///
/// Takes tasks of its pool and does them: reads what lies in its roots, writes into its restore roots, and nowhere else.
/// A task that is for other roots goes to another worker of the pool.
///
/// A first SIGTERM or Ctrl-C, or `longshore worker drain`, lets it leave: it takes no more tasks, hands back what it has
/// not done, and ends with 0 within a minute.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_long_help = "Examples:\n  \
    longshore -r azure:backups:/ worker --root /srv --root /home=/mnt/home --slots 2\n  \
    longshore worker --pool bulk --root /data --restore-root /restored=/mnt/restored\n  \
    longshore worker list\n  \
    longshore worker drain web-1-0123abcd")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: ServeArguments,
}

/// What to ask.
#[derive(Debug, Subcommand)]
enum Command {
    List(registry::ListArguments),
    Drain(registry::DrainArguments),
}

impl Arguments {
    /// Whether a process is wanted that stays.
    pub(crate) fn is_daemon(&self) -> bool {
        self.command.is_none()
    }
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    match &arguments.command {
        None => serve::run(&arguments.serve, session).await,
        Some(Command::List(arguments)) => registry::list(arguments, session).await,
        Some(Command::Drain(arguments)) => registry::drain(arguments, session).await,
    }
}
