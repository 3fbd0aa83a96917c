//! How far a job is, in figures that only accepted reports change.

use proto::task::{Names, Scope, Work};
use serde::{Deserialize, Serialize};

use super::state::OpenTask;

/// More problems are counted, not kept.
pub(super) const PROBLEMS_KEPT_MAX: usize = 10_000;

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Tasks without an accepted result.
    pub tasks_open: u64,
    /// Tasks with one.
    pub tasks_done: u64,
    /// Of these: one directory's single entry.
    pub subtree_partitions: u64,
    /// Of these: several entries of one directory.
    pub name_range_partitions: u64,
    /// Of these: a byte range of a large file.
    pub byte_range_partitions: u64,
    /// Neighbouring ranges whose chains of cuts met.
    pub seams_matched: u64,
    /// Ranges that were done again from a proven cut.
    pub seams_redone: u64,
    /// Chunks that were stored before the shared cut of a seam and are not in the file.
    pub seam_chunks_dropped: u64,
}

impl Progress {
    pub(super) fn note_done(&mut self, task: &OpenTask) {
        self.tasks_done += 1;
        match &task.work {
            Work::Archive(archive) => match &archive.scope {
                Scope::Root { .. } => {}
                Scope::Names { names: Names::Listed(names), .. } if names.len() == 1 => self.subtree_partitions += 1,
                Scope::Names { .. } => self.name_range_partitions += 1,
            },
            Work::Range(_) => self.byte_range_partitions += 1,
            Work::Restore(_) | Work::Probe(_) | Work::Unknown => {}
        }
    }
}
