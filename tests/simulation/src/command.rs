//! The command line, and the runs in processes of their own.
//!
//! One process for each seed: the order of hash maps and of tokio's wake-ups depends on what the process did before.

use std::io::Write;
use std::process::{Child, Command, ExitCode, Stdio};

use tracing_subscriber::fmt::writer::BoxMakeWriter;

use simulation::run::{self, Summary};

/// What was asked for.
enum Order {
    /// One seed, here.
    One { seed: u64, is_printed: bool },
    /// Many seeds, each in a process of its own.
    Many { from: u64, count: u64 },
}

/// Does what the arguments say.
pub(crate) fn run_arguments(arguments: &[String]) -> Result<bool, String> {
    match parse(arguments)? {
        Order::One { seed, is_printed } => Ok(run_one(seed, is_printed)),
        Order::Many { from, count } => run_many(from, count),
    }
}

/// The program.
pub(crate) fn obey() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run_arguments(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            say(&message);
            ExitCode::from(2)
        }
    }
}

fn say(line: &str) {
    // Who stops reading does not want to know more.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn parse(arguments: &[String]) -> Result<Order, String> {
    let usage = || "usage: simulation --seeds COUNT [--from N] | --seed N [--trace]".to_owned();
    let number = |name: &str| -> Result<Option<u64>, String> {
        match arguments.iter().position(|argument| argument == name) {
            None => Ok(None),
            Some(at) => arguments.get(at + 1).and_then(|text| text.parse().ok()).map(Some).ok_or_else(usage),
        }
    };
    match (number("--seed")?, number("--seeds")?) {
        (Some(seed), None) => Ok(Order::One { seed, is_printed: arguments.iter().any(|word| word == "--trace") }),
        (None, Some(count)) => Ok(Order::Many { from: number("--from")?.unwrap_or(1), count }),
        _ => Err(usage()),
    }
}

fn run_one(seed: u64, is_printed: bool) -> bool {
    // Set up in any case: a run that is printed shall be the same as one that is not.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let writer = if is_printed { BoxMakeWriter::new(std::io::stderr) } else { BoxMakeWriter::new(std::io::sink) };
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(writer).init();
    match in_simulated_time(run::run(seed, is_printed)) {
        Ok(Summary { trace, events, snapshots, failures }) => {
            say(&format!(
                "seed {seed} ok: {events} events, {snapshots} snapshots, {failures} failed jobs, trace {trace:016x}"
            ));
            true
        }
        Err(wrong) => {
            say(&format!("seed {seed} FAILED: {wrong}"));
            say(&format!("repeat it: cargo run --profile sim -p simulation -- --seed {seed} --trace"));
            false
        }
    }
}

fn in_simulated_time<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => panic!("no runtime: {error}"),
    }
}

fn start(seed: u64) -> Result<(u64, Child), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok((seed, command.spawn().map_err(|error| error.to_string())?))
}

fn run_many(from: u64, count: u64) -> Result<bool, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = 0;
    let mut running = std::collections::VecDeque::new();
    let mut next = from;
    while next < from + count || !running.is_empty() {
        while running.len() < cores && next < from + count {
            running.push_back(start(next)?);
            next += 1;
        }
        let Some((seed, child)) = running.pop_front() else { break };
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            failed += 1;
            say(&format!("seed {seed}: {}", output.status));
            say(String::from_utf8_lossy(&output.stdout).trim_end());
            say(String::from_utf8_lossy(&output.stderr).trim_end());
        }
    }
    say(&format!("{count} seeds from {from}: {failed} failed"));
    Ok(failed == 0)
}
