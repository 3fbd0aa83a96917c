//! What a job brought about, as commands print it with `--json`: the same from a fleet and from one process.

use std::collections::BTreeMap;

use proto::id::{Id, JobId, WorkerId};
use proto::job::RestoreRequest;
use proto::name::RawName;
use proto::report::{Problem, ProblemKind};
use repository::maintenance::check::{CheckReport, Finding};
use serde::{Deserialize, Serialize};

use crate::backup::BackupDone;
use crate::restore::RestoreDone;

/// Lists of problems are cut there where the summary has to fit into a document of the job state.
const LIST_BYTES_MAX: usize = 128 << 10;
/// Workers beyond this are not told apart there.
const WORKERS_MAX: usize = 500;

/// The type of every summary among other lines of JSON.
fn message_type() -> String {
    "summary".to_owned()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a backup brought about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `proto::report::Counts` under restic's names")]
pub struct BackupSummary {
    #[serde(default = "message_type")]
    pub message_type: String,
    pub job: JobId,
    pub snapshot_id: Id,
    pub tree: Id,
    pub parent: Option<Id>,
    pub resumed: Option<JobId>,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub dirs_new: u64,
    pub dirs_changed: u64,
    pub dirs_unmodified: u64,
    pub data_blobs: u64,
    pub tree_blobs: u64,
    pub data_added: u64,
    pub data_added_packed: u64,
    pub total_files_processed: u64,
    pub total_bytes_processed: u64,
    pub bytes_read: u64,
    pub total_duration: f64,
    pub packs: u64,
    pub group_commits: u64,
    pub index_files: u64,
    pub partitions: Partitions,
    pub seams: Seams,
    pub unreadable: u64,
    pub changed_while_read: u64,
    pub vanished: u64,
    /// The snapshot lacks something.
    #[serde(default)]
    pub incomplete: bool,
    pub problems: Vec<Problem>,
    /// More problems than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub problems_left_out: u64,
}

/// Tasks by what they did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Partitions {
    /// One directory's single entry.
    pub subtree: u64,
    /// Several entries of one directory.
    pub name_range: u64,
    /// A byte range of a large file.
    pub byte_range: u64,
    /// How many of the three each worker finished.
    pub by_worker: BTreeMap<WorkerId, u64>,
}

/// What became of the seams between ranges of large files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seams {
    /// Chains of cuts that met.
    pub matched: u64,
    /// Ranges that were done again.
    pub redone: u64,
    /// Chunks that were stored before a shared cut and are not in the file.
    pub surplus_blobs: u64,
    /// Files that were read whole after all.
    pub files_read_whole: u64,
}

impl BackupSummary {
    /// All of it. `known` are problems that the submitter found before the job began.
    pub fn new(done: &BackupDone, known: &[Problem]) -> Self {
        let (counts, progress) = (&done.counts, &done.progress);
        let problems = [known, &done.problems].concat();
        Self {
            message_type: message_type(),
            job: done.job.clone(),
            snapshot_id: done.snapshot,
            tree: done.tree,
            parent: done.parent,
            resumed: done.resumed.clone(),
            files_new: counts.files_new,
            files_changed: counts.files_changed,
            files_unmodified: counts.files_unmodified,
            dirs_new: counts.dirs_new,
            dirs_changed: counts.dirs_changed,
            dirs_unmodified: counts.dirs_unmodified,
            data_blobs: counts.data_blobs,
            tree_blobs: counts.tree_blobs,
            data_added: counts.bytes_added,
            data_added_packed: counts.bytes_packed,
            total_files_processed: counts.files_new + counts.files_changed + counts.files_unmodified,
            total_bytes_processed: counts.bytes_processed,
            bytes_read: counts.bytes_read,
            total_duration: done.ended_at.since(done.started_at).as_secs_f64(),
            packs: done.packs,
            group_commits: done.group_commits,
            index_files: done.index_files,
            partitions: Partitions {
                subtree: progress.subtree_partitions,
                name_range: progress.name_range_partitions,
                byte_range: progress.byte_range_partitions,
                by_worker: progress.partitions_by_worker.clone(),
            },
            seams: Seams {
                matched: progress.seams_matched,
                redone: progress.seams_redone,
                surplus_blobs: progress.seam_chunks_dropped,
                files_read_whole: progress.files_read_whole,
            },
            unreadable: counts.unreadable,
            changed_while_read: counts.changed_while_read,
            vanished: counts.vanished,
            incomplete: counts.unreadable > 0 || problems.iter().any(|problem| is_loss(problem.kind)),
            problems,
            problems_left_out: 0,
        }
    }

    /// So much of it as fits into a document of the job state.
    pub(crate) fn bounded(done: &BackupDone) -> Self {
        let mut summary = Self::new(done, &[]);
        summary.problems_left_out = bound(&mut summary.problems);
        while summary.partitions.by_worker.len() > WORKERS_MAX {
            summary.partitions.by_worker.pop_last();
        }
        summary
    }
}

/// Whether the snapshot lacks something because of it.
fn is_loss(kind: ProblemKind) -> bool {
    match kind {
        ProblemKind::Unreadable | ProblemKind::Incomplete | ProblemKind::Other => true,
        ProblemKind::NotRestored | ProblemKind::Damaged => true,
        ProblemKind::ChangedWhileRead | ProblemKind::ParentBlobMissing => false,
    }
}

