//! The task path of longshore: tasks and reports as a coordinator publishes and reads them, and a worker process.

use std::sync::Arc;
use std::time::Duration;

use fleet::state::JobState;
use tests::processes::{Fleet, Process};
use tests::services::redis::PrivateRedis;
use tokio::runtime::Runtime;

use super::cost::{Servers, ms_a_task};
use super::line::{Line, POOL, Pace};
use super::{Settings, Turn};
use crate::interrupted::wait_until;
use crate::spread::sorted;
use crate::usage::Usage;

/// A worker is in the registry by then.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Tasks before the first that count.
const WARM_UP: u64 = 200;

/// A fleet without processes, and the doors of a coordinator.
pub(super) struct Ours {
    runtime: Runtime,
    line: Arc<Line>,
    fleet: Fleet,
}

impl Ours {
    /// Services, a repository in a folder, and doors to both.
    pub(super) fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let fleet = Fleet::new("bench-tasks");
        let line = runtime.block_on(Line::connect(&fleet))?;
        Ok(Self { runtime, line: Arc::new(line), fleet })
    }

    /// The job state's server.
    pub(super) fn redis(&self) -> &PrivateRedis {
        &self.fleet.redis
    }

    /// One turn, on a worker that is started for it.
    pub(super) fn turn(&self, settings: Settings, servers: &Servers) -> Result<Turn, String> {
        let worker = self.start_worker(settings.slots)?;
        let own = || Usage::of_one(std::process::id()).cpu_seconds;
        // A coordinator has four tasks for each slot under way.
        let flood = Pace::Window(4 * settings.slots as usize);
        self.runtime.block_on(self.line.run_job(WARM_UP, flood))?;
        let before = servers.read(worker.id(), own());
        let done = self.runtime.block_on(self.line.run_job(settings.tasks, flood))?;
        let after = servers.read(worker.id(), own());
        let paced = self.runtime.block_on(self.line.run_job(settings.paced, Pace::EachSecond(settings.rate)))?;
        Ok(Turn {
            tasks_per_second: settings.tasks as f64 / done.seconds,
            latencies_ms: sorted(paced.latencies_ms),
            cpu_ms: ms_a_task(before, after, settings.tasks),
        })
    }

    fn start_worker(&self, slots: u64) -> Result<Process, String> {
        let (slots, folder) = (slots.to_string(), self.fleet.path(""));
        let command = self.fleet.command("worker", &["--slots", &slots, "--root", &folder, "--pool", POOL]);
        let worker = self.fleet.start_logged("worker", command);
        // One that was killed stays in the registry for a while: the new one is who was not there before.
        let known = || self.runtime.block_on(self.line.state.workers()).unwrap_or_default();
        let before: Vec<_> = known().into_iter().map(|heartbeat| heartbeat.worker).collect();
        let is_there = || known().iter().any(|heartbeat| !before.contains(&heartbeat.worker));
        wait_until("the worker did not register", START_LIMIT, is_there)?;
        Ok(worker)
    }
}
