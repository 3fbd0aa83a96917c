//! RabbitMQ, the task queue: the broker of this machine, of which each test takes a virtual host.

use std::process::Command;

use super::{is_listening, packages, wait_for};
use crate::command::{capture, on_path, run};
use crate::failure::Failure;

/// Where its clients find it.
const PORT: u16 = 5672;

/// Finds it running, or installs and starts it.
pub(super) fn provide() -> Result<String, Failure> {
    if !on_path("rabbitmq-server") {
        packages::install(&["rabbitmq-server"])?;
    }
    if !is_listening(PORT) {
        run(Command::new("rabbitmq-server").arg("-detached"))?;
        wait_for("RabbitMQ", PORT)?;
    }
    // Asked of the node that the tests will ask for virtual hosts: another one on that port would not do.
    let version = capture(Command::new("rabbitmqctl").args(["--quiet", "eval", "rabbit_misc:version()."]))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().trim_matches('"').to_owned();
    Ok(format!("{version}, port {PORT}"))
}
