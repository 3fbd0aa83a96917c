//! The processes of a fleet: coordinators and workers, as `longshore` starts them, on a broker and a Redis of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::Longshore;
use crate::process::Outcome;
use crate::restic::Restic;
use crate::scratch::Scratch;
use crate::services::rabbitmq::Vhosts;
use crate::services::redis::PrivateRedis;

/// A fleet without processes: services, a repository, and commands that know both.
pub struct Fleet {
    /// Where everything lies.
    pub scratch: Scratch,
    /// The oracle, on the same repository.
    pub restic: Restic,
    /// The job state.
    pub redis: PrivateRedis,
    /// Commands that know the services only.
    pub client: Longshore,
    /// Commands that know the repository too.
    pub member: Longshore,
    _vhosts: Vhosts,
}

/// One process of the fleet. Killed when the value goes away.
pub struct Process {
    child: Child,
}

impl Fleet {
    /// A new one.
    pub fn new(purpose: &str) -> Self {
        let scratch = Scratch::new(purpose);
        let restic = Restic::init(scratch.path());
        let (vhosts, redis) = (Vhosts::new(purpose, 1), PrivateRedis::start(purpose, &[]));
        let services = |longshore: Longshore| {
            longshore.variable("LONGSHORE_AMQP_URL", &vhosts.url(0)).variable("LONGSHORE_REDIS_URL", &redis.url(""))
        };
        // Tasks of a few entries: what takes a fleet a day shall happen here in seconds.
        let client = services(Longshore::new()).budget(20, 4 << 20, 1 << 30, 1 << 30);
        let member = services(Longshore::with_repository(restic.repository(), restic.password_file()));
        Self { scratch, restic, redis, client, member, _vhosts: vhosts }
    }

    /// Starts a coordinator.
    pub fn coordinator(&self, arguments: &[&str]) -> Process {
        self.start("coordinator", arguments)
    }

    /// Starts a worker that reads and restores below the fleet's folder.
    pub fn worker(&self, arguments: &[&str]) -> Process {
        let folder = self.scratch.path().to_str().expect("a plain name");
        let words = [&["--slots", "2", "--root", folder, "--restore-root", folder], arguments].concat();
        self.start("worker", &words)
    }

    fn start(&self, what: &str, arguments: &[&str]) -> Process {
        let mut command: Command = self.member.command();
        command.current_dir(self.scratch.path()).arg(what).args(arguments);
        // What it says goes where the test's own output goes.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Process { child: command.spawn().unwrap_or_else(|error| panic!("cannot start a {what}: {error}")) }
    }

    /// Runs a command that knows the services only.
    pub fn run(&self, words: &[&str]) -> Outcome {
        self.client.run_in(self.scratch.path(), words)
    }

    /// The path of something in the fleet's folder, as text.
    pub fn path(&self, name: impl AsRef<Path>) -> String {
        self.scratch.join(name).to_str().expect("a plain name").to_owned()
    }
}

impl Process {
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal process {}: {error}", self.child.id()));
    }

    /// Waits for its end; returns the exit code.
    pub fn wait(mut self) -> i32 {
        let status = self.child.wait().unwrap_or_else(|error| panic!("cannot wait: {error}"));
        status.code().unwrap_or(-1)
    }

    /// Asks it to leave with SIGTERM; returns the exit code.
    pub fn leave(self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
