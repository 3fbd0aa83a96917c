//! What a job shows to those who follow it: one JSON document in the job state.
//!
//! It is for people and for commands that wait. Nothing that is committed depends on it, and it may vanish: the record in
//! the repository says how a job ended.

use serde::{Deserialize, Serialize};

use crate::handles::UnixTime;
use crate::id::{CoordinatorId, JobId};
use crate::job::{Request, Submission};

/// A job as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDocument {
    /// The job.
    pub job: JobId,
    /// What it does.
    pub kind: JobKind,
    /// What it does it to, for people.
    pub about: String,
    /// The workers that shall do it.
    pub pool: String,
    /// When it was submitted.
    pub submitted_at: UnixTime,
    /// When this was written.
    pub updated_at: UnixTime,
    /// Who leads it.
    #[serde(default)]
    pub coordinator: Option<CoordinatorId>,
    /// Where it stands.
    pub state: JobPhase,
    /// How far it is.
    #[serde(default)]
    pub progress: JobProgress,
    /// The job that goes on in its place.
    #[serde(default)]
    pub superseded_by: Option<JobId>,
    /// What it brought about: the summary that the command prints with `--json`.
    #[serde(default)]
    pub result: Option<serde_json::Value>,
    /// Why it has no result.
    #[serde(default)]
    pub failure: Option<JobFailure>,
}

impl JobDocument {
    /// A submission that nobody has begun.
    pub fn queued(submission: &Submission, now: UnixTime) -> Self {
        Self {
            job: submission.job.clone(),
            kind: JobKind::of(&submission.request),
            about: about(&submission.request),
            pool: submission.pool.clone(),
            submitted_at: submission.submitted_at,
            updated_at: now,
            coordinator: None,
            state: JobPhase::Queued,
            progress: JobProgress::default(),
            superseded_by: None,
            result: None,
            failure: None,
        }
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// It makes a snapshot.
    Backup,
    /// It writes a snapshot's content back.
    Restore,
    /// It looks for damage.
    Check,
    /// A kind that a newer release added.
    #[serde(other)]
    Other,
}

impl JobKind {
    /// That of a request.
    pub fn of(request: &Request) -> Self {
        match request {
            Request::Backup(_) => Self::Backup,
            Request::Restore(_) => Self::Restore,
            Request::Check(_) => Self::Check,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Check => "check",
            Self::Other => "other",
        }
    }
}

/// Longer descriptions are cut.
const ABOUT_CHARACTERS_MAX: usize = 200;

fn about(request: &Request) -> String {
    let text = match request {
        Request::Backup(backup) => {
            let paths: Vec<String> = backup.paths.iter().map(ToString::to_string).collect();
            format!("{}: {}", backup.hostname, paths.join(" "))
        }
        Request::Restore(restore) => {
            let snapshot = match &restore.choice {
                Some(choice) => choice.snapshot.clone(),
                None => restore.snapshot.short(),
            };
            let path = if restore.path.0.is_empty() { String::new() } else { format!(":{}", restore.path) };
            format!("{snapshot}{path} to {}", restore.target)
        }
        Request::Check(check) => check.subset.clone().unwrap_or_else(|| "all packs".to_owned()),
    };
    text.chars().take(ABOUT_CHARACTERS_MAX).collect()
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPhase {
    /// It waits for a coordinator that has room for it.
    Queued,
    /// It is being done.
    Running,
    /// It came to its end; its result says how well.
    Done,
    /// It has no result.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It goes on as another job.
    Superseded,
    /// A state that a newer release added.
    #[serde(other)]
    Other,
}

impl JobPhase {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Other => "other",
        }
    }

    /// Whether nothing more comes of it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled | Self::Superseded)
    }
}

/// How far a job is: figures of accepted reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobProgress {
    /// When it was begun.
    pub started_at: Option<UnixTime>,
    /// Entries that are done.
    pub entries: u64,
    /// Bytes of files, or of packs in a check, that are done.
    pub bytes_done: u64,
    /// Bytes that there are to do, where somebody knows.
    pub bytes_total: Option<u64>,
    /// Bytes that were read from the source.
    pub bytes_read: u64,
    /// Bytes that were stored.
    pub bytes_stored: u64,
    /// Tasks with an accepted result.
    pub tasks_done: u64,
    /// Tasks without one.
    pub tasks_open: u64,
}

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// By what somebody would do about it; the exit code of the command that follows.
    pub class: FailureClass,
    /// One sentence for people.
    pub message: String,
}

/// Failures by what somebody would do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Anything that has no class of its own.
    Failed,
    /// What was asked for makes no sense.
    Usage,
    /// A service refused access.
    Denied,
    /// A service does not answer.
    Unreachable,
    /// The repository has lost something.
    Damaged,
    /// There is no worker.
    NoWorker,
    /// There is no repository any more.
    NoRepository,
    /// Somebody else's lock stands in the way.
    Locked,
    /// Somebody cancelled it.
    Cancelled,
    /// A class that a newer release added.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;
    use crate::job::{CheckRequest, RestoreRequest, SnapshotChoice};

    #[test]
    fn a_document_survives_and_new_words_are_read() {
        let submission = Submission {
            job: JobId::new("j").unwrap(),
            repository: Id::of(b"r"),
            idempotency_key: None,
            pool: "default".to_owned(),
            submitted_at: UnixTime::from_seconds(7),
            request: Request::Check(CheckRequest::default()),
        };
        let document = JobDocument::queued(&submission, UnixTime::from_seconds(8));
        let mut json = serde_json::to_value(&document).unwrap();
        assert_eq!(serde_json::from_value::<JobDocument>(json.clone()).unwrap(), document);
        json["state"] = "paused".into();
        json["kind"] = "copy".into();
        let newer: JobDocument = serde_json::from_value(json).unwrap();
        assert_eq!((newer.state, newer.kind, newer.state.is_final()), (JobPhase::Other, JobKind::Other, false));
    }

    #[test]
    fn a_restore_is_described_by_what_was_asked_for() {
        let choice = SnapshotChoice { snapshot: "latest".to_owned(), ..SnapshotChoice::default() };
        let request = RestoreRequest {
            target: b"/t".as_slice().into(),
            path: b"etc".as_slice().into(),
            choice: Some(choice),
            ..RestoreRequest::default()
        };
        assert_eq!(about(&Request::Restore(Box::new(request))), "latest:etc to /t");
    }
}
