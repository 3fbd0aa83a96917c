//! `backup`.

mod request;
pub(crate) mod summary;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use coordinator::job::Progress;
use coordinator::summary::BackupSummary;
use proto::job::{BackupRequest, Request, Submission};
use repository::repository::Repository;
use sources::files::FileSource;
use sources::files::exclude::{ExcludeRules, Excludes};
use sources::source::Source;
use tokio::sync::watch;

use super::Ended;
use crate::embedded::{Beside, EmbeddedFleet, POOL};
use crate::exit::CommandError;
use crate::fleet_client::{self, SubmitFlags};
use crate::progress::Watcher;
use crate::scan;
use crate::session::Session;
use crate::signals::Signals;

/// Make a snapshot of files and directories.
///
/// Files that are as in the newest snapshot of the same host and paths are not read again. A file that is larger than
/// the limit for it is read in several ranges at once.
///
/// Without a repository one is made in the user's data folder, with a password of its own; where both are is printed.
/// These two are left out of snapshots in it.
///
/// Where a fleet is configured, it does the work: PATHs are then absolute names in the namespace of its workers, which
/// may be other ones than those of this host.
///
/// The exit code is 3 if there is a snapshot and something could not be read.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore backup ~/documents\n  \
    longshore backup --exclude '*.o' --exclude-caches --tag nightly /srv /etc\n  \
    longshore -r azure:backups:/web-1 backup --one-file-system --workers 2 /")]
pub(crate) struct Arguments {
    /// What to back up.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    excludes: ExcludeFlags,

    #[command(flatten)]
    snapshot: SnapshotFlags,

    #[command(flatten)]
    reading: ReadingFlags,

    #[command(flatten)]
    storing: StoringFlags,

    #[command(flatten)]
    work: super::WorkFlags,

    #[command(flatten)]
    submit: SubmitFlags,
}

/// What is left out.
#[derive(Args, Debug)]
#[command(next_help_heading = "What is left out")]
struct ExcludeFlags {
    /// Leave out what matches; may be repeated. As in restic: `*.o`, `/srv/*/tmp`, `!keep.o`, `a/**/b`.
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// The same, upper and lower case being equal.
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,

    /// Leave out what matches a line of FILE; may be repeated.
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,

    /// The same, upper and lower case being equal.
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,

    /// Leave out the contents of directories that a CACHEDIR.TAG marks as caches.
    #[arg(long)]
    exclude_caches: bool,

    /// Leave out the contents of directories that hold NAME, whose content begins with HEADER; may be repeated.
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<String>,

    /// Leave out files with more bytes than SIZE (k, m, g or t may stand behind it).
    #[arg(long, value_name = "SIZE")]
    exclude_larger_than: Option<String>,

    /// Do not go into other file systems.
    #[arg(long, short = 'x')]
    one_file_system: bool,
}

/// What stands in the snapshot.
#[derive(Args, Debug)]
#[command(next_help_heading = "The snapshot")]
struct SnapshotFlags {
    /// The host's name, where it is not this one's (LONGSHORE_HOST, RESTIC_HOST).
    #[arg(long, short = 'H', value_name = "NAME")]
    host: Option<String>,

    /// A tag, or several (TAG,TAG); may be repeated.
    #[arg(long, value_name = "TAG[,TAG]", value_delimiter = ',')]
    tag: Vec<String>,

    /// The snapshot's time where it is not now: `2026-11-24 09:30:00` in local time, or with an offset as in RFC 3339.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,

    /// Take it as it is when nothing is left of what was there last time.
    #[arg(long)]
    allow_empty: bool,
}

/// What is read.
#[derive(Args, Debug)]
#[command(next_help_heading = "What is read again")]
struct ReadingFlags {
    /// Compare with this snapshot, not with the newest of the same host and paths.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force")]
    parent: Option<String>,

    /// Read every file.
    #[arg(long, short)]
    force: bool,

    /// Do not read files again of which only the time of the last change of their inode differs.
    #[arg(long)]
    ignore_ctime: bool,

    /// Do not read files again of which only the inode differs; implies --ignore-ctime.
    #[arg(long)]
    ignore_inode: bool,

    /// Store the times of the last access.
    #[arg(long)]
    with_atime: bool,
}

/// How it is stored.
#[derive(Args, Debug)]
#[command(next_help_heading = "How it is stored")]
struct StoringFlags {
    /// How much is compressed.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = ["off", "fastest", "auto", "better", "max"])]
    compression: String,

    /// Size of packs in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(4..=128))]
    pack_size: u64,
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    if session.has_fleet(arguments.work.embedded) {
        return submit(arguments, session).await;
    }
    let source: Arc<dyn Source> = Arc::new(FileSource::whole_host());
    // Usage errors and missing sources come before a repository is made.
    let mut draft = request::draft(arguments, session, &*source)?;
    let (repository, is_new) = session.open_or_make_default().await?;
    draft.request.parent = request::parent(arguments, session, &repository).await?;
    summary::print_places(session, &repository, is_new)?;
    for problem in &draft.problems {
        session.output.warn(summary::problem_text(problem));
    }
    let mut signals = Signals::listen()?;
    let fleet = EmbeddedFleet::new(session, &repository, arguments.work.workers);
    let submission = submission(&draft.request, &fleet, &repository, session);
    let (progress, job_progress) = watch::channel(Progress::default());
    let (total, known_total) = watch::channel(None);
    if session.output.is_live() {
        scan_ahead(source, &draft.request, total)?;
    }
    let output = session.output.clone();
    let watcher = Watcher::new(output, session.clock.clone(), fleet.meters(), job_progress, known_total);
    let beside = Beside { signals: &mut signals, watching: watcher.run() };
    let done = Box::pin(fleet.back_up(&submission, &progress, beside)).await;
    session.output.end_progress();
    let summary = BackupSummary::new(&done?, &draft.problems);
    summary::print(session, &summary, draft.problems.len())
}

/// Lets the fleet do it. What there is to back up is not asked of this host: it may not have it.
async fn submit(arguments: &Arguments, session: &Session) -> Ended {
    let request = request::for_fleet(arguments, session)?;
    fleet_client::submit_and_follow(session, &arguments.submit, Request::Backup(Box::new(request))).await
}

fn submission(
    request: &BackupRequest,
    fleet: &EmbeddedFleet,
    repository: &Repository,
    session: &Session,
) -> Submission {
    Submission {
        job: fleet.new_job_id(),
        repository: repository.id(),
        idempotency_key: None,
        pool: POOL.to_owned(),
        submitted_at: session.clock.now(),
        request: Request::Backup(Box::new(request.clone())),
    }
}

/// Finds out how much there is to do, on a thread of its own.
fn scan_ahead(
    source: Arc<dyn Source>,
    request: &BackupRequest,
    total: watch::Sender<Option<u64>>,
) -> Result<(), CommandError> {
    let rules: ExcludeRules = serde_json::from_value(request.source_options.clone())
        .map_err(|error| CommandError::Usage(format!("the excludes cannot be used: {error}")))?;
    let devices = request::target_devices(&*source, request);
    let excludes = Excludes::compile(&rules, devices)?;
    let targets = request.targets.clone();
    tokio::task::spawn_blocking(move || scan::run(&*source, &targets, &excludes, &total));
    Ok(())
}
