//! The `longshore` command: parse, run, exit.

use std::process::ExitCode;

mod azure;
mod cli;
mod commands;
mod config;
mod embedded;
mod environment;
mod exit;
mod fleet_client;
mod fleet_doors;
mod fleet_places;
mod holding;
mod identity;
mod logs;
#[cfg(target_env = "gnu")]
mod memory;
mod output;
mod page;
mod password;
mod patterns;
mod progress;
mod scan;
mod select;
mod session;
mod signals;
mod table;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    memory::share_arenas();
    let environment = environment::Environment::of_this_process();
    let cli = match cli::parse(std::env::args_os(), &environment) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let output = output::Output::of_this_process(cli.output, &environment);
    let ended = logs::begin(cli.logs, cli.command.log_level(), &environment, &output)
        .and_then(|()| commands::run(cli, &environment, &output));
    let status = match ended {
        Ok(status) => status,
        Err(error) if error.is_closed_pipe() => exit::ExitStatus::Done,
        Err(error) => {
            let failure = error.failure();
            output.fatal(&failure);
            failure.status
        }
    };
    ExitCode::from(status.code())
}
