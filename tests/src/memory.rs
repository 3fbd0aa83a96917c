//! How much memory a process took at most.

use std::process::Command;

use crate::process::{self, Outcome};
use crate::scratch::Scratch;

/// Runs `command` to its end; returns how that was, and the largest resident set of it and of what it started, in MiB.
pub fn peak_of(command: &Command) -> (Outcome, u64) {
    let scratch = Scratch::new("peak");
    let figure = scratch.join("kib");
    let mut outer = Command::new("/usr/bin/time");
    outer.args(["--quiet", "--format", "%M", "--output"]).arg(&figure);
    outer.arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    let outcome = process::run(&mut outer);
    let text = std::fs::read_to_string(&figure).unwrap_or_else(|error| panic!("{}: {error}", figure.display()));
    let kib: u64 = text.trim().parse().unwrap_or_else(|_| panic!("no figure: {text:?}: {}", outcome.stderr));
    (outcome, kib / 1024)
}

/// The largest resident set that the running process `id` has had (VmHWM), in MiB.
pub fn peak_so_far(id: u32) -> u64 {
    let path = format!("/proc/{id}/status");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("no VmHWM in {path}")) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_figures_are_plausible() {
        let mut command = Command::new("sh");
        command.env_clear().args(["-c", "exit 3"]);
        let (outcome, peak) = peak_of(&command);
        assert_eq!(outcome.code, 3);
        assert!(peak < 64, "{peak} MiB for a shell");
        assert!((1..100_000).contains(&peak_so_far(std::process::id())));
    }
}
