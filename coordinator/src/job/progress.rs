//! How far a job is, in figures that only accepted reports change.

use std::collections::BTreeMap;

use proto::id::WorkerId;
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
    /// How many of the three kinds each worker finished.
    #[serde(default)]
    pub partitions_by_worker: BTreeMap<WorkerId, u64>,
    /// Neighbouring ranges whose chains of cuts met.
    pub seams_matched: u64,
    /// Ranges that were done again from a proven cut.
    pub seams_redone: u64,
    /// Chunks that were stored before the shared cut of a seam and are not in the file.
    pub seam_chunks_dropped: u64,
    /// Large files that were read whole by one worker after all: ranges did not see one and the same file.
    #[serde(default)]
    pub files_read_whole: u64,
    /// Results that were done again, since what they borrowed is in no index.
    #[serde(default)]
    pub borrowed_rejected: u64,
    /// Entries that are done; packs, in a check.
    #[serde(default)]
    pub entries: u64,
    /// Bytes of files that are done; of packs, in a check.
    #[serde(default)]
    pub bytes_done: u64,
    /// Bytes that there are to do, where that is known.
    #[serde(default)]
    pub bytes_total: Option<u64>,
    /// Bytes read from the source; from packs, in a restore.
    #[serde(default)]
    pub bytes_read: u64,
    /// Bytes of blobs that were stored.
    #[serde(default)]
    pub bytes_stored: u64,
    /// How often a worker did not see the data set, or may not read or write there.
    #[serde(default)]
    pub refusals: u64,
}

impl Progress {
    pub(super) fn note_done(&mut self, task: &OpenTask, worker: &WorkerId) {
        self.tasks_done += 1;
        let partitions = match &task.work {
            Work::Archive(archive) => match &archive.scope {
                Scope::Root { .. } => return,
                Scope::Names { names: Names::Listed(names), .. } if names.len() == 1 => &mut self.subtree_partitions,
                Scope::Names { .. } => &mut self.name_range_partitions,
            },
            Work::Range(_) => &mut self.byte_range_partitions,
            Work::Restore(_) | Work::Check(_) | Work::Probe(_) | Work::Unknown => return,
        };
        *partitions += 1;
        *self.partitions_by_worker.entry(worker.clone()).or_default() += 1;
    }
}
