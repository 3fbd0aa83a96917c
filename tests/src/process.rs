//! Programs that ran: how they ended and what they said.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::services::pause;

/// Who was told to stop has stopped by then.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often that is looked at.
const STOP_STEP: Duration = Duration::from_millis(1);

/// What a finished program left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Outcome {
    /// Keeps what `output` has.
    pub fn new(command: String, output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let signal = output.status.signal().map(|signal| 128 + signal);
        let code = output.status.code().or(signal).unwrap_or(-1);
        Self { command, code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    /// Panics with everything it said unless it ended with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        let text = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.code, code, "exit code of: {}\nstdout:\n{text}\nstderr:\n{}", self.command, self.stderr);
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON lines; panics on a line that is none.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: not JSON: {error}: {line}", self.command))
        };
        self.text().lines().filter(|line| !line.is_empty()).map(parse).collect()
    }

    /// The last JSON line whose `message_type` is `kind`.
    #[track_caller]
    pub fn message(&self, kind: &str) -> Value {
        let found = self.json_lines().into_iter().rev().find(|line| line["message_type"] == kind);
        found.unwrap_or_else(|| panic!("{}: no line of type {kind} in\n{}\n{}", self.command, self.text(), self.stderr))
    }
}

/// Runs a command to its end, without input.
pub fn run(command: &mut Command) -> Outcome {
    let shown = describe(command);
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    Outcome::new(shown, output)
}

/// Program and arguments in one line.
pub fn describe(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    format!("{program} {}", words.join(" "))
}

/// Sends a signal. After `Signal::STOP` not one thread of the process is at work any more: on a busy machine the thread
/// that has to stop the others may itself wait for its turn, and they go on until then.
#[track_caller]
pub fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal process {pid:?}: {error}"));
    if signal == Signal::STOP {
        for _ in 0..STOP_LIMIT.as_millis() / STOP_STEP.as_millis() {
            if has_stopped(pid) {
                return;
            }
            pause(STOP_STEP);
        }
        panic!("process {pid:?} did not stop within {STOP_LIMIT:?}");
    }
}

/// Whether all its threads are stopped, or ended.
fn has_stopped(pid: Pid) -> bool {
    let tasks = PathBuf::from(format!("/proc/{}/task", pid.as_raw_nonzero()));
    let threads = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default()).all(|stat| {
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        matches!(state, None | Some('T' | 't' | 'Z' | 'X'))
    })
}
