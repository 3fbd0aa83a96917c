//! The table of exit codes: what scripts rely on.

use std::sync::Arc;

use proto::handles::UnixTime;
use proto::id::Id;
use repository::locks::Conflict;
use repository::repository::{FileDamage, FileKind};
use sources::source::SourceErrorKind;

use super::*;

fn storage(kind: StorageErrorKind, location: &str) -> StorageError {
    let (name, location) = ("config".to_owned(), location.to_owned());
    StorageError { kind, action: "read", name, location, retry_after: None, is_answer: false, source: Arc::new(kind) }
}

fn locked(stale: bool) -> LockError {
    LockError::Locked(Box::new(Conflict {
        id: Id::of(b"lock"),
        hostname: "web-1".into(),
        username: "root".into(),
        pid: 7,
        since: UnixTime::default(),
        exclusive: true,
        job: None,
        stale,
    }))
}

fn damaged(name: &str) -> RepositoryError {
    let source = Box::new(FileDamage::WrongDigest { actual: Id::of(b"") });
    RepositoryError::Damaged { name: name.into(), location: "/r".into(), source }
}

/// Error, exit code, words of the message, words of the hint.
type Case = (CommandError, u8, &'static [&'static str], &'static [&'static str]);

fn cases() -> Vec<Case> {
    let (directory, azure) = ("/r", "azure:box:/");
    let location = || "/nowhere".to_owned();
    let tried_in_vain = RepositoryError::WrongPassword { location: location(), tried: 1, untried: 0 };
    let unknown = RepositoryError::UnknownId { kind: FileKind::Snapshot, prefix: "0123".into() };
    let gone = |name: &[u8]| SourceError::new(SourceErrorKind::Vanished, "stat", name, "not there");
    let nothing = TargetError::NothingThere { problems: vec![gone(b"gone-1"), gone(b"gone-2")] };
    let object = ObjectError::Storage {
        job: proto::id::JobId::new("j").unwrap(),
        transient: false,
        source: Arc::new(RepositoryError::from(storage(StorageErrorKind::Full, directory))),
    };
    let half = ConfigError::HalfAFleet { present: "LONGSHORE_AMQP_URL", missing: "LONGSHORE_REDIS_URL" };
    vec![
        (RepositoryError::NoRepository { location: location() }.into(), 10, &["/nowhere"], &["init"]),
        (RepositoryError::Exists { location: location(), name: "config".into() }.into(), 5, &["config"], &["--repo"]),
        (tried_in_vain.into(), 12, &["password"], &["--password-file"]),
        (damaged("keys/ab").into(), 8, &["keys/ab", "digest"], &["bring the file back"]),
        (damaged("index/ab").into(), 8, &["index/ab", "digest"], &["check"]),
        (unknown.into(), 1, &["0123", "snapshot"], &["longshore snapshots"]),
        (RepositoryError::VersionOne { location: location() }.into(), 1, &["restic migrate upgrade_repo_v2"], &[]),
        (locked(false).into(), 11, &["locked", "web-1"], &["longshore unlock --remove-all"]),
        (JobError::from(locked(true)).into(), 11, &["locked", "web-1"], &["longshore unlock"]),
        (SelectError::NoneFits.into(), 1, &["no snapshot"], &["longshore snapshots"]),
        (SelectError::from(damaged("data/ab/abcd")).into(), 8, &["abcd"], &["check"]),
        (PasswordError::NotGiven.into(), 2, &["password"], &["--password-file", "LONGSHORE_PASSWORD"]),
        (half.into(), 2, &["LONGSHORE_AMQP_URL"], &["LONGSHORE_REDIS_URL"]),
        (CommandError::NoFleet, 2, &["fleet"], &["LONGSHORE_AMQP_URL", "--redis"]),
        (QueueError::Unavailable { message: "refused".into() }.into(), 7, &["refused"], &["LONGSHORE_AMQP_URL"]),
        (QueueError::Denied { message: "403".into() }.into(), 6, &["403"], &["LONGSHORE_AMQP_URL"]),
        (StateError::Unavailable { message: "refused".into() }.into(), 7, &["refused"], &["LONGSHORE_REDIS_URL"]),
        (StateError::Denied { message: "NOAUTH".into() }.into(), 6, &["NOAUTH"], &["LONGSHORE_REDIS_URL"]),
        (CommandError::NoCoordinator, 9, &["coordinator"], &["longshore coordinator"]),
        (CommandError::NoWorker { pool: "p".into() }, 9, &["pool p"], &["longshore worker"]),
        (CommandError::Detached { job: job_id() }, 130, &["goes on"], &["longshore job follow j"]),
        (failed(FailureClass::Usage), 2, &["job j", "why"], &["longshore job show j"]),
        (failed(FailureClass::NoWorker), 9, &["why"], &[]),
        (failed(FailureClass::Cancelled), 130, &["why"], &[]),
        (LocationError::Empty.into(), 2, &["location"], &[]),
        (CommandError::Usage("no time".into()), 2, &["no time"], &[]),
        (nothing.into(), 1, &["gone-1", "gone-2", "does not exist"], &["that are there"]),
        (JobError::Cancelled.into(), 130, &["cancelled"], &["goes on"]),
        (CommandError::Abandoned, 130, &["lock"], &["unlock"]),
        (JobError::from(object).into(), 1, &["no space left"], &["space"]),
        (JobError::from(storage(StorageErrorKind::Full, directory)).into(), 1, &["no space left"], &["space"]),
        (
            RepositoryError::from(storage(StorageErrorKind::Denied, directory)).into(),
            1,
            &["refused"],
            &["read and write"],
        ),
        (RepositoryError::from(storage(StorageErrorKind::Denied, azure)).into(), 6, &["refused"], &["credentials"]),
        (RepositoryError::from(storage(StorageErrorKind::Unknown, azure)).into(), 7, &["no answer"], &["network"]),
        (RepositoryError::from(storage(StorageErrorKind::NotFound, azure)).into(), 10, &["nothing"], &["init"]),
        (AzureConfigError::NoAccount.into(), 2, &["storage account"], &["AZURE_ACCOUNT_NAME"]),
        (AzureConfigError::Archive.into(), 2, &["archive", "hours"], &["cold"]),
        (OpenError::NoAccount { location: azure.into() }.into(), 2, &["azure:box:/"], &[]),
        (JobError::Failed { reason: "why".into() }.into(), 1, &["why"], &["run the same command again"]),
        (
            CommandError::Restore { target: "/out".into(), source: JobError::Failed { reason: "full".into() }.into() },
            1,
            &["/out", "full"],
            &["--target", "run again"],
        ),
        (JobError::ClockOff { seconds: -300 }.into(), 1, &["300 seconds"], &["clock"]),
    ]
}

