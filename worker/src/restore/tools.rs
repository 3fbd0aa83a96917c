//! What everything in a restore task works with: target, index, figures, problems.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::cpu::Cpu;
use proto::handles::UnixTime;
use proto::job::RestoreRequest;
use proto::report::{PROBLEMS_MAX, Problem, ProblemKind};
use proto::restore::{NamedNode, RestoreCounts};
use repository::blob_index::BlobIndex;
use repository::format::node::{Kind, Node};
use repository::repository::{Repository, RepositoryError};
use sources::restore_target::{
    MetadataOptions, PrepareOptions, ReplaceOptions, RestoreError, RestoreErrorKind, RestoreTarget, WantedMetadata,
};
use sources::source::{ExtendedAttribute, FileKind};
use tokio::sync::Semaphore;

use super::file::FileJob;
use super::selection::Selection;
use crate::error::WorkerError;
use crate::meter::Meter;

/// Why a restore task ends before it is done.
#[derive(Debug)]
pub(super) enum Halt {
    /// The task may be tried again, or is given up.
    Worker(WorkerError),
    /// The job fails, and why.
    Job(String),
}

impl<E: Into<WorkerError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Worker(error.into())
    }
}

/// No space is left in the target: nothing more can be restored.
#[derive(Clone, Debug)]
pub(super) struct Full(pub(super) RestoreError);

impl From<Full> for Halt {
    fn from(Full(error): Full) -> Self {
        Self::Job(format!("no space is left in the target: {error}: {}", error.source))
    }
}

/// What the tasks of one job share on this worker.
pub(super) struct Site {
    pub(super) request: RestoreRequest,
    pub(super) selection: Selection,
    pub(super) index: Arc<BlobIndex>,
    pub(super) repository: Repository,
    /// None in a dry run into a directory that is not there.
    pub(super) target: Option<Arc<dyn RestoreTarget>>,
    pub(super) cpu: Cpu,
    pub(super) meter: Arc<Meter>,
    /// For each file that is kept open between two writes.
    pub(super) handles: Arc<Semaphore>,
}

/// What one task works with.
pub(super) struct Tools {
    pub(super) site: Arc<Site>,
    tally: Mutex<Tally>,
    /// Files of the target with several names that are kept, and which file of the snapshot each is.
    kept: Mutex<HashMap<(u64, u64), (u64, u64)>>,
}

/// What one task has done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: RestoreCounts,
    pub(super) problems: Vec<Problem>,
    /// Directories that get their metadata in the last stage.
    pub(super) directories: Vec<NamedNode>,
    /// Files whose content is written in ranges, and whether they were there.
    pub(super) large: Vec<(Arc<FileJob>, NamedNode, bool)>,
}

