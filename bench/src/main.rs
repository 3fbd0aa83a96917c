//! Paired timing: longshore beside stock restic on the same data, in turns, as ratios of medians.
//!
//! `cargo xtask bench [--pairs N] [--mib N] [--files N]`. The programs come from `LONGSHORE_BIN` and `LONGSHORE_RESTIC`.
//! Each pair runs one after the other; a figure is wall seconds, CPU seconds, and peak memory of the whole process.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a benchmark prints and takes the time")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

mod data;
mod measure;

use measure::{Figures, ratios, timed};

/// What is measured, on every data set.
const WORK: &[&str] = &["full", "unchanged", "check", "restore"];

struct Settings {
    pairs: usize,
    file_mib: u64,
    files: u64,
}

struct Programs {
    longshore: PathBuf,
    restic: PathBuf,
    password: PathBuf,
    folder: PathBuf,
}

fn main() -> Result<(), String> {
    let settings = settings(std::env::args().skip(1))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for the data: {error}"))?;
    let password = folder.path().join("password");
    fs::write(&password, "bench\n").map_err(|error| format!("write the password: {error}"))?;
    let programs = Programs {
        longshore: program("LONGSHORE_BIN", "target/release/longshore"),
        restic: program("LONGSHORE_RESTIC", "restic"),
        password,
        folder: folder.path().to_path_buf(),
    };
    println!("{:<22} {:<10} {:>22} {:>22} {:>22}", "data", "work", "wall ratio", "cpu ratio", "memory ratio");
    let tree = folder.path().join("tree");
    data::small_files(&tree, settings.files)?;
    compare(&programs, &settings, "small files", &tree)?;
    let large = folder.path().join("large");
    data::large_file(&large, settings.file_mib)?;
    compare(&programs, &settings, "one large file", &large)
}

fn settings(arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let mut settings = Settings { pairs: 5, file_mib: 2048, files: 60_000 };
    let words: Vec<String> = arguments.collect();
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(format!("{}: a number is missing", pair[0])) };
        let value: u64 = value.parse().map_err(|_| format!("{name}: {value:?} is no number"))?;
        match name.as_str() {
            "--pairs" => settings.pairs = value as usize,
            "--mib" => settings.file_mib = value,
            "--files" => settings.files = value,
            other => return Err(format!("{other} is not known: --pairs N, --mib N, --files N")),
        }
    }
    Ok(settings)
}

fn program(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from)
}

impl Programs {
    fn command(&self, is_ours: bool, repository: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(if is_ours { &self.longshore } else { &self.restic });
        command.arg("--repo").arg(repository).arg("--password-file").arg(&self.password).args(words);
        command.env("XDG_CACHE_HOME", self.folder.join(if is_ours { "cache-a" } else { "cache-b" }));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, is_ours: bool, repository: &Path, words: &[&str]) -> Result<Figures, String> {
        // What the run before left to be written must not count for this one.
        let _ = Command::new("sync").status();
        let started = Instant::now();
        timed(self.command(is_ours, repository, words), started).map_err(|error| format!("{words:?}: {error}"))
    }

    /// One round of all work of one program, with a fresh repository.
    fn round(&self, is_ours: bool, data: &Path) -> Result<Vec<Figures>, String> {
        let scratch = tempfile::tempdir_in(&self.folder).map_err(|error| format!("no scratch folder: {error}"))?;
        let repository = scratch.path().join("repository");
        let target = scratch.path().join("target");
        let (data, target) = (data.to_string_lossy(), target.to_string_lossy());
        self.run(is_ours, &repository, &["init"])?;
        Ok(vec![
            self.run(is_ours, &repository, &["backup", &data])?,
            self.run(is_ours, &repository, &["backup", &data])?,
            self.run(is_ours, &repository, &["check", "--read-data"])?,
            self.run(is_ours, &repository, &["restore", "latest", "--target", &target])?,
        ])
    }
}

fn compare(programs: &Programs, settings: &Settings, name: &str, data: &Path) -> Result<(), String> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    programs.round(true, data)?; // warms the page cache, for both
    for _ in 0..settings.pairs {
        ours.push(programs.round(true, data)?);
        theirs.push(programs.round(false, data)?);
    }
    for (at, work) in WORK.iter().enumerate() {
        let pairs = ours.iter().zip(&theirs).map(|(ours, theirs)| (ours[at], theirs[at])).collect::<Vec<_>>();
        println!("{name:<22} {work:<10} {}", ratios(&pairs));
    }
    Ok(())
}
