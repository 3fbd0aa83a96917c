//! `bench`: the release binary, the peers, and the measuring program of `bench/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::failure::Failure;
use crate::{services, test, workspace};

/// What the peers need of PyPI.
const REQUIREMENTS: &str = "bench/peers/requirements.txt";

/// Builds what is measured, then runs the measuring program with `arguments`.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let tools = services::provide_all()?;
    let metadata = workspace::metadata()?;
    let root = metadata.workspace_root.clone().into_std_path_buf();
    let binary = match std::env::var_os("LONGSHORE_BIN") {
        Some(named) => PathBuf::from(named),
        None => test::build_release(&metadata)?,
    };
    let mut words = vec!["run", "--release", "--quiet", "--package", "bench", "--"];
    words.extend_from_slice(arguments);
    let mut measure = command::cargo(&root, &words);
    measure.env("LONGSHORE_BIN", binary).env("LONGSHORE_RESTIC", tools.restic);
    measure.envs(tools.azurite.as_ref().map(|azurite| ("LONGSHORE_AZURITE", azurite)));
    if matches!(arguments.first(), Some(&"tasks" | &"pipeline")) {
        measure.env("LONGSHORE_PEERS", provide_peers(&root, metadata.target_directory.as_std_path())?);
        measure.env("LONGSHORE_PEER_PROGRAMS", root.join("bench/peers"));
    }
    command::run(&mut measure)
}

/// The virtual environment of the peers, made anew when other versions are wanted.
fn provide_peers(root: &Path, target: &Path) -> Result<PathBuf, Failure> {
    let wanted = root.join(REQUIREMENTS);
    let place = target.join("peers");
    // Copied when everything is installed: an interrupted installation has none.
    let installed = place.join("installed.txt");
    let text = std::fs::read(&wanted).map_err(Failure::file("read", &wanted))?;
    if std::fs::read(&installed).is_ok_and(|present| present == text) {
        return Ok(place);
    }
    command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))?;
    let pip = place.join("bin").join("pip");
    command::run(Command::new(pip).args(["install", "--quiet", "--requirement"]).arg(&wanted))?;
    std::fs::write(&installed, text).map_err(Failure::file("write", &installed))?;
    Ok(place)
}
