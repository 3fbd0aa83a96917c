//! `job show`, `job follow` and `job cancel`.

use std::time::Duration;

use clap::Args;
use proto::follow::JobDocument;
use proto::id::JobId;
use repository::format::node_time::NodeTime;
use serde_json::json;

use crate::commands::Ended;
use crate::commands::snapshots::local_time;
use crate::exit::{CommandError, ExitStatus};
use crate::fleet_client::{self, ConnectFlags, Followed, decode, print_end};
use crate::fleet_doors::FleetDoors;
use crate::output::{bytes_text, printable};
use crate::session::Session;

/// Which job.
#[derive(Args, Debug)]
struct JobFlags {
    /// The job's id.
    #[arg(value_name = "JOB")]
    job: String,

    #[command(flatten)]
    connect: ConnectFlags,
}

impl JobFlags {
    fn id(&self) -> Result<JobId, CommandError> {
        JobId::new(&*self.job).map_err(|error| CommandError::Usage(error.to_string()))
    }

    fn within(&self) -> Duration {
        self.connect.connect_timeout
    }

    /// The job as it is now.
    async fn document(&self, doors: &FleetDoors) -> Result<JobDocument, CommandError> {
        let job = self.id()?;
        let bytes = doors.state.job_state(&job).await?;
        bytes.and_then(|bytes| decode(&bytes)).ok_or(CommandError::NoJob { job })
    }
}

/// Show a job as it is now.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  longshore job show 019b76da-a800-7523-83bd-b30583d72b94 --json")]
pub(super) struct ShowArguments {
    #[command(flatten)]
    of: JobFlags,
}

pub(super) async fn show(arguments: &ShowArguments, session: &Session) -> Ended {
    let doors = session.connect(arguments.of.within()).await?;
    let document = arguments.of.document(&doors).await?;
    if session.output.is_json() {
        session.output.message(&document)?;
        return Ok(ExitStatus::Done);
    }
    let zone = &session.configuration.zone;
    let time = |instant| local_time(&NodeTime::from_unix(instant, zone), zone);
    let progress = &document.progress;
    let mut lines = vec![
        format!("job:         {}", document.job),
        format!("what:        {} {}", document.kind.word(), printable(document.about.as_bytes())),
        format!("pool:        {}", printable(document.pool.as_bytes())),
        format!("submitted:   {}", time(document.submitted_at)),
        format!("state:       {}", document.state.word()),
    ];
    lines.extend(progress.started_at.map(|at| format!("begun:       {}", time(at))));
    lines.push(format!("seen:        {}", time(document.updated_at)));
    if progress.tasks_done + progress.tasks_open > 0 {
        let tasks = progress.tasks_done + progress.tasks_open;
        lines.push(format!("tasks:       {} of {tasks}", progress.tasks_done));
        lines.push(format!("done:        {} entries, {}", progress.entries, bytes_text(progress.bytes_done)));
    }
    lines.extend(document.superseded_by.as_ref().map(|by| format!("goes on as:  {by}")));
    lines.extend(document.failure.as_ref().map(|failure| format!("failure:     {}", failure.message)));
    lines.extend(document.coordinator.as_ref().map(|coordinator| format!("coordinator: {coordinator}")));
    session.output.line(lines.join("\n"))?;
    Ok(ExitStatus::Done)
}

/// Follow a job to its end.
///
/// Says how far it is and what came of it, and ends with the same exit code, as if it had been done by this command. A
/// first Ctrl-C detaches, a second one soon after it cancels the job.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  longshore job follow 019b76da-a800-7523-83bd-b30583d72b94")]
pub(super) struct FollowArguments {
    #[command(flatten)]
    of: JobFlags,
}

pub(super) async fn follow(arguments: &FollowArguments, session: &Session) -> Ended {
    let job = arguments.of.id()?;
    let within = arguments.of.within();
    let doors = session.connect(within).await?;
    let followed = Followed { job, submission: None, within };
    let document = Box::pin(fleet_client::follow(session, &doors, followed)).await?;
    print_end(session, &document)
}

/// Cancel a job.
///
/// Workers stop within seconds. What a backup has stored by then is used by the next one of the same host and paths.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  longshore job cancel 019b76da-a800-7523-83bd-b30583d72b94")]
pub(super) struct CancelArguments {
    #[command(flatten)]
    of: JobFlags,
}

pub(super) async fn cancel(arguments: &CancelArguments, session: &Session) -> Ended {
    let doors = session.connect(arguments.of.within()).await?;
    let mut document = arguments.of.document(&doors).await?;
    // The one that is at work now.
    while let Some(by) = document.superseded_by.clone() {
        let Some(next) = doors.state.job_state(&by).await?.and_then(|bytes| decode(&bytes)) else { break };
        document = next;
    }
    let (job, is_over) = (document.job, document.state.is_final());
    if !is_over {
        doors.state.request_cancel(&job).await?;
    }
    if session.output.is_json() {
        session.output.message(&json!({"message_type": "summary", "job": job, "was_over": is_over}))?;
    } else if is_over {
        session.output.note(format_args!("job {job} is {} already", document.state.word()));
    } else {
        session.output.note(format_args!("job {job} is asked to stop"));
    }
    Ok(ExitStatus::Done)
}
