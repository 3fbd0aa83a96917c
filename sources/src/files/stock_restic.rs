//! For tests: what stock restic makes of the same arguments, and what we make of them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use data_encoding::BASE64;
use tempfile::TempDir;

use super::FileSource;
use super::exclude::{ExcludeRules, Excludes};
use super::targets::{self, TargetError, TargetNode, TargetPlace};
use crate::paths;
use crate::source::{FileKind, Metadata, Source};

/// Names the program; without it, what PATH has.
const VARIABLE: &str = "LONGSHORE_RESTIC";

/// A repository whose key takes no time to try a password on (scrypt with N = 16): each of the many runs of restic would
/// take half a second for that. Made by `Repository::init_with_cost`.
const CONFIG: &str = "JvuMEaglhRXXKeGVNRS7WY6Zexgs3UaLMeuhC2oh+wVQsf8usLZHhkt0QQ+D0Xhg1vZHBGCI53MkHvn5o7kl9im7nDT2CNSTt79G\
    77qu0WuDWGFVZZ13CVZqnFP5PR22y0AtHdO2BSIG9aG6eGMs56yWg2PGJoUWyAvEbHn0N2TCAmv0kjYkg3x/I4u2r+pPlMEz2Jz8\
    WSwJQ9Q=";
const KEY_ID: &str = "38fe66e96e72ea6119fc94592723605feb30bdcc87bfa8d97008732565aafadb";
const KEY: &str = "{\"created\":\"2026-01-02T03:04:05Z\",\"username\":\"\",\"hostname\":\"\",\"kdf\":\"scrypt\",\"N\":1\
    6,\"r\":1,\"p\":1,\"salt\":\"iZGDKXfD3Uowpx8+RGdMGKx7VQaBRu8L4lScoKsZAu6kPQV2FO+K/rBmC6fr6nkoGhyjNT/\
    OP4Mr9iy+LUb49w==\",\"data\":\"Yzqv1YsK545XAcITtUshFgcY/SY2+/CNxBXKiin7agwjYGFyVcaKFibL+Q3hoMhuPE7kS\
    Q1li3XGtp9Kfhg2qWOZAtRVd+Sm83AR/6k9iC1gCc6/i9qC3YoN4Y/orBLmilMRWuqK6PAPti2Z6kI9LOqttJWpMw012rXttJARQ\
    bRgqWXkkW7FT0l4V1PgNRjuGY+xw8Hl1HlpKfCrWNxcRA==\"}";
const PASSWORD: &str = "correct horse battery staple";

/// A directory to make files in, beside a repository of stock restic.
pub(super) struct StockRestic {
    directory: TempDir,
}

/// One entry of a snapshot: path, restic's type, inode (which tells links from what they point at).
type Line = (String, String, u64);

impl StockRestic {
    pub(super) fn new() -> Self {
        let stock = Self { directory: tempfile::Builder::new().prefix("stock").tempdir().unwrap() };
        std::fs::create_dir(stock.base()).unwrap();
        let repository = stock.directory.path().join("repository");
        std::fs::create_dir_all(repository.join("keys")).unwrap();
        std::fs::write(repository.join("keys").join(KEY_ID), KEY).unwrap();
        std::fs::write(repository.join("config"), BASE64.decode(CONFIG.as_bytes()).unwrap()).unwrap();
        stock
    }

    /// Where the test makes its files.
    pub(super) fn base(&self) -> PathBuf {
        self.directory.path().join("base")
    }

    fn restic(&self, current_directory: PathBuf, arguments: &[OsString]) -> Output {
        let program = std::env::var_os(VARIABLE).unwrap_or_else(|| "restic".into());
        Command::new(&program)
            .arg("--no-cache")
            .arg("--repo")
            .arg(self.directory.path().join("repository"))
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("PWD", &current_directory)
            .current_dir(current_directory)
            .output()
            .unwrap_or_else(|error| {
                let program = program.display();
                panic!("{program}: {error}. `cargo xtask test unit` installs it, or name one with {VARIABLE}")
            })
    }

    /// The nodes of `directory` (below the base) as stock restic stores them.
    pub(super) fn nodes(&self, directory: &str) -> Vec<serde_json::Value> {
        let outcome = self.stock(&self.base(), &[directory.as_bytes().to_vec()], &[]);
        assert!(matches!(outcome, Outcome::Tree { is_complete: true, .. }), "{outcome:?}");
        // `cat` does not know `latest`.
        let snapshots = self.restic(self.base(), &["snapshots".into(), "--json".into()]);
        let snapshots: serde_json::Value = serde_json::from_slice(&snapshots.stdout).unwrap();
        let snapshot = snapshots.as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
        let tree = self.restic(self.base(), &["cat".into(), "tree".into(), format!("{snapshot}:/{directory}").into()]);
        let tree: serde_json::Value = serde_json::from_slice(&tree.stdout).unwrap();
        tree["nodes"].as_array().unwrap().clone()
    }

    /// Compares tree, snapshot paths and whether something was missing. `options` are restic's, `rules`
    /// the same as ours. `current_directory` and arguments are relative to the base; `@` in front of an
    /// argument stands for the base's absolute path.
    pub(super) fn compare(&self, current_directory: &str, arguments: &[&str], options: &[&str], rules: &ExcludeRules) {
        let name = format!("{current_directory}: {arguments:?} {options:?}");
        let base = self.base().into_os_string().into_vec();
        let arguments: Vec<Vec<u8>> = arguments
            .iter()
            .map(|argument| match argument.strip_prefix('@') {
                Some(rest) => [&base[..], rest.as_bytes()].concat(),
                None => argument.as_bytes().to_vec(),
            })
            .collect();
        let current_directory = self.base().join(current_directory);
        let stock = self.stock(&current_directory, &arguments, options);
        let ours = ours(&current_directory, &arguments, rules);
        assert_eq!(ours, stock, "{name}");
    }

