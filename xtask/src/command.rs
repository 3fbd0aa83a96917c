//! Running other programs: announced, checked, and with their output kept where it is needed.

use std::process::{Command, Output};

use crate::failure::Failure;

/// A `cargo` command of the toolchain that runs us, started in the workspace's root.
pub(crate) fn cargo(root: &std::path::Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    command
}

/// Runs with our own output; an error unless it ends with 0.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = describe(command);
    eprintln!("$ {shown}");
    let status = command.status().map_err(|source| Failure::Start { program: shown.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Failure::Ended { command: shown, status, detail: String::new() }) }
}

/// Runs and returns what it printed; an error, with the end of its error output, unless it ends with 0.
pub(crate) fn capture(command: &mut Command) -> Result<Output, Failure> {
    let shown = describe(command);
    let output = command.output().map_err(|source| Failure::Start { program: shown.clone(), source })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let detail = match said.trim() {
        "" => String::new(),
        text => format!(":\n{text}"),
    };
    Err(Failure::Ended { command: shown, status: output.status, detail })
}

/// Whether a program of this name stands on PATH.
pub(crate) fn on_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn describe(command: &Command) -> String {
    let mut words = vec![file_name(command)];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn file_name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()
}
