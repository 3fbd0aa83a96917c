//! `printable`: writes the generated table of the source tree again, or tells whether it is still what restic says.

use crate::failure::Failure;
use crate::{printable, services, workspace};

const PRINTABLE: &str = "repository/src/format/printable.rs";

/// What to do with the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Write the table into the source tree.
    Write,
    /// Fail if it differs from the one there.
    Check,
}

/// Asks stock restic and writes or compares.
pub(crate) fn run(mode: Mode) -> Result<(), Failure> {
    let restic = services::provide_all()?.restic;
    let path = workspace::metadata()?.workspace_root.into_std_path_buf().join(PRINTABLE);
    let fresh = printable::generate(&restic).map_err(Failure::file("make", &path))?;
    if mode == Mode::Write {
        std::fs::write(&path, fresh).map_err(Failure::file("write", &path))?;
        println!("{PRINTABLE}: written");
        return Ok(());
    }
    let present = std::fs::read_to_string(&path).map_err(Failure::file("read", &path))?;
    if table_of(&present) == table_of(&fresh) {
        println!("{PRINTABLE}: equal");
        return Ok(());
    }
    println!("{PRINTABLE}: differs from what {} says; `cargo xtask printable` writes it again", restic.display());
    Err(Failure::Findings { check: "printable", count: 1 })
}

/// The table without the words above it, which name the restic that answered.
fn table_of(text: &str) -> &str {
    text.split_once("EDGES").map_or(text, |(_, table)| table)
}
