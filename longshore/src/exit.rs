//! Every error of a command becomes a message, a hint and an exit code here, and nowhere else.

use std::error::Error;
use std::io;

use coordinator::error::JobError;
use fleet::objects::ObjectError;
use fleet::page::PageError;
use fleet::queue::QueueError;
use fleet::state::StateError;
use proto::follow::{FailureClass, JobFailure};
use proto::id::JobId;
use repository::locks::LockError;
use repository::repository::RepositoryError;
use repository::storage::{LocationError, OpenError, StorageError, StorageErrorKind};
use sources::files::exclude::ExcludeError;
use sources::files::targets::TargetError;
use sources::source::SourceError;
use worker::error::WorkerError;

use crate::azure::AzureConfigError;
use crate::config::ConfigError;
use crate::output::printable;
use crate::password::PasswordError;
use crate::select::SelectError;

/// How a command ended. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Everything was done.
    Done,
    /// It could not be done.
    Failed,
    /// The command line or the environment makes no sense.
    Usage,
    /// A snapshot was made, and some sources could not be read.
    Incomplete,
    /// Something else is there already.
    Conflict,
    /// A service refused access.
    Denied,
    /// A service does not answer.
    Unreachable,
    /// The repository has lost something.
    Damaged,
    /// There is no repository.
    NoRepository,
    /// Nobody of the fleet is there.
    TimedOut,
    /// Somebody else's lock stands in the way.
    Locked,
    /// The password fits no key.
    WrongPassword,
    /// Ctrl-C, or a signal to end.
    Interrupted,
}

impl ExitStatus {
    /// The number for the shell.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Conflict => 5,
            Self::Denied => 6,
            Self::Unreachable => 7,
            Self::Damaged => 8,
            Self::TimedOut => 9,
            Self::NoRepository => 10,
            Self::Locked => 11,
            Self::WrongPassword => 12,
            Self::Interrupted => 130,
        }
    }
}

