//! Redis, the job state: the server of this machine, of which each test takes a prefix of keys.

use std::process::Command;

use super::{is_listening, packages, wait_for};
use crate::command::{capture, on_path, run};
use crate::failure::Failure;

/// Where its clients find it.
const PORT: u16 = 6379;

/// Finds it running, or installs and starts it.
pub(super) fn provide() -> Result<String, Failure> {
    if !on_path("redis-server") || !on_path("redis-cli") {
        packages::install(&["redis-server", "redis-tools"])?;
    }
    if !is_listening(PORT) {
        let words = ["--port", "6379", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "yes"];
        run(Command::new("redis-server").args(words))?;
        wait_for("Redis", PORT)?;
    }
    let answer = capture(Command::new("redis-cli").args(["-p", "6379", "INFO", "server"]))?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let version = answer.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(format!("{}, port {PORT}", version.map_or("unknown version", str::trim)))
}
