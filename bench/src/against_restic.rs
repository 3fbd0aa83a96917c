//! Paired timing: longshore beside stock restic on the same data, in turns, as ratios of medians.
//!
//! `cargo xtask bench [--pairs N] [--mib N] [--files N | --tree DIR]`. The programs come from `LONGSHORE_BIN` and
//! `LONGSHORE_RESTIC`. Each pair runs one after the other, and who is first changes from pair to pair; a figure is wall
//! seconds, CPU seconds, and peak memory of the whole process. The lines `of PROGRAM` are the unchanged run of that program
//! against its own full one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::arguments::Arguments;
use crate::data;
use crate::figures::{Figures, ratios, timed};

/// What is measured, on every data set.
const WORK: &[&str] = &["full", "unchanged", "check", "restore"];

struct Settings {
    pairs: usize,
    file_mib: u64,
    files: u64,
    /// Real files in place of made ones.
    tree: Option<PathBuf>,
}

struct Programs {
    longshore: PathBuf,
    restic: PathBuf,
    password: PathBuf,
    folder: PathBuf,
}

/// Measures and prints.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::parse(words)?;
    let settings = Settings {
        pairs: arguments.number("--pairs", 5)? as usize,
        file_mib: arguments.number("--mib", 2048)?,
        files: arguments.number("--files", 60_000)?,
        tree: arguments.text("--tree").map(PathBuf::from),
    };
    arguments.end()?;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for the data: {error}"))?;
    let password = folder.path().join("password");
    fs::write(&password, "bench\n").map_err(|error| format!("write the password: {error}"))?;
    let programs = Programs {
        longshore: program("LONGSHORE_BIN", "target/release/longshore"),
        restic: program("LONGSHORE_RESTIC", "restic"),
        password,
        folder: folder.path().to_path_buf(),
    };
    println!("{:<22} {:<12} {:>22} {:>22} {:>22}", "data", "work", "wall ratio", "cpu ratio", "memory ratio");
    let tree = match &settings.tree {
        Some(tree) => tree.clone(),
        None => {
            let tree = folder.path().join("tree");
            data::small_files(&tree, settings.files)?;
            tree
        }
    };
    compare(&programs, &settings, "small files", &tree)?;
    let large = folder.path().join("large");
    data::large_file(&large, settings.file_mib)?;
    compare(&programs, &settings, "one large file", &large)
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
    for pair in 0..settings.pairs {
        let ours_first = pair.is_multiple_of(2);
        for is_ours in [ours_first, !ours_first] {
            let rounds = if is_ours { &mut ours } else { &mut theirs };
            rounds.push(programs.round(is_ours, data)?);
        }
    }
    for (at, work) in WORK.iter().enumerate() {
        let pairs = ours.iter().zip(&theirs).map(|(ours, theirs)| (ours[at], theirs[at])).collect::<Vec<_>>();
        println!("{name:<22} {work:<12} {}", ratios(&pairs));
    }
    for (program, rounds) in [("longshore", &ours), ("restic", &theirs)] {
        let pairs = rounds.iter().map(|round| (round[1], round[0])).collect::<Vec<_>>();
        println!("{name:<22} {:<12} {}", format!("of {program}"), ratios(&pairs));
    }
    Ok(())
}
