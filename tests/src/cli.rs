//! The built `longshore`, run in an environment of its own: no variable, file or cache of the machine's user.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::process::{self, Outcome};
use crate::scratch::Scratch;

/// Longest run of one command in a test; a command that hangs ends with 124.
const LIMIT_SECONDS: u32 = 600;

/// An environment in which `longshore` runs.
#[derive(Debug)]
pub struct Longshore {
    binary: PathBuf,
    home: Scratch,
    variables: Vec<(String, String)>,
    limit_seconds: u32,
}

/// A finished `longshore backup --json`.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// The id of its root tree.
    pub tree: String,
    /// The summary line.
    pub summary: Value,
}

impl Backup {
    /// A count of the summary, such as `data_blobs`, `tree_blobs`, `packs`, `files_new`, `data_added`.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        self.summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {}", self.summary))
    }

    /// Partitions of a kind: `subtree`, `name_range`, `byte_range`.
    #[track_caller]
    pub fn partitions(&self, kind: &str) -> u64 {
        self.summary["partitions"][kind].as_u64().unwrap_or_else(|| panic!("no partitions.{kind} in {}", self.summary))
    }

    /// Seams of a kind: `matched`, `redone`.
    #[track_caller]
    pub fn seams(&self, kind: &str) -> u64 {
        self.summary["seams"][kind].as_u64().unwrap_or_else(|| panic!("no seams.{kind} in {}", self.summary))
    }

    /// How many workers finished at least one partition.
    pub fn workers_that_finished(&self) -> Option<usize> {
        let by_worker = self.summary["partitions"]["by_worker"].as_object()?;
        Some(by_worker.values().filter(|count| count.as_u64() > Some(0)).count())
    }

    /// Chunks that were stored before a seam's shared cut and belong to no file: the one thing restic does not store.
    pub fn chunks_before_seams(&self) -> u64 {
        self.summary["seams"]["surplus_blobs"].as_u64().unwrap_or(0)
    }
}

impl Longshore {
    /// A fresh home.
    #[allow(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self { binary: binary(), home: Scratch::new("home"), variables: Vec::new(), limit_seconds: LIMIT_SECONDS }
    }

    /// With a repository and its password for every command.
    pub fn with_repository(repository: &Path, password_file: &Path) -> Self {
        let text = |path: &Path| path.to_str().expect("repositories of tests have plain names").to_owned();
        Self::new()
            .variable("LONGSHORE_REPOSITORY", &text(repository))
            .variable("LONGSHORE_PASSWORD_FILE", &text(password_file))
    }

    /// Sets a variable for every command that follows.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(present, _)| present != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another environment, with a fresh home and one more variable.
    pub fn clone_with(&self, name: &str, value: &str) -> Self {
        let variables = self.variables.clone();
        Self { variables, limit_seconds: self.limit_seconds, ..Self::new() }.variable(name, value)
    }

    /// Small partitions: so many entries and bytes a task, files above `threshold` in ranges of `range`.
    pub fn budget(self, entries: u64, bytes: u64, threshold: u64, range: u64) -> Self {
        self.variable("LONGSHORE_BUDGET_ENTRIES", &entries.to_string())
            .variable("LONGSHORE_BUDGET_BYTES", &bytes.to_string())
            .variable("LONGSHORE_RANGE_THRESHOLD", &threshold.to_string())
            .variable("LONGSHORE_RANGE_SIZE", &range.to_string())
    }

    /// Another limit than ten minutes for the commands that follow.
    pub fn limit_seconds(mut self, seconds: u32) -> Self {
        self.limit_seconds = seconds;
        self
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Gives any command this environment.
    pub fn dress(&self, command: &mut Command) {
        let home = self.home.path();
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("TZ", "UTC").env("LANG", "C.UTF-8").env("NO_COLOR", "1");
        command.env("HOME", home).env("XDG_DATA_HOME", home.join("data")).env("XDG_CONFIG_HOME", home.join("config"));
        command.env("XDG_CACHE_HOME", home.join("cache")).env("XDG_STATE_HOME", home.join("state"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).current_dir(home);
    }

    /// The bare command, for tests that stop or kill it; the caller adds arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        self.dress(&mut command);
        command
    }

    /// Runs to its end or to the limit (then the code is 124).
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        self.run_in(self.home.path(), arguments)
    }

    /// The same with `folder` as working directory.
    pub fn run_in<S: AsRef<OsStr>>(&self, folder: &Path, arguments: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &self.limit_seconds.to_string()]).arg(&self.binary).args(arguments);
        self.dress(&mut command);
        process::run(command.current_dir(folder))
    }

    /// Starts without waiting, outputs piped.
    pub fn start<S: AsRef<OsStr>>(&self, folder: &Path, arguments: impl IntoIterator<Item = S>) -> Child {
        let mut command = self.command();
        command.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.binary.display()))
    }

    /// Backs up `targets`, seen from `folder`, with further arguments; must end with 0.
    #[track_caller]
    pub fn backup<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: &[&str],
        targets: impl IntoIterator<Item = S>,
    ) -> Backup {
        let mut words: Vec<&OsStr> = vec![OsStr::new("backup"), OsStr::new("--json")];
        words.extend(arguments.iter().map(OsStr::new));
        let targets: Vec<S> = targets.into_iter().collect();
        words.extend(targets.iter().map(AsRef::as_ref));
        Self::backed_up(&self.run_in(folder, words).expect_code(0))
    }

    /// Reads a finished `backup --json`.
    #[track_caller]
    pub fn backed_up(outcome: &Outcome) -> Backup {
        let summary = outcome.message("summary");
        let field = |name: &str| summary[name].as_str().unwrap_or_else(|| panic!("no {name} in {summary}")).to_owned();
        Backup { snapshot: field("snapshot_id"), tree: field("tree"), summary: summary.clone() }
    }
}

/// The binary: `LONGSHORE_BIN` (set by `cargo xtask test`), else the newest of the target folder that this test is in.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("LONGSHORE_BIN") {
        return PathBuf::from(named);
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    let built =
        own.ancestors().flat_map(|folder| ["release/longshore", "debug/longshore"].map(|name| folder.join(name)));
    let newest =
        built.filter(|path| path.is_file()).max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    newest.unwrap_or_else(|| panic!("longshore is not built: run `cargo xtask test e2e`"))
}
