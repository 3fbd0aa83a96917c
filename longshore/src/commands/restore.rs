//! `restore`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use coordinator::job::Progress;
use coordinator::summary::RestoreSummary;
use proto::job::{Budget, Request, RestoreRequest};
use proto::name::RawName;
use proto::restore::Overwrite;
use sources::paths;
use sources::patterns::Patterns;
use tokio::sync::watch;

use super::Ended;
use crate::embedded::{Beside, EmbeddedFleet};
use crate::exit::{CHECK_HINT, CommandError, ExitStatus, RESTORE_AGAIN_HINT};
use crate::fleet_client::{self, SubmitFlags};
use crate::output::{bytes_text, counted, duration_text, printable};
use crate::patterns;
use crate::progress::Watcher;
use crate::select::{self, SnapshotFilter};
use crate::session::Session;
use crate::signals::Signals;

/// Write a snapshot's files and directories back.
///
/// What is there already and as wanted is left alone, so that a restore that was stopped can be done again, and an old
/// copy can be brought up to date. Of a file that differs only what differs is written.
///
/// The exit code is 1 if something could not be restored, 8 if the repository lost it; the rest is there.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore restore latest --target /mnt/restored\n  \
    longshore restore 1a2b3c4d:/srv/www --target /srv/www --delete --dry-run\n  \
    longshore restore --host web-1 --include '*.conf' latest --target /tmp/conf")]
pub(crate) struct Arguments {
    /// The snapshot: `latest`, or the beginning of an id; with :PATH what is below that directory.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,

    /// The directory to write into; made if it is missing.
    #[arg(long, short, value_name = "DIR")]
    target: PathBuf,

    #[command(flatten)]
    selection: SelectionFlags,

    #[command(flatten)]
    writing: WritingFlags,

    #[command(flatten)]
    filter: SnapshotFilter,

    #[command(flatten)]
    work: super::WorkFlags,

    #[command(flatten)]
    submit: SubmitFlags,

    /// Do not lock the repository: for one that cannot be written, while nobody removes anything from it.
    #[arg(long)]
    no_lock: bool,
}

/// What is restored. Patterns are those of backup.
#[derive(Args, Debug)]
#[command(next_help_heading = "What is restored")]
struct SelectionFlags {
    /// Only what matches; may be repeated. Patterns are those of `backup`, for paths in the target.
    #[arg(long, short, value_name = "PATTERN", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"])]
    include: Vec<String>,

    /// The same, upper and lower case being equal.
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"])]
    iinclude: Vec<String>,

    /// Only what matches a line of FILE; may be repeated.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"])]
    include_file: Vec<PathBuf>,

    /// The same, upper and lower case being equal.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exclude", "iexclude", "exclude_file", "iexclude_file"])]
    iinclude_file: Vec<PathBuf>,

    /// Not what matches; may be repeated.
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// The same, upper and lower case being equal.
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,

    /// Not what matches a line of FILE; may be repeated.
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,

    /// The same, upper and lower case being equal.
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
}

/// How it is written.
#[derive(Args, Debug)]
#[command(next_help_heading = "How it is written")]
struct WritingFlags {
    /// What becomes of files that are there.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = OverwriteFlag::Always)]
    overwrite: OverwriteFlag,

    /// Remove what the snapshot does not have.
    #[arg(long)]
    delete: bool,

    /// Leave holes for runs of zeros.
    #[arg(long)]
    sparse: bool,

    /// Read what was written again, and compare.
    #[arg(long)]
    verify: bool,

    /// Say what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// See [`Overwrite`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverwriteFlag {
    /// They get what differs.
    Always,
    /// They get what differs, unless size and modification time are equal.
    IfChanged,
    /// They get what differs, if they are older than in the snapshot.
    IfNewer,
    /// They are left as they are.
    Never,
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    if session.has_fleet(arguments.work.embedded) {
        return submit(arguments, session).await;
    }
    let mut request = request(arguments, session)?;
    let repository = session.open().await?;
    let (text, path) = select::parse(&arguments.snapshot);
    let named = select::one(&repository, text, &arguments.filter, &session.output).await?;
    request.snapshot = named.id;
    request.path = RawName(path.join("/").into_bytes());
    // A damaged index and a path that is not there are told by name before anything is written.
    let index = session.index(&repository).await?;
    select::directory(&repository, &index, &named, &path).await?;
    drop(index);
    let mut signals = Signals::listen()?;
    let fleet = EmbeddedFleet::new(session, &repository, arguments.work.workers);
    let (progress, job_progress) = watch::channel(Progress::default());
    let total = named.snapshot.summary.as_ref().map(|summary| summary.total_bytes_processed);
    let (_total, known_total) = watch::channel(total.filter(|_| path.is_empty()));
    let output = session.output.clone();
    let watcher = Watcher::new(output, session.clock.clone(), fleet.meters(), job_progress, known_total);
    let beside = Beside { signals: &mut signals, watching: watcher.run() };
    let budget = budget(arguments, session);
    let done = Box::pin(fleet.restore(&request, budget, !arguments.no_lock, &progress, beside)).await;
    session.output.end_progress();
    summarize(&RestoreSummary::new(&request, &done?), session)
}

