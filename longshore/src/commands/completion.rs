//! `completion`.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::Ended;
use crate::cli::Cli;
use crate::exit::ExitStatus;
use crate::output::Output;

/// Print a completion script for a shell.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore completion bash > /etc/bash_completion.d/longshore\n  \
    longshore completion fish > ~/.config/fish/completions/longshore.fish")]
pub(crate) struct Arguments {
    /// The shell.
    shell: CompletionShell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Ended {
    let shell = match arguments.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "longshore", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitStatus::Done)
}
