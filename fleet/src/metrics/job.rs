//! Jobs while they run, and how they end.

use std::sync::Arc;
use std::time::Duration;

use proto::handles::Clock;
use proto::job::Request;

use super::table::{COORDINATOR_EPOCH, COORDINATOR_LEADER, JOB_DURATION, JOBS_FINISHED, JOBS_RUNNING, JOBS_SUBMITTED};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// It makes a snapshot.
    Backup,
    /// It writes one back.
    Restore,
    /// It reads packs and compares.
    Check,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Backup, Self::Restore, Self::Check];

    /// What a submission asks for.
    pub fn of(request: &Request) -> Self {
        match request {
            Request::Backup(_) => Self::Backup,
            Request::Restore(_) => Self::Restore,
            Request::Check(_) => Self::Check,
        }
    }

    /// Its label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Check => "check",
        }
    }

    /// Counts a submission that became a job.
    pub fn submitted(self) {
        JOBS_SUBMITTED.add(&[self.label()], 1);
    }
}

/// How a job ended under one coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// All is done.
    Done,
    /// It has its result, but not all of it could be read or written.
    Incomplete,
    /// It has no result.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It goes on as another job.
    Superseded,
    /// It goes on under another coordinator.
    Left,
}

impl JobEnd {
    /// Every end.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Incomplete, Self::Failed, Self::Cancelled, Self::Superseded, Self::Left];

    /// Its label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Left => "left",
        }
    }
}

/// A job that this process leads. One that is dropped is left to whoever takes it over.
pub struct RunningJob {
    kind: JobKind,
    clock: Arc<dyn Clock>,
    began: Duration,
    end: JobEnd,
}

impl RunningJob {
    /// It begins, under `epoch`; without one, no other coordinator can take it over.
    pub fn begin(kind: JobKind, epoch: Option<u64>, clock: Arc<dyn Clock>) -> Self {
        JOBS_RUNNING.shift(&[kind.label()], 1.0);
        COORDINATOR_LEADER.shift(&[], 1.0);
        if let Some(epoch) = epoch {
            COORDINATOR_EPOCH.set(&[], epoch as f64);
        }
        let began = clock.monotonic();
        Self { kind, clock, began, end: JobEnd::Left }
    }

    /// It ended.
    pub fn end(mut self, end: JobEnd) {
        self.end = end;
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let (kind, end) = (self.kind.label(), self.end.label());
        JOBS_RUNNING.shift(&[kind], -1.0);
        COORDINATOR_LEADER.shift(&[], -1.0);
        JOBS_FINISHED.add(&[kind, end], 1);
        JOB_DURATION.observe(&[kind, end], self.clock.monotonic().saturating_sub(self.began));
    }
}
