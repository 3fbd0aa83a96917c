//! The processes of a fleet: coordinators and workers, as `longshore` starts them, on a broker and a Redis of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::azurite::{Azurite, key_text, longshore_at};
use crate::cli::Longshore;
use crate::process::{Outcome, send};
use crate::restic::{PASSWORD, Restic};
use crate::scratch::Scratch;
use crate::services::rabbitmq::Vhosts;
use crate::services::redis::PrivateRedis;

/// So many characters of a log are shown.
const LOG_SHOWN: usize = 6_000;

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
    /// The broker's address.
    pub amqp: String,
    _vhosts: Option<Vhosts>,
}

/// Where the repository of a fleet in the emulator is.
pub const AZURE_REPOSITORY: &str = "azure:box:/fleet";
/// The same for rclone.
const RCLONE_PATH: &str = "box/fleet";

/// One process of the fleet. Killed when the value goes away.
pub struct Process {
    child: Child,
    log: Option<PathBuf>,
}

impl Fleet {
    /// A new one.
    pub fn new(purpose: &str) -> Self {
        let vhosts = Vhosts::new(purpose, 1);
        let amqp = vhosts.url(0);
        Self { _vhosts: Some(vhosts), ..Self::at_broker(purpose, &amqp) }
    }

    /// A new one on the broker at `amqp`.
    pub fn at_broker(purpose: &str, amqp: &str) -> Self {
        let scratch = Scratch::new(purpose);
        let restic = Restic::quick(scratch.path());
        let member = Longshore::with_repository(restic.repository(), restic.password_file());
        Self::over(purpose, amqp, scratch, restic, member)
    }

    /// A new one whose repository is in the emulator. Its processes reach that at `endpoint`, the oracle does so without
    /// detours.
    pub fn in_azure(purpose: &str, azurite: &Azurite, endpoint: &str) -> Self {
        let scratch = Scratch::new(purpose);
        let password_file = scratch.file("password", PASSWORD);
        let restic = azurite.restic(RCLONE_PATH, &password_file);
        let member = longshore_at(endpoint, AZURE_REPOSITORY, &password_file);
        let member = member.variable("AZURE_ACCOUNT_KEY", &key_text());
        let vhosts = Vhosts::new(purpose, 1);
        let amqp = vhosts.url(0);
        let fleet = Self { _vhosts: Some(vhosts), ..Self::over(purpose, &amqp, scratch, restic, member) };
        fleet.member.run(["init"]).expect_code(0);
        fleet
    }

    /// A new one in `scratch` over the repository that `restic` and `member` know.
    pub fn over(purpose: &str, amqp: &str, scratch: Scratch, restic: Restic, member: Longshore) -> Self {
        let redis = PrivateRedis::start(purpose, &[]);
        let services = |longshore: Longshore| {
            longshore.variable("LONGSHORE_AMQP_URL", amqp).variable("LONGSHORE_REDIS_URL", &redis.url(""))
        };
        // Tasks of a few entries: what takes a fleet a day shall happen here in seconds.
        let client = services(Longshore::new()).budget(20, 4 << 20, 1 << 30, 1 << 30);
        let member = services(member);
        Self { scratch, restic, redis, client, member, amqp: amqp.to_owned(), _vhosts: None }
    }

    /// Other partitions than tiny ones; see [`Longshore::budget`].
    pub fn budget(mut self, entries: u64, bytes: u64, threshold: u64, range: u64) -> Self {
        self.client = self.client.budget(entries, bytes, threshold, range);
        self
    }

    /// Starts a coordinator.
    pub fn coordinator(&self, arguments: &[&str]) -> Process {
        self.start("coordinator", arguments)
    }

    /// Starts a worker that reads and restores below the fleet's folder.
    pub fn worker(&self, arguments: &[&str]) -> Process {
        let folder = self.path("");
        let words = [&["--slots", "2", "--root", &folder, "--restore-root", &folder], arguments].concat();
        self.start("worker", &words)
    }

    fn start(&self, what: &str, arguments: &[&str]) -> Process {
        Process::start(&mut self.command(what, arguments))
    }

    /// A process of the fleet that is not started yet, for tests that change something about it.
    pub fn command(&self, what: &str, arguments: &[&str]) -> Command {
        let mut command: Command = self.member.command();
        command.current_dir(self.scratch.path()).arg(what).args(arguments);
        // What it says goes where the test's own output goes.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        command
    }

    /// Starts `command`, a process of the fleet that the caller made ready. What it says goes into a file called `name`,
    /// and is shown if the test fails.
    pub fn start_logged(&self, name: &str, mut command: Command) -> Process {
        let log = self.scratch.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        command.current_dir(self.scratch.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Process { child, log: Some(log) }
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
    /// Starts one.
    pub fn start(command: &mut Command) -> Self {
        let shown = crate::process::describe(command);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        Self { child, log: None }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut does.
    pub fn kill(mut self) {
        self.child.kill().unwrap_or_else(|error| panic!("cannot kill: {error}"));
        self.child.wait().unwrap_or_else(|error| panic!("cannot wait: {error}"));
    }

    /// What it said so far, if that is kept.
    pub fn log(&self) -> String {
        let Some(log) = &self.log else { return String::new() };
        std::fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
        send(pid, signal);
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
    #[allow(clippy::disallowed_macros, reason = "a test that fails shows what its processes said")]
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(log) = &self.log
        {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let cut = text.char_indices().rev().nth(LOG_SHOWN).map_or(0, |(at, _)| at);
            eprintln!("{}:\n{}", log.display(), &text[cut..]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
