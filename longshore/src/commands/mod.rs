//! One file per command: its arguments, whose doc comments are its help, and what it does.

use clap::Args;

use crate::cli::{Cli, Command};
use crate::environment::Environment;
use crate::exit::{CommandError, ExitStatus};
use crate::output::Output;
use crate::session::Session;

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod coordinator;
pub(crate) mod init;
pub(crate) mod job;
pub(crate) mod ls;
pub(crate) mod restore;
pub(crate) mod snapshots;
pub(crate) mod unlock;
pub(crate) mod version;
pub(crate) mod worker;

/// How a command that was not stopped by an error ended.
pub(crate) type Ended = Result<ExitStatus, CommandError>;

/// Who does the work.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Who does the work")]
pub(crate) struct WorkFlags {
    /// Work in this process, even where a fleet is configured.
    #[arg(long)]
    pub(crate) embedded: bool,

    /// Workers in this process; each works on as many tasks at once as the machine has cores.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) workers: u32,
}

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli, environment: &Environment, output: &Output) -> Ended {
    let status = match cli.command {
        Command::Completion(arguments) => completion::run(&arguments, output),
        Command::Version(_) => version::run(output),
        command => {
            let session = Session::new(&cli.repository, environment, output)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            // As a task: in this thread it would have to be woken for each answer that comes to another one.
            let running = runtime.spawn(run_in_session(command, session));
            let ended = match runtime.block_on(running) {
                Ok(ended) => ended,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            // Whatever still waits for a disk is of no use any more.
            runtime.shutdown_background();
            ended
        }
    };
    output.finish()?;
    status
}

async fn run_in_session(command: Command, session: Session) -> Ended {
    match command {
        Command::Init(_) => init::run(&session).await,
        Command::Backup(arguments) => backup::run(&arguments, &session).await,
        Command::Restore(arguments) => restore::run(&arguments, &session).await,
        Command::Snapshots(arguments) => snapshots::run(&arguments, &session).await,
        Command::Ls(arguments) => ls::run(&arguments, &session).await,
        Command::Check(arguments) => check::run(&arguments, &session).await,
        Command::Unlock(arguments) => unlock::run(&arguments, &session).await,
        Command::Coordinator(arguments) => Box::pin(coordinator::run(&arguments, &session)).await,
        Command::Worker(arguments) => Box::pin(worker::run(&arguments, &session)).await,
        Command::Job(arguments) => Box::pin(job::run(&arguments, &session)).await,
        Command::Completion(_) | Command::Version(_) => unreachable!("they need no session"),
    }
}
