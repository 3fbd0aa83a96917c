//! Azurite, Microsoft's emulator of Azure Blob Storage, from npm into the user's cache. Tests start one each; nothing of it
//! runs between them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::restic::cache_folder;
use crate::command::{capture, run};
use crate::failure::Failure;

/// The newest for Node.js 20 and older.
const VERSION: &str = "3.35.0";

/// Finds or installs it.
pub(super) fn provide() -> Result<String, Failure> {
    let found = match find() {
        Some(path) => path,
        None => install()?,
    };
    Ok(format!("azurite {VERSION}, {}", found.display()))
}

/// The error for none found after installing.
pub(super) fn missing() -> Failure {
    Failure::Missing {
        what: format!("azurite {VERSION}"),
        remedy:
            "name its azurite-blob with LONGSHORE_AZURITE=/path/to/azurite-blob, or give this machine an npm registry"
                .to_owned(),
    }
}

/// The program: `LONGSHORE_AZURITE`, else the user's cache.
pub(super) fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LONGSHORE_AZURITE") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    Some(program_in(&place())).filter(|path| path.is_file())
}

fn place() -> PathBuf {
    cache_folder().join(format!("azurite-{VERSION}"))
}

fn program_in(place: &Path) -> PathBuf {
    place.join("node_modules").join(".bin").join("azurite-blob")
}

/// Installs beside its place and moves it there whole, so that an interrupted installation is not taken for one.
fn install() -> Result<PathBuf, Failure> {
    let tools = cache_folder();
    std::fs::create_dir_all(&tools).map_err(Failure::file("create", &tools))?;
    let work = tempfile::tempdir_in(&tools).map_err(Failure::file("create a folder in", &tools))?;
    let package = format!("azurite@{VERSION}");
    run(Command::new("npm")
        .args(["install", "--no-fund", "--no-audit", "--omit=dev", "--prefix"])
        .arg(work.path())
        .arg(package))?;
    let answer = capture(Command::new(program_in(work.path())).arg("--version"))?;
    let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    if answer != VERSION {
        return Err(Failure::Answer { program: "azurite-blob --version".to_owned(), answer });
    }
    let place = place();
    std::fs::rename(work.keep(), &place).map_err(Failure::file("move azurite to", &place))?;
    find().ok_or_else(missing)
}
