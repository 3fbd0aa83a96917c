//! `job list`.

use clap::Args;
use proto::follow::{JobDocument, JobPhase};
use proto::id::{Id, JobId};
use repository::format::node_time::NodeTime;

use crate::commands::Ended;
use crate::commands::snapshots::local_time;
use crate::exit::ExitStatus;
use crate::fleet_client::{ConnectFlags, coordinators, decode};
use crate::output::{counted, printable};
use crate::session::Session;
use crate::table::Table;

/// List the newest jobs of the fleet.
///
/// They are remembered for a week, as long as nobody empties the job state.
#[derive(Args, Debug)]
#[command(
    after_long_help = "Examples:\n  longshore job list\n  longshore job list --last 5 --json\n  longshore job list --open"
)]
pub(super) struct Arguments {
    /// Only so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,

    /// Only those that have not ended.
    #[arg(long)]
    open: bool,

    #[command(flatten)]
    connect: ConnectFlags,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    let doors = session.connect(arguments.connect.connect_timeout).await?;
    let repository: Id = match arguments.connect.repository_id {
        Some(id) => id,
        None => coordinators(session, &doors, &arguments.connect)
            .await?
            .first()
            .map(|one| one.repository)
            .unwrap_or_default(),
    };
    let jobs: Vec<JobId> = doors.state.jobs(&repository).await?;
    let mut documents = Vec::new();
    for job in jobs.iter().rev() {
        if documents.len() >= arguments.last {
            break;
        }
        let document = doors.state.job_state(job).await?.and_then(|bytes| decode(&bytes));
        documents.extend(document.filter(|document| !arguments.open || !document.state.is_final()));
    }
    documents.reverse();
    if session.output.is_json() {
        session.output.message(&documents)?;
        return Ok(ExitStatus::Done);
    }
    for line in table(&documents, session).lines() {
        session.output.line(line)?;
    }
    session.output.line(counted(documents.len() as u64, "job"))?;
    Ok(ExitStatus::Done)
}

fn table(documents: &[JobDocument], session: &Session) -> String {
    let mut table = Table::new(&["ID", "Submitted", "Kind", "State", "What"]);
    for document in documents {
        let zone = &session.configuration.zone;
        table.row(vec![
            vec![document.job.to_string()],
            vec![local_time(&NodeTime::from_unix(document.submitted_at, zone), zone)],
            vec![document.kind.word().to_owned()],
            vec![state(document)],
            vec![printable(document.about.as_bytes())],
        ]);
    }
    table.render()
}

/// The state, and how far the job is.
fn state(document: &JobDocument) -> String {
    let progress = &document.progress;
    let tasks = progress.tasks_done + progress.tasks_open;
    match document.state {
        JobPhase::Running if tasks > 0 => format!("running ({} of {tasks})", progress.tasks_done),
        state => state.word().to_owned(),
    }
}
