//! `bench`: the release binary and the paired timing program of `bench/`.

use crate::command;
use crate::failure::Failure;
use crate::{services, test, workspace};

/// Builds what is timed, then runs the timing program with `arguments`.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let tools = services::provide_all()?;
    let metadata = workspace::metadata()?;
    let root = metadata.workspace_root.clone().into_std_path_buf();
    let binary = test::build_release(&metadata)?;
    let mut words = vec!["run", "--release", "--quiet", "--package", "bench", "--"];
    words.extend_from_slice(arguments);
    command::run(command::cargo(&root, &words).env("LONGSHORE_BIN", binary).env("LONGSHORE_RESTIC", tools.restic))
}