/// Lets the fleet do it; its coordinator finds the snapshot.
async fn submit(arguments: &Arguments, session: &Session) -> Ended {
    if !arguments.target.is_absolute() {
        let why = "its workers may have another current directory: give an absolute path";
        return Err(CommandError::Usage(format!("a fleet cannot restore to {}: {why}", arguments.target.display())));
    }
    let (text, path) = select::parse(&arguments.snapshot);
    let budget = &session.configuration.budget;
    let request = RestoreRequest {
        path: RawName(path.join("/").into_bytes()),
        choice: Some(arguments.filter.choice(text)),
        budget: (*budget != Budget::default()).then(|| budget.clone()),
        no_lock: arguments.no_lock,
        ..request(arguments, session)?
    };
    fleet_client::submit_and_follow(session, &arguments.submit, Request::Restore(Box::new(request))).await
}

/// One worker does it best in one task, unless somebody wants partitions of a certain size.
fn budget(arguments: &Arguments, session: &Session) -> Option<Budget> {
    let budget = &session.configuration.budget;
    (arguments.work.workers > 1 || *budget != Budget::default()).then(|| budget.clone())
}

/// Everything but the snapshot.
fn request(arguments: &Arguments, session: &Session) -> Result<RestoreRequest, CommandError> {
    let (selection, writing) = (&arguments.selection, &arguments.writing);
    let target = arguments.target.as_os_str().as_encoded_bytes();
    Ok(RestoreRequest {
        target: RawName(paths::absolute(&session.current_directory()?, target)),
        include: texts(&selection.include, &selection.include_file, false)?,
        include_any_case: texts(&selection.iinclude, &selection.iinclude_file, true)?,
        exclude: texts(&selection.exclude, &selection.exclude_file, false)?,
        exclude_any_case: texts(&selection.iexclude, &selection.iexclude_file, true)?,
        overwrite: match writing.overwrite {
            OverwriteFlag::Always => Overwrite::Always,
            OverwriteFlag::IfChanged => Overwrite::IfChanged,
            OverwriteFlag::IfNewer => Overwrite::IfNewer,
            OverwriteFlag::Never => Overwrite::Never,
        },
        delete: writing.delete,
        sparse: writing.sparse,
        verify: writing.verify,
        dry_run: writing.dry_run,
        ..RestoreRequest::default()
    })
}

/// Patterns that can be compiled and sent.
fn texts(given: &[String], files: &[PathBuf], any_case: bool) -> Result<Vec<String>, CommandError> {
    let patterns = patterns::all(given, files)?;
    Patterns::compile(&patterns, any_case).map_err(|error| CommandError::Exclude(error.into()))?;
    let text = |pattern: Vec<u8>| {
        String::from_utf8(pattern)
            .map_err(|error| CommandError::Usage(format!("pattern {} is not UTF-8", printable(error.as_bytes()))))
    };
    patterns.into_iter().map(text).collect()
}

/// Says what was done.
pub(crate) fn summarize(summary: &RestoreSummary, session: &Session) -> Ended {
    let output = &session.output;
    if output.is_json() {
        output.message(summary)?;
    } else {
        for problem in &summary.problems {
            output.complain(format_args!("{}: {}", printable(&problem.path.0), problem.message));
        }
        if summary.problems_left_out > 0 {
            output.complain(format_args!("and {} more problems", summary.problems_left_out));
        }
        if !output.is_quiet() {
            output.line(lines(summary).join("\n"))?;
        }
    }
    let (status, hint) = match summary.errors {
        0 => return Ok(ExitStatus::Done),
        _ if summary.damaged => (ExitStatus::Damaged, CHECK_HINT),
        _ => (ExitStatus::Failed, RESTORE_AGAIN_HINT),
    };
    output.hint(hint);
    Ok(status)
}

fn lines(summary: &RestoreSummary) -> Vec<String> {
    let target = printable(&summary.target.0);
    let mut lines = vec![
        format!(
            "files:       {} restored, {} unchanged, {} skipped",
            summary.files_restored, summary.files_unchanged, summary.files_skipped
        ),
        format!(
            "others:      {} directories, {} symbolic links and special files, {} hard links",
            summary.directories, summary.others, summary.hard_links,
        ),
        format!(
            "written:     {}, {} were there, in {}",
            bytes_text(summary.bytes_written),
            bytes_text(summary.bytes_unchanged),
            duration_text(Duration::from_secs_f64(summary.total_duration.max(0.0))),
        ),
    ];
    if summary.delete {
        lines.push(format!("removed:     {}", summary.deleted));
    }
    if summary.verify {
        lines.push(format!("verified:    {}", summary.files_verified));
    }
    let verb = if summary.dry_run { "would be restored" } else { "restored" };
    let but =
        if summary.errors > 0 { format!(", but for {}", counted(summary.errors, "error")) } else { String::new() };
    lines.push(format!("snapshot {} {verb} to {target}{but}", summary.snapshot_id.short()));
    lines
}