/// Cuts a list where it gets too long; returns how many were cut off.
fn bound<T: Serialize>(list: &mut Vec<T>) -> u64 {
    let mut bytes = 0;
    let fits = |item: &T| {
        bytes += serde_json::to_vec(item).map_or(0, |json| json.len() + 1);
        bytes <= LIST_BYTES_MAX
    };
    let kept = list.iter().map(fits).take_while(|fits| *fits).count();
    let left_out = list.len() - kept;
    list.truncate(kept);
    left_out as u64
}

/// What a restore brought about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `proto::restore::RestoreCounts`")]
pub struct RestoreSummary {
    #[serde(default = "message_type")]
    pub message_type: String,
    pub job: JobId,
    pub snapshot_id: Id,
    pub tree: Id,
    pub target: RawName,
    pub dry_run: bool,
    #[serde(default)]
    pub delete: bool,
    #[serde(default)]
    pub verify: bool,
    pub files_restored: u64,
    pub files_unchanged: u64,
    pub files_skipped: u64,
    pub files_verified: u64,
    pub directories: u64,
    pub others: u64,
    pub hard_links: u64,
    pub deleted: u64,
    pub bytes_written: u64,
    pub bytes_unchanged: u64,
    pub bytes_needed: u64,
    pub bytes_fetched: u64,
    pub requests: u64,
    pub total_duration: f64,
    pub errors: u64,
    /// The repository lost something of it.
    #[serde(default)]
    pub damaged: bool,
    pub problems: Vec<Problem>,
    /// More problems than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub problems_left_out: u64,
}

impl RestoreSummary {
    /// All of it.
    pub fn new(request: &RestoreRequest, done: &RestoreDone) -> Self {
        let counts = &done.counts;
        Self {
            message_type: message_type(),
            job: done.job.clone(),
            snapshot_id: done.snapshot,
            tree: done.tree,
            target: request.target.clone(),
            dry_run: request.dry_run,
            delete: request.delete,
            verify: request.verify,
            files_restored: counts.files_restored,
            files_unchanged: counts.files_unchanged,
            files_skipped: counts.files_skipped,
            files_verified: counts.files_verified,
            directories: counts.directories,
            others: counts.others,
            hard_links: counts.hard_links,
            deleted: counts.deleted,
            bytes_written: counts.bytes_written,
            bytes_unchanged: counts.bytes_unchanged,
            bytes_needed: counts.bytes_needed,
            bytes_fetched: counts.bytes_fetched,
            requests: counts.requests,
            total_duration: done.ended_at.since(done.started_at).as_secs_f64(),
            errors: counts.errors,
            damaged: done.problems.iter().any(|problem| problem.kind == ProblemKind::Damaged),
            problems: done.problems.clone(),
            problems_left_out: 0,
        }
    }

    /// So much of it as fits into a document of the job state.
    pub(crate) fn bounded(request: &RestoreRequest, done: &RestoreDone) -> Self {
        let mut summary = Self::new(request, done);
        summary.problems_left_out = bound(&mut summary.problems);
        summary
    }
}

/// What a check brought about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `repository::maintenance::check::CheckReport`")]
pub struct CheckSummary {
    #[serde(default = "message_type")]
    pub message_type: String,
    pub num_errors: u64,
    pub num_hints: u64,
    pub snapshots: u64,
    pub index_files: u64,
    pub packs: u64,
    pub blobs: u64,
    pub trees: u64,
    pub nodes: u64,
    pub packs_read: u64,
    pub bytes_read: u64,
    pub trees_skipped: bool,
    /// What was found, where it was not told while the check ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// More findings than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub findings_left_out: u64,
}

impl CheckSummary {
    /// The figures.
    pub fn new(report: &CheckReport) -> Self {
        Self {
            message_type: message_type(),
            num_errors: report.error_count,
            num_hints: report.hint_count,
            snapshots: report.snapshots,
            index_files: report.index_files,
            packs: report.packs,
            blobs: report.blobs,
            trees: report.trees,
            nodes: report.nodes,
            packs_read: report.packs_read,
            bytes_read: report.bytes_read,
            trees_skipped: report.trees_skipped,
            findings: Vec::new(),
            findings_left_out: 0,
        }
    }

    /// The figures, and so many findings as fit into a document of the job state; damage first.
    pub(crate) fn bounded(report: &CheckReport) -> Self {
        let mut findings = [report.errors.clone(), report.hints.clone()].concat();
        let found = report.error_count + report.hint_count;
        bound(&mut findings);
        let findings_left_out = found.saturating_sub(findings.len() as u64);
        Self { findings, findings_left_out, ..Self::new(report) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_what_is_cut_is_counted() {
        let mut list = vec!["x".repeat(1 << 10); 1_000];
        let left_out = bound(&mut list);
        assert_eq!(list.len() as u64 + left_out, 1_000);
        assert!((100..128).contains(&list.len()), "{}", list.len());
        assert_eq!(bound(&mut vec!["short"]), 0);
    }
}
