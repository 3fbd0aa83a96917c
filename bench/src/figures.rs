//! Figures of whole processes, and ratios of pairs.

use std::process::Command;
use std::time::Instant;

use crate::spread::shown;

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    wall_seconds: f64,
    cpu_seconds: f64,
    memory_kib: f64,
}

/// Runs a command under GNU time, which asks the kernel for the figures of the finished process.
pub(crate) fn timed(command: Command, started: Instant) -> Result<Figures, String> {
    let mut outer = Command::new("/usr/bin/time");
    outer.args(["--quiet", "--format", "%U %S %M"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    let output = outer.output().map_err(|error| format!("start /usr/bin/time: {error}"))?;
    let wall_seconds = started.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("ended with {}: {text}", output.status));
    }
    let numbers: Vec<f64> =
        text.lines().last().unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [user, system, memory_kib] => Ok(Figures { wall_seconds, cpu_seconds: user + system, memory_kib }),
        _ => Err(format!("/usr/bin/time says {text:?}")),
    }
}

/// The ratios of the first to the second of each pair: median, and smallest and largest.
pub(crate) fn ratios(pairs: &[(Figures, Figures)]) -> String {
    let of = |figure: fn(&Figures) -> f64| shown(pairs.iter().map(|(first, second)| figure(first) / figure(second)), 2);
    let (wall, cpu, memory) = (of(|f| f.wall_seconds), of(|f| f.cpu_seconds), of(|f| f.memory_kib));
    format!("{wall:>22} {cpu:>22} {memory:>22}")
}