    fn stock(&self, current_directory: &Path, arguments: &[Vec<u8>], options: &[&str]) -> Outcome {
        let mut command: Vec<OsString> = vec!["backup".into(), "--json".into(), "--force".into()];
        command.extend(options.iter().map(OsString::from));
        command.push("--".into());
        command.extend(arguments.iter().cloned().map(OsString::from_vec));
        let output = self.restic(current_directory.to_path_buf(), &command);
        let code = output.status.code();
        if code == Some(1) {
            return Outcome::Nothing;
        }
        assert!(matches!(code, Some(0 | 3)), "{code:?} {}", String::from_utf8_lossy(&output.stderr));
        let listing = self.restic(current_directory.to_path_buf(), &["ls".into(), "--json".into(), "latest".into()]);
        let lines: Vec<serde_json::Value> =
            listing.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let snapshot_paths = lines[0]["paths"].as_array().unwrap().iter().map(text).collect();
        let line =
            |line: &serde_json::Value| (text(&line["path"]), text(&line["type"]), line["inode"].as_u64().unwrap());
        Outcome::Tree { is_complete: code == Some(0), snapshot_paths, lines: lines[1..].iter().map(line).collect() }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    Tree { is_complete: bool, snapshot_paths: Vec<String>, lines: Vec<Line> },
}

fn ours(current_directory: &Path, arguments: &[Vec<u8>], rules: &ExcludeRules) -> Outcome {
    let source = FileSource::whole_host();
    let targets = match targets::resolve(&source, arguments, current_directory.as_os_str().as_bytes()) {
        Ok(targets) => targets,
        Err(TargetError::NothingThere { .. }) => return Outcome::Nothing,
        Err(error) => panic!("{error:?}"),
    };
    let devices = if rules.one_file_system { targets::devices(&source, &targets.roots).unwrap() } else { Vec::new() };
    let excludes = Excludes::compile(rules, devices).unwrap();
    let mut walk = Walk { source: &source, excludes: &excludes, lines: Vec::new() };
    walk.nodes(&targets.tree.entries, "");
    if walk.lines.is_empty() {
        return Outcome::Nothing;
    }
    let text = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
    let snapshot_paths = targets.snapshot_paths.iter().map(text).collect();
    Outcome::Tree { is_complete: targets.problems.is_empty(), snapshot_paths, lines: walk.lines }
}

/// A small archiver: the way a worker uses targets, excludes and the door.
struct Walk<'a> {
    source: &'a dyn Source,
    excludes: &'a Excludes,
    lines: Vec<Line>,
}

impl Walk<'_> {
    fn nodes(&mut self, nodes: &[TargetNode], above: &str) {
        for node in nodes {
            let in_snapshot = format!("{above}/{}", str::from_utf8(&node.name).unwrap());
            match &node.place {
                TargetPlace::Above { real_path, entries } => {
                    let metadata = self.source.metadata(real_path).unwrap();
                    self.lines.push((in_snapshot.clone(), "dir".to_owned(), metadata.inode));
                    self.nodes(entries, &in_snapshot);
                }
                TargetPlace::Target { path, real_path, is_explicit: true } => {
                    let Ok(metadata) = self.source.metadata(real_path) else { continue };
                    self.entry(&in_snapshot, path, real_path, &metadata);
                }
                TargetPlace::Target { path, real_path, is_explicit: false } => {
                    let (directory, name) = paths::split_last(real_path).unwrap();
                    let device = self.source.metadata(directory).unwrap().device;
                    let tags = self.excludes.inspect_directory(self.source, directory);
                    let is_left_out = self.excludes.rejects_path(path) || tags.rejects(name);
                    let Ok(metadata) = self.source.metadata(real_path) else { continue };
                    if !is_left_out && !self.excludes.rejects_entry(path, &metadata, device) {
                        self.entry(&in_snapshot, path, real_path, &metadata);
                    }
                }
            }
        }
    }

    fn entry(&mut self, in_snapshot: &str, path: &[u8], real_path: &[u8], metadata: &Metadata) {
        let kind = match metadata.kind {
            FileKind::Directory => "dir",
            FileKind::Symlink => "symlink",
            FileKind::Fifo => "fifo",
            FileKind::Socket => return,
            _ => "file",
        };
        self.lines.push((in_snapshot.to_owned(), kind.to_owned(), metadata.inode));
        if metadata.kind != FileKind::Directory {
            return;
        }
        let tags = self.excludes.inspect_directory(self.source, real_path);
        let names = self.source.list(real_path).unwrap();
        let range = names.range(0, names.len());
        for (name, below) in range.iter().zip(self.source.metadata_of(real_path, &range).unwrap()) {
            let path = paths::child(path, name);
            let below = below.unwrap();
            if !self.excludes.rejects_path(&path)
                && !tags.rejects(name)
                && !self.excludes.rejects_entry(&path, &below, metadata.device)
            {
                let in_snapshot = format!("{in_snapshot}/{}", str::from_utf8(name).unwrap());
                self.entry(&in_snapshot, &path, &paths::child(real_path, name), &below);
            }
        }
    }
}
