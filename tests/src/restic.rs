//! Stock restic, the oracle: what it writes is right by definition, what it accepts is a repository.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fleet::rand::SystemRandom;
use repository::format::key::{KeyOwner, ScryptParameters};
use repository::repository::Repository;
use repository::storage::Local;
use serde_json::Value;

use crate::process::{self, Outcome};

/// The password of every test repository.
pub const PASSWORD: &str = "correct horse battery staple";

/// Since 0.18 trees are the same as today's.
const OLDEST: (u32, u32) = (0, 18);

/// One repository seen through stock restic.
#[derive(Clone, Debug)]
pub struct Restic {
    binary: PathBuf,
    repository: PathBuf,
    password_file: PathBuf,
    cache: PathBuf,
    variables: Vec<(String, String)>,
}

/// A finished `restic backup`.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The snapshot's id, 64 hex digits.
    pub snapshot: String,
    /// The id of its root tree.
    pub tree: String,
    /// The JSON line with the counts.
    pub summary: Value,
}

impl Backup {
    /// A count of the summary, such as `data_blobs`.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        self.summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {}", self.summary))
    }
}

impl Restic {
    /// An existing or coming repository with the password in a file.
    pub fn at(repository: &Path, password_file: &Path) -> Self {
        let cache = repository.with_extension("cache");
        let (repository, password_file) = (repository.to_path_buf(), password_file.to_path_buf());
        Self { binary: binary(), repository, password_file, cache, variables: Vec::new() }
    }

    /// A repository that is not in a folder: `location` in restic's notation, and the variables that reaching it takes.
    pub fn elsewhere(location: &str, password_file: &Path, variables: Vec<(String, String)>) -> Self {
        let cache = password_file.with_extension("cache");
        Self { cache, variables, ..Self::at(Path::new(location), password_file) }
    }

    /// A new repository `repository` in `folder`, with `password` beside it, as restic makes it.
    pub fn init(folder: &Path) -> Self {
        let restic = Self::in_folder(folder);
        restic.run(["init"]).expect_code(0);
        restic
    }

    /// The same with a key on which a password is tried in no time: each of the many programs of a test would take half
    /// a second of CPU for that.
    pub fn quick(folder: &Path) -> Self {
        let restic = Self::in_folder(folder);
        make_quick_repository(restic.repository());
        restic
    }

    fn in_folder(folder: &Path) -> Self {
        let password_file = folder.join("password");
        std::fs::write(&password_file, PASSWORD).unwrap_or_else(|error| panic!("{}: {error}", password_file.display()));
        Self::at(&folder.join("repository"), &password_file)
    }

    /// Where the repository is.
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// The file that holds its password.
    pub fn password_file(&self) -> &Path {
        &self.password_file
    }

    /// What the binary says of itself.
    pub fn version(&self) -> String {
        self.run(["version"]).expect_code(0).text().trim().to_owned()
    }

