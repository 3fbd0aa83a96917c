//! The peers: Python programs of `bench/peers/` in the virtual environment that `cargo xtask bench` makes.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::de::DeserializeOwned;

/// Where the peers find their services, and how Celery is set.
#[derive(Clone)]
pub(crate) struct Peers {
    python: PathBuf,
    programs: PathBuf,
    variables: Vec<(String, String)>,
}

/// Workers of Celery, killed with everything below them when the value goes away.
pub(crate) struct CeleryWorkers {
    child: Child,
    log: PathBuf,
}

impl Peers {
    /// The peers: `LONGSHORE_PEERS` names the virtual environment, `LONGSHORE_PEER_PROGRAMS` the folder of the programs.
    pub(crate) fn find() -> Result<Self, String> {
        let named = |variable: &str| {
            let missing = || format!("{variable} is not set: run `cargo xtask bench`");
            std::env::var_os(variable).map(PathBuf::from).ok_or_else(missing)
        };
        let (environment, programs) = (named("LONGSHORE_PEERS")?, named("LONGSHORE_PEER_PROGRAMS")?);
        Ok(Self { python: environment.join("bin/python"), programs, variables: Vec::new() })
    }

    /// With a variable for every program.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Celery on this broker and backend; `settings` as `application.py` has them.
    pub(crate) fn celery(&self, broker: &str, backend: &str, settings: &str) -> Self {
        let peers = self.clone().variable("BENCH_BROKER", broker).variable("BENCH_BACKEND", backend);
        peers.variable("BENCH_SETTINGS", settings)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.current_dir(&self.programs).stdin(Stdio::null()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a program to its end; what it prints is JSON.
    pub(crate) fn run<T: DeserializeOwned>(&self, program: &str, words: &[&str]) -> Result<T, String> {
        let mut command = self.command();
        let output = command.arg(program).args(words).output();
        let output = output.map_err(|error| format!("start {}: {error}", self.python.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{program} {words:?} ended with {}:\n{said}", output.status));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{program} {words:?}: not JSON: {error}"))
    }

    /// Starts a worker of Celery with so many processes for the tasks of `module`; its log is in `folder`.
    pub(crate) fn start_workers(&self, module: &str, processes: u64, folder: &Path) -> Result<CeleryWorkers, String> {
        let log = folder.join("celery.log");
        let failed = |what: &str, error: std::io::Error| format!("{what} {}: {error}", log.display());
        let file = File::create(&log).map_err(|error| failed("create", error))?;
        let errors = file.try_clone().map_err(|error| failed("open", error))?;
        let mut command = self.command();
        command.args(["-m", "celery", "-A", module, "worker", "--pool", "prefork", "--concurrency"]);
        command.arg(processes.to_string()).stdout(file).stderr(errors).process_group(0);
        let child = command.spawn().map_err(|error| format!("start Celery: {error}"))?;
        Ok(CeleryWorkers { child, log })
    }
}

impl CeleryWorkers {
    /// The process above all others.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what they said, for an error.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for CeleryWorkers {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
