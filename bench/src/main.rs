//! Measures longshore beside what people use today. Every program is a command of `cargo xtask bench`:
//!
//! | command | longshore beside |
//! |---|---|
//! | (none) | stock restic: whole commands, in turns, as ratios |
//! | `tasks` | Celery, on the same broker: tasks without work |
//! | `pipeline` | archives that Celery's workers make and upload: first and second run |
//! | `scaling` | itself, with more and more workers that each may upload so much a second |
//!
//! What each of them does, and what it found, is in docs/benchmarks.md.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a benchmark prints and takes the time")]

mod against_restic;
mod arguments;
mod data;
mod figures;
mod harbour;
mod interrupted;
mod peers;
mod pipeline;
mod scaling;
mod spread;
mod tasks;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), String> {
    interrupted::watch()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("tasks") => tasks::run(&words[1..]),
        Some("pipeline") => pipeline::run(&words[1..]),
        Some("scaling") => scaling::run(&words[1..]),
        _ => against_restic::run(&words),
    }
}
