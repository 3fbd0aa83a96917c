//! A fleet of processes whose repository is in a private emulator of Azure.

use std::path::Path;
use std::time::{Duration, Instant};

use proto::names::state::Keys;
use tests::azurite::Azurite;
use tests::processes::{Fleet, Process};

use crate::interrupted::{check, wait_until};
use crate::usage::Usage;

/// All processes are in the registry by then.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What one task of a job may hold.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Longer files are read in ranges of `range`.
    pub(crate) threshold: u64,
    pub(crate) range: u64,
}

/// A running fleet. Its processes end before its services.
pub(crate) struct Harbour {
    workers: Vec<Process>,
    coordinator: Process,
    fleet: Fleet,
    /// Ended last.
    _azurite: Azurite,
}

/// What a finished job took.
pub(crate) struct Job {
    pub(crate) seconds: f64,
    /// Of coordinator, workers, and the command that submitted it.
    pub(crate) cpu_seconds: f64,
    pub(crate) coordinator_cpu_seconds: f64,
}

impl Harbour {
    /// Starts a coordinator, and a worker for each of `endpoints`, by which it reaches the emulator; the workers read
    /// below `data`.
    pub(crate) fn start(
        purpose: &str,
        azurite: Azurite,
        data: &Path,
        budget: Budget,
        endpoints: &[String],
        worker_words: &[&str],
    ) -> Result<Self, String> {
        let Budget { entries, bytes, threshold, range } = budget;
        let fleet = Fleet::in_azure(purpose, &azurite, &azurite.endpoint()).budget(entries, bytes, threshold, range);
        let coordinator = fleet.start_logged("coordinator", fleet.command("coordinator", &[]));
        let root = data.display().to_string();
        let mut workers = Vec::new();
        for (number, endpoint) in endpoints.iter().enumerate() {
            let mut command = fleet.command("worker", &[&["--root", root.as_str()], worker_words].concat());
            command.env("AZURE_BLOB_ENDPOINT", endpoint);
            workers.push(fleet.start_logged(&format!("worker-{number}"), command));
        }
        let harbour = Self { workers, coordinator, fleet, _azurite: azurite };
        harbour.wait_for_all()?;
        Ok(harbour)
    }

    fn wait_for_all(&self) -> Result<(), String> {
        let members = |key: String| self.fleet.redis.cli(&["SCARD", &key]).trim().parse().unwrap_or(0);
        let keys = Keys::default();
        let all = || members(keys.workers()) >= self.workers.len() && members(keys.coordinators()) >= 1;
        wait_until("not all processes of the fleet registered", START_LIMIT, all)
    }

    /// Submits a backup of `data` and waits for its end.
    pub(crate) fn back_up(&self, data: &Path, words: &[&str]) -> Result<Job, String> {
        check()?;
        let data = data.display().to_string();
        let (before, coordinator_before) = (self.cpu_seconds(), self.coordinator_cpu_seconds());
        let started = Instant::now();
        let outcome = self.fleet.run(&[&["backup", "--json"], words, &[data.as_str()]].concat());
        let seconds = started.elapsed().as_secs_f64();
        if outcome.code != 0 {
            return Err(format!("the backup ended with {}: {}\n{}", outcome.code, outcome.text(), outcome.stderr));
        }
        Ok(Job {
            seconds,
            cpu_seconds: self.cpu_seconds() - before,
            coordinator_cpu_seconds: self.coordinator_cpu_seconds() - coordinator_before,
        })
    }

    /// The processes of the workers.
    pub(crate) fn workers(&self) -> Vec<u32> {
        self.workers.iter().map(Process::id).collect()
    }

    fn coordinator_cpu_seconds(&self) -> f64 {
        Usage::of([self.coordinator.id()]).cpu_seconds
    }

    /// Of coordinator, workers and commands that have ended.
    fn cpu_seconds(&self) -> f64 {
        let workers = Usage::of(self.workers()).cpu_seconds;
        workers + self.coordinator_cpu_seconds() + Usage::of_one(std::process::id()).cpu_seconds
    }
}
