//! What a coordinator counts: jobs and how they end, what they have open, and when data sets were safe last.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet::metrics::table::{BORROWED_REJECTED, FENCED_WRITES, TASKS_IN_FLIGHT};
use fleet::metrics::{JobEnd, JobKind, RunningJob, SnapshotFigures, data_set_label, show_data_set};
use proto::handles::{Clock, UnixTime};
use proto::id::Epoch;
use proto::report::Counts;
use proto::restore::RestoreCounts;
use repository::format::quote::lossy;
use repository::format::snapshot::Snapshot;
use repository::repository::{Repository, RepositoryError};

use crate::error::JobError;
use crate::job::Progress;
use crate::lead::Ended;
use crate::perform::Performer;

/// Data sets whose figures are shown from the start; of more, those that were written last.
const DATA_SETS_SHOWN: usize = 500;

/// Shows the newest snapshot of each data set, as the repository has it: to be called when a coordinator starts, so that
/// its restart does not make anybody believe that nothing was ever safe.
///
/// # Errors
/// The snapshots cannot be listed or read. Damaged ones are left out.
pub async fn show_data_sets(repository: &Repository) -> Result<(), RepositoryError> {
    let mut newest: BTreeMap<String, SnapshotFigures> = BTreeMap::new();
    for (_, snapshot) in repository.load_snapshots().await?.snapshots {
        let figures = figures_of(&snapshot);
        let label = data_set_label(&snapshot.hostname, snapshot.paths.iter().map(String::as_str));
        let known = newest.entry(label).or_insert(figures);
        if known.time < figures.time {
            *known = figures;
        }
    }
    let mut newest: Vec<(String, SnapshotFigures)> = newest.into_iter().collect();
    newest.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.time));
    for (label, figures) in newest.into_iter().take(DATA_SETS_SHOWN) {
        show_data_set(&label, figures);
    }
    Ok(())
}

fn figures_of(snapshot: &Snapshot) -> SnapshotFigures {
    let summary = snapshot.summary.as_ref();
    SnapshotFigures {
        time: snapshot.time.instant(),
        files: summary.map(|summary| summary.total_files_processed),
        bytes: summary.map(|summary| summary.total_bytes_processed),
    }
}

/// A job that this coordinator leads.
pub(crate) struct Counted {
    running: RunningJob,
    /// Of a backup.
    data_set: Option<(String, UnixTime)>,
}

impl Counted {
    /// A backup begins under this coordinator.
    pub(crate) fn backup(performer: &Performer, epoch: Epoch) -> Self {
        let committer = &performer.committer;
        let paths: Vec<String> = committer.request.paths.iter().map(|path| lossy(&path.0)).collect();
        let label = data_set_label(&committer.request.hostname, paths.iter().map(String::as_str));
        let time = committer.request.time.unwrap_or(committer.started_at);
        let running = RunningJob::begin(JobKind::Backup, Some(epoch), performer.doors.clock.clone());
        Self { running, data_set: Some((label, time)) }
    }

    /// A job begins that has no epochs.
    pub(crate) fn of(kind: JobKind, clock: &Arc<dyn Clock>) -> Self {
        Self { running: RunningJob::begin(kind, None, clock.clone()), data_set: None }
    }

    /// A backup ended. Its snapshot, if there is one, was read back.
    pub(crate) fn end(self, ended: &Result<Ended, JobError>) {
        let end = match ended {
            Ok(Ended::Done(done)) => {
                if let Some((label, time)) = &self.data_set {
                    show_data_set(label, figures_of_counts(*time, &done.counts));
                }
                if done.counts.unreadable == 0 { JobEnd::Done } else { JobEnd::Incomplete }
            }
            Ok(Ended::GoesOn { .. }) => JobEnd::Superseded,
            Err(error) => end_of(error),
        };
        self.running.end(end);
    }

    /// A check ended; what it found is its result.
    pub(crate) fn end_check<T>(self, ended: &Result<T, JobError>) {
        self.running.end(ended.as_ref().map_or_else(end_of, |_| JobEnd::Done));
    }

    /// A restore ended.
    pub(crate) fn end_restore(self, ended: &Result<(), JobError>, counts: &RestoreCounts) {
        self.running.end(match ended {
            Ok(()) if counts.errors == 0 => JobEnd::Done,
            Ok(()) => JobEnd::Incomplete,
            Err(error) => end_of(error),
        });
    }
}

fn end_of(error: &JobError) -> JobEnd {
    match error {
        JobError::Cancelled => JobEnd::Cancelled,
        JobError::Fenced { .. } | JobError::HandedOver { .. } => JobEnd::Left,
        _ => JobEnd::Failed,
    }
}

fn figures_of_counts(time: UnixTime, counts: &Counts) -> SnapshotFigures {
    let files = counts.files_new + counts.files_changed + counts.files_unmodified;
    SnapshotFigures { time, files: Some(files), bytes: Some(counts.bytes_processed) }
}

/// What one job adds to figures that all jobs of a pool share.
pub(crate) struct JobFigures {
    pool: String,
    tasks_open: u64,
    borrowed_rejected: u64,
}

impl JobFigures {
    /// Of a job that stands here: one that was taken over knows what was rejected before.
    pub(crate) fn new(pool: &str, standing: &Progress) -> Self {
        Self { pool: pool.to_owned(), tasks_open: 0, borrowed_rejected: standing.borrowed_rejected }
    }

    /// Shows how far the job is.
    pub(crate) fn show(&mut self, progress: &Progress) {
        self.show_open(progress.tasks_open);
        let rejected = progress.borrowed_rejected.saturating_sub(self.borrowed_rejected);
        if rejected > 0 {
            BORROWED_REJECTED.add(&[&self.pool], rejected);
        }
        self.borrowed_rejected = progress.borrowed_rejected;
    }

    fn show_open(&mut self, tasks_open: u64) {
        if tasks_open != self.tasks_open {
            TASKS_IN_FLIGHT.shift(&[&self.pool], tasks_open as f64 - self.tasks_open as f64);
            self.tasks_open = tasks_open;
        }
    }

    /// Counts a job that may not write any more.
    pub(crate) fn count_refusal<T>(&self, ended: &Result<T, JobError>) {
        if matches!(ended, Err(JobError::Fenced { .. } | JobError::LockLost(_))) {
            FENCED_WRITES.add(&[&self.pool], 1);
        }
    }
}

impl Drop for JobFigures {
    fn drop(&mut self) {
        self.show_open(0);
    }
}
