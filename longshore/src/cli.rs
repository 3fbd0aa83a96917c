//! The command tree. Each command's doc comment is its help; docs/cli.md holds them all and a test compares.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    backup, check, completion, coordinator, init, job, ls, restore, snapshots, unlock, version, worker,
};
use crate::config::RepositoryFlags;
use crate::environment::Environment;
use crate::exit::{ExitStatus, Failure};
use crate::logs::LogFlags;
use crate::output::{Output, OutputFlags};

/// A backup fleet that writes restic repositories.
///
/// Repositories have restic's format, version 2: longshore and restic can take turns on one, and neither stores again
/// what the other has stored.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 finished but some sources could not be read, 5 conflict, 6 access refused by
/// a service, 7 service unreachable, 8 damage found, 9 timed out waiting for a fleet, 10 no repository, 11 locked,
/// 12 wrong password, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, max_term_width = 120, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) repository: RepositoryFlags,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
    #[command(flatten)]
    pub(crate) logs: LogFlags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Arguments),
    Backup(Box<backup::Arguments>),
    Restore(Box<restore::Arguments>),
    Snapshots(snapshots::Arguments),
    Ls(ls::Arguments),
    Check(check::Arguments),
    Unlock(unlock::Arguments),
    Coordinator(coordinator::Arguments),
    Worker(worker::Arguments),
    Job(job::Arguments),
    Completion(completion::Arguments),
    Version(version::Arguments),
}

impl Command {
    /// What is logged unless somebody says otherwise.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Self::Coordinator(_) => "info",
            Self::Worker(arguments) if arguments.is_daemon() => "info",
            _ => "warn",
        }
    }
}

/// Reads the command line. On an error, and for help, everything is printed and the exit code given.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>, environment: &Environment) -> Result<Cli, ExitCode> {
    let words: Vec<OsString> = words.into_iter().collect();
    let parsed = Cli::command().try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches));
    let error = match parsed {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    let wants_json = words.iter().skip(1).take_while(|word| *word != "--").any(|word| word == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let message = text.trim().trim_start_matches("error: ").to_owned();
        let flags = OutputFlags { json: true, quiet: false };
        let failure = Failure { status: ExitStatus::Usage, message, hint: None };
        Output::of_this_process(flags, environment).fatal(&failure);
    } else {
        // Where it cannot be printed there is nobody to tell.
        let _ = error.print();
    }
    let status = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done };
    Err(ExitCode::from(status.code()))
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
