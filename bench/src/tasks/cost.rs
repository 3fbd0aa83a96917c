//! The CPU time that a task costs in each of the processes that it passes.

use std::process::Command;

use tests::services::redis::PrivateRedis;

use crate::usage::Usage;

/// The processes, in the order of a [`Reading`].
pub(super) const PARTS: [&str; 4] = ["worker", "broker", "redis", "client"];

/// CPU seconds of each of [`PARTS`] since its start.
pub(super) type Reading = [f64; PARTS.len()];

/// The processes that both programs use.
pub(super) struct Servers {
    broker: u32,
    redis: u32,
}

impl Servers {
    /// The broker of this machine, and a private Redis.
    pub(super) fn find(redis: &PrivateRedis) -> Result<Self, String> {
        let asked = Command::new("rabbitmqctl").args(["--quiet", "eval", "os:getpid()."]).output();
        let asked = asked.map_err(|error| format!("start rabbitmqctl: {error}"))?;
        let text = String::from_utf8_lossy(&asked.stdout).into_owned();
        let broker = text.trim().trim_matches('"').parse();
        let broker = broker.map_err(|_| format!("rabbitmqctl says no process id: {text:?}"))?;
        let text = redis.cli(&["INFO", "server"]);
        let redis = text.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok());
        Ok(Self { broker, redis: redis.ok_or_else(|| format!("Redis says no process id: {text:?}"))? })
    }

    /// What they have used, and the worker with everything below it. Who publishes says for itself what that took.
    pub(super) fn read(&self, worker: u32, client: f64) -> Reading {
        let cpu = |pid| Usage::of([pid]).cpu_seconds;
        [cpu(worker), cpu(self.broker), cpu(self.redis), client]
    }
}

/// Milliseconds a task between two readings.
pub(super) fn ms_a_task(before: Reading, after: Reading, tasks: u64) -> [f64; PARTS.len()] {
    std::array::from_fn(|part| 1000.0 * (after[part] - before[part]) / tasks as f64)
}
