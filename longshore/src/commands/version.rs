//! `version`.

use clap::Args;
use serde_json::json;

use super::Ended;
use crate::exit::ExitStatus;
use crate::output::Output;

/// Print the version of this program.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  longshore version\n  longshore version --json")]
pub(crate) struct Arguments {}

/// The version, as it stands in snapshots.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run(output: &Output) -> Ended {
    if output.is_json() {
        output.message(&json!({"message_type": "version", "version": VERSION}))?;
    } else {
        output.line(format_args!("longshore {VERSION}"))?;
    }
    Ok(ExitStatus::Done)
}