impl Tools {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, tally: Mutex::default(), kept: Mutex::default() }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        // Nothing panics while it is held; a poisoned lock holds whole figures.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request(&self) -> &RestoreRequest {
        &self.site.request
    }

    /// The target; only a dry run may have none.
    pub(super) fn target(&self) -> Option<&dyn RestoreTarget> {
        self.site.target.as_deref()
    }

    pub(super) fn prepare_options(&self) -> PrepareOptions {
        PrepareOptions { is_sparse: self.request().sparse, removes_trees: self.request().delete }
    }

    pub(super) fn replace_options(&self) -> ReplaceOptions {
        ReplaceOptions { removes_trees: self.request().delete }
    }

    /// Notes that something could not be restored, or not entirely.
    pub(super) fn problem(&self, kind: ProblemKind, path: &[u8], message: String) {
        tracing::debug!(path = %path.escape_ascii(), message, "not restored as it was");
        let mut tally = self.tally();
        tally.counts.errors += 1;
        if tally.problems.len() < PROBLEMS_MAX {
            tally.problems.push(Problem { kind, path: [b"/", path].concat().into(), message });
        }
    }

    /// Notes an error of the target, unless nothing at all can be written any more.
    pub(super) fn refused(&self, error: RestoreError) -> Result<(), Full> {
        if error.kind == RestoreErrorKind::Full {
            return Err(Full(error));
        }
        let message = format!("{}: {}", error.action, error.source);
        self.problem(ProblemKind::NotRestored, &error.path, message);
        Ok(())
    }

    /// Notes what of the repository is damaged; what may be had later ends the task.
    pub(super) fn unreadable(&self, path: &[u8], error: RepositoryError) -> Result<(), Halt> {
        if !error.is_damage() {
            return Err(error.into());
        }
        self.problem(ProblemKind::Damaged, path, chain(&error));
        Ok(())
    }

    /// Gives an entry its metadata.
    pub(super) fn set_metadata(&self, path: &[u8], wanted: &WantedMetadata) -> Result<(), Full> {
        let Some(target) = self.target().filter(|_| !self.request().dry_run) else { return Ok(()) };
        match target.set_metadata(path, wanted, MetadataOptions::default()) {
            Err(error) => self.refused(error),
            Ok(outcome) => {
                for problem in outcome.problems {
                    let error = problem.error;
                    let message = format!("{}: {}", error.action, error.source);
                    if problem.is_expected {
                        tracing::debug!(path = %path.escape_ascii(), message, "metadata is left as it is");
                    } else {
                        self.problem(ProblemKind::Incomplete, path, message);
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether the file of the target with several names may stand for this one of the snapshot: no other does.
    pub(super) fn keep(&self, there: (u64, u64), wanted: (u64, u64)) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept.entry(there).or_insert(wanted) == wanted
    }

    /// Adds to the figures that people see.
    pub(super) fn show_progress(&self, entries: u64, bytes: u64) {
        Meter::add(&self.site.meter.entries, entries);
        Meter::add(&self.site.meter.bytes_done, bytes);
    }
}

/// The error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A directory of the target.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: Vec<u8>,
    fresh: AtomicBool,
}

impl Directory {
    pub(super) fn new(path: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { path, fresh: AtomicBool::new(false) })
    }

    /// The path of an entry.
    pub(super) fn child(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }

    /// It was made by this task: nothing is in it but what this task puts there.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Acquire)
    }

    pub(super) fn mark_fresh(&self) {
        self.fresh.store(true, Ordering::Release);
    }
}

/// A path below the target.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// The directory of `path` and nothing for the target itself.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// What the target calls this kind; none for kinds that are not restored.
pub(super) fn file_kind(kind: Kind) -> Option<FileKind> {
    match kind {
        Kind::File => Some(FileKind::File),
        Kind::Dir => Some(FileKind::Directory),
        Kind::Symlink => Some(FileKind::Symlink),
        Kind::Device => Some(FileKind::BlockDevice),
        Kind::CharDevice => Some(FileKind::CharacterDevice),
        Kind::Fifo => Some(FileKind::Fifo),
        Kind::Socket | Kind::Irregular | Kind::Unknown => None,
    }
}

/// The metadata that a node says.
pub(super) fn wanted_metadata(node: &Node) -> WantedMetadata {
    let attribute = |attribute: &repository::format::node::ExtendedAttribute| ExtendedAttribute {
        name: attribute.name.clone(),
        value: attribute.value.clone(),
    };
    WantedMetadata {
        kind: file_kind(node.kind).unwrap_or(FileKind::Unknown),
        permissions: node.permissions(),
        uid: node.uid,
        gid: node.gid,
        modified: node.mtime.instant(),
        accessed: node.atime.instant(),
        extended_attributes: node.extended_attributes.iter().map(attribute).collect(),
    }
}

/// A node as it travels, without its content.
pub(super) fn named_node(path: &[u8], node: &Node) -> NamedNode {
    let bare = Node { content: None, ..node.clone() };
    let mut encoded = Vec::new();
    bare.encode(&mut encoded);
    NamedNode { path: path.into(), node: encoded }
}

/// Seconds and nanoseconds, as they travel.
pub(super) fn instant(time: UnixTime) -> (i64, u32) {
    (time.seconds, time.nanos)
}
