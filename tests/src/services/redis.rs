//! Redis: key prefixes of the server that runs here, and private servers.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

use super::{free_port, listens, unique, wait_until};
use crate::process::{run, send};
use crate::scratch::Scratch;

const HERE: u16 = 6379;

/// A part of the server of this machine, emptied when the value goes away.
pub struct Prefix {
    prefix: String,
}

impl Prefix {
    /// A new one.
    pub fn new(purpose: &str) -> Self {
        Self { prefix: unique(purpose) }
    }

    /// What its keys begin with.
    pub fn as_str(&self) -> &str {
        &self.prefix
    }

    /// The server's address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{HERE}")
    }

    /// Its keys, each with the seconds that it has left to live; -1: for ever.
    pub fn keys(&self) -> Vec<(String, i64)> {
        keys(HERE, &format!("{}*", self.prefix))
    }

    /// Runs a command on the server; returns the answer.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(HERE, arguments)
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let names: Vec<String> = self.keys().into_iter().map(|(name, _)| name).collect();
        for names in names.chunks(500) {
            cli(HERE, &["UNLINK"].into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>());
        }
    }
}

fn cli(port: u16, arguments: &[&str]) -> String {
    let outcome = run(Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments)).expect_code(0);
    outcome.text()
}

fn keys(port: u16, pattern: &str) -> Vec<(String, i64)> {
    // One call: a process for each key would take minutes.
    let script = "local found, cursor = {}, '0'
        repeat
          local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
          cursor = page[1]
          for _, key in ipairs(page[2]) do found[#found + 1] = redis.call('TTL', key) .. ' ' .. key end
        until cursor == '0'
        return found";
    let text = cli(port, &["--raw", "EVAL", script, "0", pattern]);
    text.lines().filter_map(|line| line.split_once(' ')).map(|(ttl, key)| (key.to_owned(), seconds(ttl))).collect()
}

fn seconds(ttl: &str) -> i64 {
    ttl.parse().unwrap_or_else(|error| panic!("not a time to live: {ttl}: {error}"))
}

/// A server of one's own that keeps nothing on disk, killed when the value goes away.
pub struct PrivateRedis {
    folder: Scratch,
    port: u16,
    tls_port: Option<u16>,
    arguments: Vec<String>,
    running: Option<Child>,
}

impl PrivateRedis {
    /// Starts one, with further options such as `["--requirepass", "secret"]`.
    pub fn start(purpose: &str, options: &[&str]) -> Self {
        Self::start_with(purpose, None, options)
    }

    /// Starts one that also speaks TLS with the certificate of `tls`.
    pub fn start_with(purpose: &str, tls: Option<&super::certificates::Certificates>, options: &[&str]) -> Self {
        let (folder, port, tls_port) = (Scratch::new(purpose), free_port(), tls.map(|_| free_port()));
        let mut arguments: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        if let (Some(tls), Some(tls_port)) = (tls, tls_port) {
            let of = |path: std::path::PathBuf| path.display().to_string();
            arguments.extend(["--tls-port".to_owned(), tls_port.to_string()]);
            arguments.extend(["--tls-cert-file".to_owned(), of(tls.certificate())]);
            arguments.extend(["--tls-key-file".to_owned(), of(tls.key())]);
            arguments.extend(["--tls-ca-cert-file".to_owned(), of(tls.authority())]);
            arguments.extend(["--tls-auth-clients".to_owned(), "no".to_owned()]);
        }
        let mut server = Self { folder, port, tls_port, arguments, running: None };
        server.start_again();
        server
    }

    /// The address; `user_and_password` such as `:secret@`.
    pub fn url(&self, user_and_password: &str) -> String {
        format!("redis://{user_and_password}127.0.0.1:{}", self.port)
    }

    /// Where it listens without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address with TLS. The certificate is that of `localhost`.
    pub fn tls_url(&self) -> String {
        let port = self.tls_port.unwrap_or_else(|| panic!("this server speaks no TLS"));
        format!("rediss://localhost:{port}")
    }

    /// Starts it anew, empty.
    pub fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        self.running = Some(command.spawn().unwrap_or_else(|error| panic!("cannot start redis-server: {error}")));
        let port = self.port;
        wait_until("the private Redis did not listen", || listens(port));
    }

    /// Ends it; what it had is gone.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.kill();
            let _ = running.wait();
        }
    }

    /// Stops (`Signal::STOP`) or wakes (`Signal::CONT`) it.
    pub fn signal(&self, signal: Signal) {
        let Some(running) = &self.running else { panic!("the private Redis does not run") };
        send(Pid::from_child(running), signal);
    }

    /// Runs a command on it; returns the answer.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, arguments)
    }

    /// The same with options of `redis-cli`, such as `["-a", "secret"]`.
    pub fn cli_with(&self, options: &[&str], arguments: &[&str]) -> String {
        cli(self.port, &[options, arguments].concat())
    }

    /// Its keys, each with the seconds that it has left to live; -1: for ever.
    pub fn keys(&self) -> Vec<(String, i64)> {
        keys(self.port, "*")
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.kill();
    }
}
