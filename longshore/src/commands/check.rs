//! `check`.

use std::time::Duration;

use clap::Args;
use coordinator::summary::CheckSummary;
use proto::job::{Budget, CheckRequest, Request};
use repository::maintenance::check::{
    self, CheckEvent, CheckOptions, CheckReport, Finding, ReadData, Severity, Stage, Subset,
};
use repository::maintenance::executor::{BlockingThreads, Resources};
use repository::repository::Repository;
use serde_json::json;
use tokio::sync::mpsc;

use super::Ended;
use crate::exit::{CommandError, ExitStatus, REPAIR_HINT};
use crate::fleet_client::{self, SubmitFlags};
use crate::holding::{under_lock, without_lock};
use crate::output::{Output, bytes_text, counted, duration_text};
use crate::session::Session;

/// Look for damage in the repository.
///
/// Index files, snapshots, all their trees, and the names and lengths of packs are checked always. What is in the packs
/// is read with --read-data, or in part with --read-data-subset.
///
/// The exit code is 8 if something is damaged. The repository is locked meanwhile.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore check\n  \
    longshore check --read-data\n  \
    longshore check --read-data-subset 3/7")]
pub(crate) struct Arguments {
    /// Read every pack.
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,

    /// Read some packs: the n-th of t parts (n/t), a share of them drawn by chance (2.5%), or so many bytes (500M).
    #[arg(long, value_name = "n/t|P%|SIZE")]
    read_data_subset: Option<Subset>,

    /// Do not lock the repository: for one that cannot be written, while nobody else works on it.
    #[arg(long)]
    no_lock: bool,

    /// Work in this process, even where a fleet is configured.
    #[arg(long)]
    embedded: bool,

    #[command(flatten)]
    submit: SubmitFlags,
}

/// Packs that are read at once.
const READS_AT_ONCE: usize = 8;
/// Events that wait to be shown.
const EVENTS_WAITING: usize = 256;

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    let read_data = match arguments.read_data_subset {
        _ if arguments.read_data => ReadData::All,
        Some(subset) => ReadData::Subset(subset),
        None => ReadData::None,
    };
    if read_data != ReadData::None && session.has_fleet(arguments.embedded) {
        return submit(arguments, session).await;
    }
    let repository = session.open().await?;
    let checking = check(&repository, read_data, session);
    let checked = if arguments.no_lock {
        without_lock(checking).await
    } else {
        under_lock(session, &repository, true, checking).await
    };
    session.output.end_progress();
    summarize(&CheckSummary::new(&checked?), &session.output)
}

/// Lets the fleet do it.
async fn submit(arguments: &Arguments, session: &Session) -> Ended {
    let budget = &session.configuration.budget;
    let request = CheckRequest {
        packs: None,
        subset: arguments.read_data_subset.map(|subset| subset.to_string()),
        task_bytes: (*budget != Budget::default()).then_some(budget.bytes),
        no_lock: arguments.no_lock,
    };
    fleet_client::submit_and_follow(session, &arguments.submit, Request::Check(request)).await
}

async fn check(repository: &Repository, read_data: ReadData, session: &Session) -> Result<CheckReport, CommandError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let resources = Resources::new(std::sync::Arc::new(BlockingThreads::new(cores)), Resources::MEMORY_BYTES_DEFAULT);
    let options = CheckOptions { read_data, reads_at_once: READS_AT_ONCE };
    let (events, told) = mpsc::channel(EVENTS_WAITING);
    let checking = check::check(repository, &options, &resources, Some(events));
    let (report, shown) = tokio::join!(checking, show(told, session));
    shown?;
    Ok(report?)
}

/// How far the stage is.
struct Advance {
    stage: Stage,
    total: Option<u64>,
    done: u64,
    began_at: Duration,
}

/// Shows what is found, and how far the check is, until it ends.
async fn show(mut told: mpsc::Receiver<CheckEvent>, session: &Session) -> Result<(), CommandError> {
    let clock = &session.clock;
    let mut advance: Option<Advance> = None;
    let interval = session.output.progress_interval();
    let mut shown_at = clock.monotonic();
    while let Some(event) = told.recv().await {
        match event {
            CheckEvent::Began { stage, total } => {
                advance = Some(Advance { stage, total, done: 0, began_at: clock.monotonic() });
            }
            CheckEvent::Advanced { stage, done } => {
                if let Some(advance) = advance.as_mut().filter(|advance| advance.stage == stage) {
                    advance.done += done;
                }
            }
            CheckEvent::Found(finding) => tell(&finding, &session.output)?,
        }
        let now = clock.monotonic();
        if let (Some(interval), Some(advance)) = (interval, &advance)
            && now >= shown_at + interval
        {
            shown_at = now;
            show_advance(advance, now, &session.output)?;
        }
    }
    Ok(())
}

