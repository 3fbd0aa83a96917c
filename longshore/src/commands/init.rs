//! `init`.

use std::io;

use clap::Args;
use repository::repository::Repository;
use serde_json::json;

use super::Ended;
use crate::exit::ExitStatus;
use crate::session::Session;

/// Make a new repository.
///
/// Without --repo or a variable that names a place, the repository is made in the user's data folder, and a password
/// with it; both places are printed. `backup` does the same by itself.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore init\n  \
    longshore init --repo /mnt/disk/backup --password-file ~/.backup-password\n  \
    longshore init --repo azure:backups:/laptop --password-command 'pass show backup'")]
pub(crate) struct Arguments {}

pub(crate) async fn run(session: &Session) -> Ended {
    let repository = session.make().await?;
    announce(session, &repository)?;
    Ok(ExitStatus::Done)
}

/// Says that `repository` was made, and where its password is.
pub(crate) fn announce(session: &Session, repository: &Repository) -> io::Result<()> {
    let (id, location) = (repository.id(), repository.location());
    let password_file = session.made_password_file().map(|path| path.display().to_string());
    if session.output.is_json() {
        return session.output.message(&json!({
            "message_type": "initialized",
            "id": id,
            "repository": location,
            "password_file": password_file,
        }));
    }
    session.output.line(format_args!("created repository {} in {location}", id.short()))?;
    match password_file {
        Some(path) => session.output.line(format_args!("its password is in {path}: keep a copy elsewhere")),
        None => {
            session.output.note("without its password nobody can read it: keep a copy elsewhere");
            Ok(())
        }
    }
}