fn job_id() -> JobId {
    JobId::new("j").unwrap()
}

fn failed(class: FailureClass) -> CommandError {
    CommandError::JobFailed { job: job_id(), failure: JobFailure { class, message: "why".into() } }
}

/// A command that follows ends as one that does the same work itself.
#[test]
fn a_fleet_fails_as_one_process_does() {
    let away = || storage(StorageErrorKind::Unavailable, "azure:box:/");
    for error in [
        JobError::from(locked(true)),
        JobError::from(damaged("index/ab")),
        JobError::from(away()),
        JobError::from(RepositoryError::from(storage(StorageErrorKind::Denied, "azure:box:/"))),
        JobError::from(storage(StorageErrorKind::Denied, "/r")),
        JobError::from(QueueError::Unavailable { message: String::new() }),
        JobError::from(StateError::Denied { message: String::new() }),
        JobError::NoWorkers { pool: "p".into() },
        JobError::Cancelled,
        JobError::Failed { reason: "why".into() },
    ] {
        let followed = status_of(error.class());
        assert_eq!(CommandError::from(error).failure().status, followed);
    }
}

#[test]
fn every_error_has_its_code_and_its_words() {
    for (error, code, words, hints) in cases() {
        let Failure { status, message, hint } = error.failure();
        assert_eq!(status.code(), code, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{words:?} in {message}");
        let hint = hint.unwrap_or_default();
        assert!(hints.iter().all(|word| hint.contains(word)), "{hints:?} in {hint}");
    }
}

#[test]
fn no_cause_is_said_twice() {
    let error = CommandError::from(JobError::from(storage(StorageErrorKind::Full, "/r")));
    let message = error.failure().message;
    assert_eq!(message.matches("no space left").count(), 1, "{message}");
    assert_eq!(message.matches("config").count(), 1, "{message}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    assert!(CommandError::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_pipe());
    assert!(!CommandError::from(io::Error::from(io::ErrorKind::StorageFull)).is_closed_pipe());
}
