//! What can go wrong in a command of the project, by what the reader has to do about it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments make no command.
    #[error("unknown command\n\n{usage}")]
    Usage { usage: &'static str },
    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Start { program: String, source: std::io::Error },
    /// A program ended with an error; it has said why.
    #[error("`{command}` ended with {status}{detail}")]
    Ended { command: String, status: ExitStatus, detail: String },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// `cargo metadata` gave no answer.
    #[error("cannot read the workspace's metadata")]
    Metadata { source: Box<cargo_metadata::Error> },
    /// Something that the tests need is not there and cannot be installed from here.
    #[error("{what} is missing: {remedy}")]
    Missing { what: String, remedy: String },
    /// A planted bug is out of date.
    #[error("the plant `{name}` does not apply to the present code: make it again")]
    Plant { name: String, source: Box<Failure> },
    /// A source file has no valid tokens.
    #[error("{path}: not valid Rust: {reason}")]
    Tokens { path: String, reason: String },
    /// House rules or licences are broken; each finding was printed.
    #[error("{count} finding(s) of {check}")]
    Findings { check: &'static str, count: usize },
    /// An answer of a tool does not have the expected shape.
    #[error("{program} answered something unexpected: {answer}")]
    Answer { program: String, answer: String },
}

impl Failure {
    /// A file error with what was tried.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}