/// What a user is told of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) status: ExitStatus,
    /// What went wrong, with its causes.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// Why a command ended before it was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// Arguments that fit the syntax and yet make no sense.
    #[error("{0}")]
    Usage(String),
    /// Flags or variables that make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No place of a repository.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// Variables that name no storage account that can be used.
    #[error(transparent)]
    Azure(#[from] AzureConfigError),
    /// A storage that cannot be used as it is configured.
    #[error(transparent)]
    OpenStorage(#[from] OpenError),
    /// A file that belongs to the command itself.
    #[error("{action} {path}")]
    File {
        /// The verb.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A lock stands in the way, or cannot be handled.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The snapshot, or what was wanted of it, is not there.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Patterns or sizes that cannot be understood.
    #[error(transparent)]
    Exclude(#[from] ExcludeError),
    /// What is to be backed up is not there.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The output cannot be written.
    #[error("write the output")]
    Output(#[from] io::Error),
    /// A job ended without a result.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A restore ended without a result.
    #[error("restore to {target}")]
    Restore {
        /// The directory.
        target: String,
        /// Why.
        source: Box<JobError>,
    },
    /// There is no page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A signal asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A second signal came before the job had ended.
    #[error("stopped at once; the repository is whole, and the lock of this process is left in it")]
    Abandoned,
    /// A command of a fleet, and no fleet is configured.
    #[error("no fleet is configured")]
    NoFleet,
    /// The task queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The job state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A worker ended.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// Nobody takes submissions.
    #[error("no coordinator is there")]
    NoCoordinator,
    /// Nobody would do the tasks.
    #[error("no worker of pool {pool} is there")]
    NoWorker {
        /// The pool.
        pool: String,
    },
    /// Nobody knows the job.
    #[error("nobody knows a job {job}")]
    NoJob {
        /// The job.
        job: JobId,
    },
    /// Nobody is called so.
    #[error("no worker {worker} is there")]
    NoSuchWorker {
        /// The worker.
        worker: String,
    },
    /// A job of the fleet has no result.
    #[error("job {job}: {}", .failure.message)]
    JobFailed {
        /// The job.
        job: JobId,
        /// Why.
        failure: JobFailure,
    },
    /// Nothing is heard of a job any more.
    #[error("nothing is heard of job {job}: {why}")]
    Lost {
        /// The job.
        job: JobId,
        /// Why.
        why: String,
    },
    /// The user goes away, the job goes on.
    #[error("the job goes on without this command")]
    Detached {
        /// The job.
        job: JobId,
    },
}

impl CommandError {
    /// What the user is told, and the exit code.
    pub(crate) fn failure(&self) -> Failure {
        let (status, hint) = judge(self);
        Failure { status, message: message(self), hint }
    }

    /// Whether the reader of our output went away, as `head` does: nothing to complain of.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Where ids can be found.
const LIST_HINT: &str = "`longshore snapshots` lists what is there";
/// What to do about a target that cannot take what is restored.
pub(crate) const RESTORE_AGAIN_HINT: &str =
    "make space or give rights there, or name another --target; run again, it leaves alone what is restored already";
/// What to do about a job that could not be done.
const BACKUP_AGAIN_HINT: &str =
    "make space, or mend what it names, then run the same command again: what is stored already is used";
/// What to do when one damage was found.
pub(crate) const CHECK_HINT: &str = "`longshore check --read-data` says what else is damaged";
/// What to do when a file is damaged without which no other one can be read.
const NO_OTHER_COPY_HINT: &str = "bring the file back from a copy of the repository: nothing can be read without it, and nothing else has its content";
/// What to do when all damage is known.
pub(crate) const REPAIR_HINT: &str = "`restic repair packs ID...` (or `repair index`) takes out what is damaged, \
    `longshore backup --force` stores it again from a source that still has it, `restic repair snapshots --forget` mends \
    the snapshots";

type Verdict = (ExitStatus, Option<String>);

fn judge(error: &CommandError) -> Verdict {
    match error {
        CommandError::Usage(_) | CommandError::Location(_) | CommandError::Exclude(_) => (ExitStatus::Usage, None),
        CommandError::Config(error) => judge_config(error),
        CommandError::Azure(error) => judge_azure(error),
        CommandError::OpenStorage(_) => (ExitStatus::Usage, None),
        CommandError::File { .. } => (ExitStatus::Failed, hint("check that it is there, and who may use it")),
        CommandError::Output(_) => (ExitStatus::Failed, None),
        CommandError::Password(error) => judge_password(error),
        CommandError::Repository(error) => judge_repository(error),
        CommandError::Lock(error) => judge_lock(error),
        CommandError::Select(error) => judge_select(error),
        CommandError::Target(_) => {
            (ExitStatus::Failed, hint("name files or directories that are there; nothing was stored"))
        }
        CommandError::Job(error) => judge_job(error),
        CommandError::Restore { source, .. } => match source.as_ref() {
            JobError::Failed { .. } => (ExitStatus::Failed, hint(RESTORE_AGAIN_HINT)),
            error => judge_job(error),
        },
        CommandError::Page(error) => judge_page(error),
        CommandError::Interrupted => (ExitStatus::Interrupted, None),
        CommandError::Abandoned => (ExitStatus::Interrupted, hint("`longshore unlock` removes the lock")),
        error => judge_fleet(error),
    }
}

fn judge_fleet(error: &CommandError) -> Verdict {
    match error {
        CommandError::NoFleet => {
            (ExitStatus::Usage, hint("set LONGSHORE_AMQP_URL and LONGSHORE_REDIS_URL, or give --amqp and --redis"))
        }
        CommandError::Queue(error) | CommandError::Worker(WorkerError::Queue(error)) => judge_queue(error),
        CommandError::State(error) | CommandError::Worker(WorkerError::State(error)) => judge_state(error),
        CommandError::Worker(WorkerError::Storage(error)) => judge_storage(error),
        CommandError::Worker(WorkerError::Repository(error)) => judge_repository(error),
        CommandError::NoCoordinator => (ExitStatus::TimedOut, hint("start one with `longshore coordinator`")),
        CommandError::NoWorker { .. } => {
            (ExitStatus::TimedOut, hint("start one with `longshore worker`, or wait longer with --wait-workers"))
        }
        CommandError::NoJob { .. } => (ExitStatus::Failed, hint("`longshore job list` lists what is known")),
        CommandError::NoSuchWorker { .. } => {
            (ExitStatus::Failed, hint("`longshore worker list` lists those that are there"))
        }
        CommandError::Lost { job, .. } => (
            ExitStatus::Unreachable,
            hint(format!(
                "the job may go on: `longshore job follow {job}` attaches again, `longshore job show {job}` shows it"
            )),
        ),
        CommandError::JobFailed { job, failure } => {
            (status_of(failure.class), hint(format!("`longshore job show {job}` shows how far it came")))
        }
        CommandError::Detached { job } => {
            (ExitStatus::Interrupted, hint(format!("`longshore job follow {job}` attaches again")))
        }
        _ => (ExitStatus::Failed, None),
    }
}

/// The exit code of a failure that somebody else judged.
pub(crate) fn status_of(class: FailureClass) -> ExitStatus {
    match class {
        FailureClass::Failed | FailureClass::Other => ExitStatus::Failed,
        FailureClass::Usage => ExitStatus::Usage,
        FailureClass::Denied => ExitStatus::Denied,
        FailureClass::Unreachable => ExitStatus::Unreachable,
        FailureClass::Damaged => ExitStatus::Damaged,
        FailureClass::NoWorker => ExitStatus::TimedOut,
        FailureClass::NoRepository => ExitStatus::NoRepository,
        FailureClass::Locked => ExitStatus::Locked,
        FailureClass::Cancelled => ExitStatus::Interrupted,
    }
}

fn judge_queue(error: &QueueError) -> Verdict {
    match error {
        QueueError::Unavailable { .. } => {
            (ExitStatus::Unreachable, hint("check LONGSHORE_AMQP_URL, the network and the broker"))
        }
        QueueError::Denied { .. } => {
            (ExitStatus::Denied, hint("check user, password and rights of LONGSHORE_AMQP_URL"))
        }
        _ => (ExitStatus::Failed, None),
    }
}

fn judge_state(error: &StateError) -> Verdict {
    match error {
        StateError::Unavailable { .. } => {
            (ExitStatus::Unreachable, hint("check LONGSHORE_REDIS_URL, the network and the service"))
        }
        StateError::Denied { .. } => {
            (ExitStatus::Denied, hint("check user, password and rights of LONGSHORE_REDIS_URL"))
        }
        _ => (ExitStatus::Failed, None),
    }
}

fn judge_page(error: &PageError) -> Verdict {
    match error {
        PageError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => (ExitStatus::Conflict, None),
        PageError::Listen { .. } | PageError::Exporter(_) => (ExitStatus::Failed, None),
    }
}

fn hint(text: impl Into<String>) -> Option<String> {
    Some(text.into())
}

fn judge_config(error: &ConfigError) -> Verdict {
    let advice = match error {
        ConfigError::NoHome => hint("name one with --repo or LONGSHORE_REPOSITORY, or set HOME"),
        ConfigError::TwoPasswords { .. } => hint("unset one of them"),
        ConfigError::HalfAFleet { present, missing } => hint(format!("set {missing} too, or unset {present}")),
        ConfigError::PasswordInFlag { variable, .. } => {
            hint(format!("set {variable}, or name a file with the URL in {variable}_FILE"))
        }
        ConfigError::TwoUrls { .. } => hint("unset one of them"),
        ConfigError::NotText(_) | ConfigError::BadNumber { .. } => None,
    };
    (ExitStatus::Usage, advice)
}

fn judge_azure(error: &AzureConfigError) -> Verdict {
    let advice = match error {
        AzureConfigError::NoAccount => hint("set AZURE_ACCOUNT_NAME, and AZURE_ACCOUNT_KEY or AZURE_ACCOUNT_SAS"),
        AzureConfigError::TwoAccounts { .. } => hint("unset one of them, or let both name the same account"),
        AzureConfigError::PlainHttp { .. } => {
            hint("name an https endpoint, or set LONGSHORE_AZURE_PLAIN_HTTP=true where only an emulator is on the line")
        }
        AzureConfigError::Archive => hint("use cold, which is read at once, or unset it"),
        _ => None,
    };
    (ExitStatus::Usage, advice)
}

fn judge_password(error: &PasswordError) -> Verdict {
    match error {
        PasswordError::NotGiven => (
            ExitStatus::Usage,
            hint(
                "give --password-file FILE or --password-command COMMAND, or set LONGSHORE_PASSWORD_FILE, LONGSHORE_PASSWORD_COMMAND or LONGSHORE_PASSWORD",
            ),
        ),
        PasswordError::CommandLine { .. } => (ExitStatus::Usage, None),
        PasswordError::DefaultGone { .. } => {
            (ExitStatus::Failed, hint("bring the file back, or name another one with --password-file"))
        }
        _ => (ExitStatus::Failed, None),
    }
}

fn judge_repository(error: &RepositoryError) -> Verdict {
    match error {
        RepositoryError::NoRepository { .. } => {
            (ExitStatus::NoRepository, hint("make one with `longshore init`, or name another with --repo"))
        }
        RepositoryError::Exists { .. } => {
            (ExitStatus::Conflict, hint("nothing was changed; name another place with --repo"))
        }
        RepositoryError::WrongPassword { .. } => {
            (ExitStatus::WrongPassword, hint("check --password-file, or the variable that the password comes from"))
        }
        RepositoryError::UnknownId { .. } | RepositoryError::AmbiguousId { .. } => {
            (ExitStatus::Failed, hint(LIST_HINT))
        }
        RepositoryError::NotFound { .. } => {
            (ExitStatus::Failed, hint("somebody may have removed it meanwhile; try again"))
        }
        RepositoryError::VersionOne { .. } | RepositoryError::ForeignSettings { .. } => (ExitStatus::Failed, None),
        RepositoryError::Storage(error) => judge_storage(error),
        RepositoryError::Damaged { name, .. } if name == "config" || name.starts_with("keys/") => {
            (ExitStatus::Damaged, hint(NO_OTHER_COPY_HINT))
        }
        error if error.is_damage() => (ExitStatus::Damaged, hint(CHECK_HINT)),
        _ => (ExitStatus::Failed, None),
    }
}

fn judge_select(error: &SelectError) -> Verdict {
    match error.repository_error() {
        Some(error) => judge_repository(error),
        None if error.is_damage() => (ExitStatus::Damaged, hint(CHECK_HINT)),
        None if error.is_about_a_path() => (ExitStatus::Failed, hint("`longshore ls SNAPSHOT` lists what it holds")),
        None => (ExitStatus::Failed, hint(LIST_HINT)),
    }
}

fn judge_storage(error: &StorageError) -> Verdict {
    // A directory has no service behind it.
    let is_service = error.location.starts_with("azure:");
    match error.kind {
        StorageErrorKind::Full => (ExitStatus::Failed, hint("make space where the repository is, then try again")),
        StorageErrorKind::Denied if is_service => (ExitStatus::Denied, hint("check the credentials and their rights")),
        StorageErrorKind::Denied => (ExitStatus::Failed, hint("check who may read and write there")),
        StorageErrorKind::Unavailable | StorageErrorKind::Unknown if is_service => {
            (ExitStatus::Unreachable, hint("check the network and the service, then try again"))
        }
        StorageErrorKind::NotFound if is_service => (
            ExitStatus::NoRepository,
            hint("check the container's name; `longshore init` makes container and repository"),
        ),
        _ => (ExitStatus::Failed, None),
    }
}

fn judge_lock(error: &LockError) -> Verdict {
    match error {
        LockError::Locked(conflict) if conflict.stale => {
            (ExitStatus::Locked, hint("its holder is gone: `longshore unlock` removes the lock"))
        }
        LockError::Locked(_) => (
            ExitStatus::Locked,
            hint("wait until it is gone; if nobody is at work any more, `longshore unlock --remove-all` removes it"),
        ),
        LockError::Damaged { .. } => (ExitStatus::Locked, None),
        LockError::Storage(error) => judge_storage(error),
        _ => (ExitStatus::Failed, hint("try again")),
    }
}

fn judge_job(error: &JobError) -> Verdict {
    match error {
        JobError::Lock(error) => judge_lock(error),
        JobError::Repository(error) => judge_repository(error),
        JobError::Storage(error) => judge_storage(error),
        JobError::Object(ObjectError::Storage { source, .. }) => match source.downcast_ref::<RepositoryError>() {
            Some(error) => judge_repository(error),
            None => (ExitStatus::Failed, None),
        },
        JobError::Cancelled => (ExitStatus::Interrupted, hint("the same command goes on where this one was stopped")),
        JobError::NoWorkers { .. } => (ExitStatus::TimedOut, None),
        JobError::Queue(error) => judge_queue(error),
        JobError::State(error) => judge_state(error),
        JobError::ClockOff { .. } => (ExitStatus::Failed, hint("set this machine's clock, then try again")),
        JobError::Failed { .. } => (ExitStatus::Failed, hint(BACKUP_AGAIN_HINT)),
        JobError::LockLost(_) => (ExitStatus::Failed, hint("somebody removes our locks; find out who, then try again")),
        _ => (ExitStatus::Failed, None),
    }
}

/// The error and its causes in one line, and one more for each missing source.
fn message(error: &CommandError) -> String {
    let mut text = chain(error);
    if let CommandError::Target(TargetError::NothingThere { problems }) = error {
        for problem in problems {
            text.push_str(&format!("\n  {}: {}", printable(&problem.path), reason(problem)));
        }
    }
    text
}

/// Why a source cannot be read, for people.
pub(crate) fn reason(problem: &SourceError) -> String {
    if problem.is_vanished() { "it does not exist".to_owned() } else { problem.source.to_string() }
}

/// An error and its causes in one line; a cause that says the same again is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if words != last {
            text.push_str(": ");
            text.push_str(&words);
            last = words;
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[path = "exit_tests.rs"]
mod tests;
