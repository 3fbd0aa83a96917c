//! `job`: the jobs of a fleet.

mod list;
mod one;
mod submit;

use clap::{Args, Subcommand};

use super::Ended;
use crate::session::Session;

/// Submit and follow the jobs of a fleet.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore job submit backup.json\n  \
    longshore job list\n  \
    longshore job follow 019b76da-a800-7523-83bd-b30583d72b94\n  \
    longshore job cancel 019b76da-a800-7523-83bd-b30583d72b94")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    Submit(submit::Arguments),
    List(list::Arguments),
    Show(one::ShowArguments),
    Follow(one::FollowArguments),
    Cancel(one::CancelArguments),
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    match &arguments.command {
        Command::Submit(arguments) => submit::run(arguments, session).await,
        Command::List(arguments) => list::run(arguments, session).await,
        Command::Show(arguments) => one::show(arguments, session).await,
        Command::Follow(arguments) => one::follow(arguments, session).await,
        Command::Cancel(arguments) => one::cancel(arguments, session).await,
    }
}
