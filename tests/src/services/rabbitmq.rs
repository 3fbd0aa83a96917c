//! RabbitMQ: virtual hosts of the broker that runs here, and private brokers.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{free_port, listens, unique, wait_until};
use crate::process::{Outcome, run, send};
use crate::scratch::Scratch;

/// Where Debian has the programs themselves; those on PATH change to the broker's own user.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// Virtual hosts of the broker of this machine, removed when the value goes away.
pub struct Vhosts {
    names: Vec<String>,
}

impl Vhosts {
    /// `count` new ones, for the user `guest`.
    pub fn new(purpose: &str, count: usize) -> Self {
        let names: Vec<String> = (0..count).map(|_| unique(purpose)).collect();
        evaluate(&add_vhosts(&names)).expect_code(0);
        Self { names }
    }

    /// The address of one of them.
    pub fn url(&self, number: usize) -> String {
        format!("amqp://guest:guest@127.0.0.1:5672/{}", self.names[number])
    }
}

impl Drop for Vhosts {
    fn drop(&mut self) {
        let delete = |name: &String| format!("rabbit_vhost:delete(<<\"{name}\">>, <<\"test\">>)");
        let all: Vec<String> = self.names.iter().map(delete).collect();
        evaluate(&format!("{}.", all.join(", ")));
    }
}

/// The broker's programs take a second each: one call makes all.
fn add_vhosts(names: &[String]) -> String {
    let add = |name: &String| {
        format!(
            "rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>), rabbit_auth_backend_internal:set_permissions(\
             <<\"guest\">>, <<\"{name}\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>)"
        )
    };
    format!("{}.", names.iter().map(add).collect::<Vec<_>>().join(", "))
}

fn evaluate(expression: &str) -> Outcome {
    run(Command::new("rabbitmqctl").args(["--quiet", "eval", expression]))
}

/// A broker of one's own, killed when the value goes away. It listens on this machine only.
pub struct PrivateBroker {
    folder: Scratch,
    node: String,
    port: u16,
    tls_port: Option<u16>,
    running: Option<Child>,
}

impl PrivateBroker {
    /// Starts one.
    pub fn start(purpose: &str) -> Self {
        Self::start_with(purpose, None, "")
    }

    /// Starts one that also speaks TLS with the certificate of `tls`, with further lines of configuration.
    pub fn start_with(purpose: &str, tls: Option<&super::certificates::Certificates>, settings: &str) -> Self {
        let (folder, port) = (Scratch::new(purpose), free_port());
        let tls_port = tls.map(|_| free_port());
        let mut text = format!("loopback_users = none\nlisteners.tcp.1 = 127.0.0.1:{port}\n{settings}\n");
        if let (Some(tls), Some(tls_port)) = (tls, tls_port) {
            text += &format!(
                "listeners.ssl.1 = 127.0.0.1:{tls_port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\n",
                tls.authority().display(),
                tls.certificate().display(),
                tls.key().display()
            );
        }
        folder.file("rabbitmq.conf", text);
        folder.file("plugins", "[].");
        folder.file("environment.conf", "");
        let node = format!("{}@localhost", unique("rabbit"));
        let mut broker = Self { folder, node, port, tls_port, running: None };
        broker.start_again();
        broker
    }

    /// The address, for a user and virtual host.
    pub fn url(&self, user: &str, password: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// The address with TLS. The certificate is that of `localhost`.
    pub fn tls_url(&self) -> String {
        let port = self.tls_port.unwrap_or_else(|| panic!("this broker speaks no TLS"));
        format!("amqps://guest:guest@localhost:{port}")
    }

    /// Starts it anew with what it has on disk.
    pub fn start_again(&mut self) {
        let log = File::create(self.folder.join("out.log")).unwrap_or_else(|error| panic!("no log: {error}"));
        let errors = log.try_clone().unwrap_or_else(|error| panic!("no log: {error}"));
        let mut command = self.command("rabbitmq-server");
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        self.running = Some(command.spawn().unwrap_or_else(|error| panic!("cannot start rabbitmq-server: {error}")));
        let port = self.port;
        wait_until("the private broker did not listen", || listens(port));
        self.ctl(&["await_startup"]).expect_code(0);
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let group = Pid::from_child(&running);
            let _ = kill_process_group(group, Signal::KILL);
            let _ = running.wait();
        }
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.ctl(&["stop"]).expect_code(0);
        self.kill();
    }

    /// The process of the broker itself.
    pub fn pid(&self) -> Pid {
        let text = self.ctl_text(&["eval", "os:getpid()."]);
        let pid = text.trim().trim_matches('"').parse().ok().and_then(Pid::from_raw);
        pid.unwrap_or_else(|| panic!("no process id: {text}"))
    }

    /// Stops (`Signal::STOP`) or wakes (`Signal::CONT`) a broker.
    pub fn signal(pid: Pid, signal: Signal) {
        send(pid, signal);
    }

    /// Runs `rabbitmqctl` on it.
    pub fn ctl(&self, arguments: &[&str]) -> Outcome {
        run(self.command("rabbitmqctl").args(["--quiet", "-n", &self.node]).args(arguments))
    }

    fn ctl_text(&self, arguments: &[&str]) -> String {
        self.ctl(arguments).expect_code(0).text()
    }

    /// Names and lengths of the queues: ready, and delivered without an acknowledgement.
    pub fn queues(&self) -> String {
        self.ctl_text(&["list_queues", "name", "messages_ready", "messages_unacknowledged"])
    }

    fn command(&self, program: &str) -> Command {
        let path = |name: &str| -> PathBuf { self.folder.join(name) };
        let mut command = Command::new(format!("{PROGRAMS}/{program}"));
        command
            .env("HOME", self.folder.path())
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_SCHEMA_DIR", path("schema"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", path("environment.conf"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            // The nodes of one machine find each other by name; any free port will do.
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        self.kill();
    }
}
