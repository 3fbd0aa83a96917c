//! `tasks`: the way of a task without work, from who publishes it to its result, in longshore and in Celery.
//!
//! Both use the same broker (virtual hosts of their own) and the same Redis (a private one), and one after the other has
//! the machine for itself. What each does for a task stands in docs/benchmarks.md.

mod celery;
mod cost;
mod line;
mod ours;

use crate::arguments::Arguments;
use crate::interrupted;
use crate::spread::{percentile, shown, sorted};
use crate::tasks::celery::{Celery, SETTINGS};
use crate::tasks::cost::{PARTS, Servers};
use crate::tasks::ours::Ours;

/// How much is done.
#[derive(Clone, Copy)]
struct Settings {
    pairs: u64,
    /// Tasks that are published as fast as it goes.
    tasks: u64,
    slots: u64,
    /// Tasks a second while the latency is taken.
    rate: u64,
    /// Tasks of which the latency is taken.
    paced: u64,
}

/// What one program did in one turn.
struct Turn {
    tasks_per_second: f64,
    /// From publication to the start of the work, ascending.
    latencies_ms: Vec<f64>,
    /// CPU milliseconds of each of [`PARTS`] for one task.
    cpu_ms: [f64; PARTS.len()],
}

/// Measures and prints.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::parse(words)?;
    let settings = Settings {
        pairs: arguments.number("--pairs", 3)?,
        tasks: arguments.number("--tasks", 5000)?,
        slots: arguments.number("--slots", 4)?,
        rate: arguments.number("--rate", 100)?,
        paced: arguments.number("--paced", 1000)?,
    };
    arguments.end()?;
    let ours = Ours::new()?;
    let servers = Servers::find(ours.redis())?;
    let celery = Celery::new(ours.redis())?;
    let mut turns: Vec<(String, Vec<Turn>)> = vec![("longshore".to_owned(), Vec::new())];
    turns.extend(SETTINGS.iter().map(|name| (format!("celery, {name}"), Vec::new())));
    for _ in 0..settings.pairs {
        turns[0].1.push(ours.turn(settings, &servers)?);
        for (number, name) in SETTINGS.iter().enumerate() {
            interrupted::check()?;
            turns[number + 1].1.push(celery.turn(number, name, settings, &servers)?);
        }
    }
    print(&turns, settings);
    Ok(())
}

fn print(turns: &[(String, Vec<Turn>)], settings: Settings) {
    let Settings { pairs, tasks, slots, rate, paced } = settings;
    println!("{pairs} pairs, {tasks} tasks on {slots} slots; latency of {paced} tasks at {rate}/s");
    println!(
        "{:<18} {:>22} {:>20} {:>20} {:>22} {:>38}",
        "program",
        "tasks/s",
        "longshore/program",
        "start p50 ms",
        "start p99 ms",
        format!("CPU ms a task: {}", PARTS.join(" "))
    );
    let ours = &turns[0].1;
    for (name, theirs) in turns {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.tasks_per_second / theirs.tasks_per_second);
        let at = |percent| shown(theirs.iter().map(|turn| percentile(&turn.latencies_ms, percent)), 1);
        let part = |part: usize| percentile(&sorted(theirs.iter().map(|turn| turn.cpu_ms[part])), 50.0);
        let parts: Vec<String> = (0..PARTS.len()).map(|number| format!("{:.2}", part(number))).collect();
        println!(
            "{name:<18} {:>22} {:>20} {:>20} {:>22} {:>38}",
            shown(theirs.iter().map(|turn| turn.tasks_per_second), 0),
            shown(ratios, 2),
            at(50.0),
            at(99.0),
            parts.join("  ")
        );
    }
}