    /// A command with nothing of the caller's environment but PATH: no cache, in UTC.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        self.dress(&mut command);
        command
    }

    /// The binary, for a command that starts through another one (`MountPlan::command`); see [`Restic::dress`].
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Gives any command restic's environment for this repository.
    pub fn dress(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("TZ", "UTC").env("HOME", "/nonexistent");
        command.env("RESTIC_REPOSITORY", &self.repository).env("RESTIC_PASSWORD_FILE", &self.password_file);
        command.env("RESTIC_CACHE_DIR", &self.cache).envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Runs to the end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        process::run(self.command().args(arguments))
    }

    /// Backs up `targets`, seen from `folder`, with further arguments.
    #[track_caller]
    pub fn backup<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: &[&str],
        targets: impl IntoIterator<Item = S>,
    ) -> Backup {
        self.backup_in("UTC", folder, arguments, targets)
    }

    /// The same in a time zone.
    #[track_caller]
    pub fn backup_in<S: AsRef<OsStr>>(
        &self,
        zone: &str,
        folder: &Path,
        arguments: &[&str],
        targets: impl IntoIterator<Item = S>,
    ) -> Backup {
        let mut command = self.command();
        command.env("TZ", zone).current_dir(folder).args(["backup", "--json"]).args(arguments).args(targets);
        self.backed_up(&process::run(&mut command).expect_code(0))
    }

    /// Reads a finished `backup --json`.
    #[track_caller]
    pub fn backed_up(&self, outcome: &Outcome) -> Backup {
        let summary = outcome.message("summary");
        let snapshot = summary["snapshot_id"].as_str().unwrap_or_else(|| panic!("no snapshot in {summary}")).to_owned();
        Backup { tree: self.tree_of(&snapshot), snapshot, summary }
    }

    /// The id of a snapshot's root tree.
    #[track_caller]
    pub fn tree_of(&self, snapshot: &str) -> String {
        let text = self.cat(&["snapshot", snapshot]);
        let snapshot: Value = serde_json::from_slice(&text).expect("a snapshot is JSON");
        snapshot["tree"].as_str().expect("a snapshot has a tree").to_owned()
    }

    /// `restic cat`: the bytes of an object.
    #[track_caller]
    pub fn cat(&self, what: &[&str]) -> Vec<u8> {
        self.run([&["cat", "--no-lock"], what].concat()).expect_code(0).stdout
    }

    /// A tree by its id or by `SNAPSHOT:PATH`, as JSON.
    #[track_caller]
    pub fn tree(&self, name: &str) -> Value {
        serde_json::from_slice(&self.cat(&["tree", name])).expect("a tree is JSON")
    }

    /// The nodes of a snapshot.
    #[track_caller]
    pub fn list(&self, snapshot: &str) -> Vec<Value> {
        let lines = self.run(["ls", "--json", snapshot]).expect_code(0).json_lines();
        lines.into_iter().filter(|line| line["struct_type"] == "node").collect()
    }

    /// All snapshots.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<Value> {
        let outcome = self.run(["snapshots", "--json", "--no-lock"]).expect_code(0);
        let list: Value = serde_json::from_slice(&outcome.stdout).expect("a list of snapshots");
        list.as_array().cloned().unwrap_or_default()
    }

    /// Structure and every byte; panics with restic's words unless it is clean.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.run(["check", "--read-data"]).expect_code(0);
    }

    /// Restores `SNAPSHOT[:PATH]`.
    #[track_caller]
    pub fn restore(&self, name: &str, target: &Path) {
        process::run(self.command().args(["restore", name, "--target"]).arg(target)).expect_code(0);
    }

    /// Ids of the files of a kind: `packs`, `index`, `blobs`, `keys`, `locks`.
    #[track_caller]
    pub fn ids(&self, kind: &str) -> Vec<String> {
        let outcome = self.run(["list", "--no-lock", kind]).expect_code(0);
        outcome.text().lines().map(str::to_owned).collect()
    }
}

/// The binary: `LONGSHORE_RESTIC` (set by `cargo xtask test`), else where `cargo xtask services` puts one, else PATH.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("LONGSHORE_RESTIC") {
        return PathBuf::from(named);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let mut folders = vec![PathBuf::from("/usr/local/lib/longshore")];
    folders.extend(cache.map(|cache| cache.join("longshore/tools")));
    let unpacked =
        folders.iter().flat_map(std::fs::read_dir).flatten().flatten().map(|entry| entry.path().join("restic"));
    let candidates = unpacked.chain([PathBuf::from("restic")]);
    candidates
        .filter(|path| version_of(path).is_some_and(|version| version >= OLDEST))
        .max_by_key(|path| version_of(path))
        .unwrap_or_else(|| panic!("no restic {}.{} or newer: run `cargo xtask services`", OLDEST.0, OLDEST.1))
}

fn version_of(binary: &Path) -> Option<(u32, u32)> {
    let output = Command::new(binary).arg("version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.strip_prefix("restic ")?.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// On a thread of its own: the test may be in a runtime already.
fn make_quick_repository(folder: &Path) {
    let made = std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (storage, random) = (Arc::new(Local::new(folder)), Arc::new(SystemRandom));
            let cost = ScryptParameters { n: 16, r: 1, p: 1 };
            let owner = KeyOwner { created: "2026-01-02T03:04:05Z".to_owned(), ..KeyOwner::default() };
            let made = Repository::init_with_cost(storage, PASSWORD.as_bytes(), owner, cost, random);
            runtime.block_on(made).map(|_| ())
        });
        making.join().expect("no panic")
    });
    made.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}
