//! The command line, and the runs in processes of their own.
//!
//! One process for each seed: the order of hash maps and of tokio's wake-ups depends on what the process did before.

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Output, Stdio};

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
    let ended = catch_unwind(AssertUnwindSafe(|| in_simulated_time(run::run(seed, is_printed))));
    match ended.unwrap_or_else(|panic| Err(format!("panicked: {}", words(&*panic)))) {
        Ok(Summary { trace, events, snapshots, failures }) => {
            say(&format!(
                "seed {seed} ok: {events} events, {snapshots} snapshots, {failures} failed jobs, trace {trace:016x}"
            ));
            true
        }
        Err(wrong) => {
            say(&format!("seed {seed} FAILED: {wrong}"));
            say(&how_to_repeat(seed));
            false
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

fn how_to_repeat(seed: u64) -> String {
    format!("repeat it: cargo run --profile sim -p simulation -- --seed {seed} --trace")
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
            say(&failure(seed, &output));
        }
    }
    say(&format!("{count} seeds from {from}: {failed} failed"));
    Ok(failed == 0)
}

/// What is said of a seed that failed: also one whose process could say nothing more has to be repeated.
fn failure(seed: u64, output: &Output) -> String {
    let [own, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let repeat = how_to_repeat(seed);
    let status = output.status.to_string();
    let mut lines = vec![format!("seed {seed}: {status}"), own.trim_end().to_owned()];
    if !own.contains(&repeat) {
        lines.push(repeat);
    }
    lines.push(errors.trim_end().to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    /// The words after `--` are an order to this program, for this seed.
    #[track_caller]
    fn assert_repeats(said: &str, wanted: u64) {
        let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("repeat it: ")).collect();
        let [line] = lines[..] else { panic!("{said}") };
        let words = line.strip_prefix("cargo run --profile sim -p simulation -- ").unwrap();
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        assert!(matches!(parse(&words), Ok(Order::One { seed, is_printed: true }) if seed == wanted), "{line}");
    }

    fn ended(status: i32, said: &str) -> Output {
        let (stdout, stderr) = (said.as_bytes().to_vec(), b"a stack".to_vec());
        Output { status: ExitStatus::from_raw(status), stdout, stderr }
    }

    #[test]
    fn a_seed_that_fails_says_once_how_it_is_repeated() {
        assert_repeats(&how_to_repeat(u64::MAX), u64::MAX);
        let own = format!("seed 12 FAILED: a pack is gone\n{}\n", how_to_repeat(12));
        for output in [ended(1 << 8, &own), ended(6, ""), ended(101 << 8, "seed 1")] {
            let said = failure(12, &output);
            assert_repeats(&said, 12);
            assert!(said.starts_with("seed 12: ") && said.ends_with("a stack"), "{said}");
        }
    }

    #[test]
    fn what_a_panic_said_is_said_again() {
        for panic in [catch_unwind(|| panic!("plain")), catch_unwind(|| panic!("{} words", 2))] {
            let panic = panic.unwrap_err();
            assert!(["plain", "2 words"].contains(&words(&*panic)));
        }
    }
}