fn tell(finding: &Finding, output: &Output) -> Result<(), CommandError> {
    if output.is_json() {
        let (kind, severity) = (finding.kind, finding.severity());
        let (file, detail) = (&finding.file, &finding.detail);
        output.message(
            &json!({"message_type": "finding", "kind": kind, "severity": severity, "file": file, "detail": detail}),
        )?;
    } else {
        match finding.severity() {
            Severity::Error => output.complain(finding),
            Severity::Hint => output.warn(finding),
        }
    }
    Ok(())
}

fn show_advance(advance: &Advance, now: Duration, output: &Output) -> Result<(), CommandError> {
    let Advance { stage, total, done, began_at } = advance;
    let elapsed = now.saturating_sub(*began_at);
    if output.is_json() {
        let (stage, seconds) = (stage_name(*stage), elapsed.as_secs());
        output.message(&json!({
            "message_type": "status",
            "stage": stage,
            "done": done,
            "total": total,
            "seconds_elapsed": seconds,
            "seconds_remaining": seconds_left(*done, *total, elapsed),
        }))?;
    } else {
        output.progress(&advance_line(*stage, *done, *total, elapsed));
    }
    Ok(())
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Files => "files",
        Stage::Index => "index",
        Stage::Packs => "packs",
        Stage::Trees => "trees",
        Stage::Data => "data",
    }
}

fn advance_line(stage: Stage, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let shown = |number: u64| if stage == Stage::Data { bytes_text(number) } else { number.to_string() };
    let mut text = format!("[{}] {}: {}", duration_text(elapsed), stage_name(stage), shown(done));
    if let Some(total) = total {
        text.push_str(&format!(" of {}", shown(total)));
    }
    let seconds = elapsed.as_secs();
    if stage == Stage::Data && seconds > 0 {
        text.push_str(&format!(", {}/s", bytes_text(done / seconds)));
    }
    if let Some(left) = seconds_left(done, total, elapsed) {
        text.push_str(&format!(", {} left", duration_text(Duration::from_secs(left))));
    }
    text
}

/// Seconds to the end of the stage, if it goes on as it went.
fn seconds_left(done: u64, total: Option<u64>, elapsed: Duration) -> Option<u64> {
    let left = u128::from(total?.saturating_sub(done));
    let seconds = (u128::from(elapsed.as_secs()) * left).checked_div(u128::from(done))?;
    u64::try_from(seconds).ok()
}

/// Tells what was found, where nobody told it meanwhile, and says what was done.
pub(crate) fn summarize(summary: &CheckSummary, output: &Output) -> Ended {
    for finding in &summary.findings {
        tell(finding, output)?;
    }
    if summary.findings_left_out > 0 {
        output.warn(format_args!("{} more were found", counted(summary.findings_left_out, "finding")));
    }
    if output.is_json() {
        output.message(&CheckSummary { findings: Vec::new(), ..summary.clone() })?;
    } else {
        output.note(format_args!(
            "checked {}, {} with {} entries, {}",
            counted(summary.snapshots, "snapshot"),
            counted(summary.trees, "tree"),
            summary.nodes,
            counted(summary.packs, "pack"),
        ));
        if summary.packs_read > 0 {
            output.note(format_args!(
                "read {} ({})",
                counted(summary.packs_read, "pack"),
                bytes_text(summary.bytes_read)
            ));
        }
        if summary.trees_skipped {
            output.warn("the trees could not be judged because index files are damaged");
        }
        match summary.num_errors {
            0 => output.line("no damage was found")?,
            count => output.line(format_args!("found {}", counted(count, "error")))?,
        }
    }
    if summary.num_errors == 0 {
        return Ok(ExitStatus::Done);
    }
    output.hint(REPAIR_HINT);
    Ok(ExitStatus::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_in_the_last_stage_only() {
        let line = |stage, done, total| advance_line(stage, done, total, Duration::from_secs(2));
        assert_eq!(line(Stage::Trees, 2048, None), "[0:02] trees: 2048");
        assert_eq!(line(Stage::Data, 2048, Some(4096)), "[0:02] data: 2.000 KiB of 4.000 KiB, 1.000 KiB/s, 0:02 left");
    }
}
