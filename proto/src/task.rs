//! Tasks: what a coordinator publishes and a worker does.

use serde::{Deserialize, Serialize};

use crate::id::{Id, JobId, Round, WorkerId};
use crate::job::{Budget, TargetNode};
use crate::name::RawName;
use crate::report::Payload;
use crate::restore::{RestoreKey, RestoreWork};

/// One task of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// `hash(job, scope, round)`: publishing it again is harmless.
    pub id: Id,
    /// The job.
    pub job: JobId,
    /// Raised when a result for the same scope was rejected.
    pub round: Round,
    /// Orders the stages of a restore; 0 elsewhere.
    pub stage: u32,
    /// The sealed object with the facts that all tasks of the job share ([`crate::facts::Facts`]).
    pub facts: Id,
    /// Workers that reported *not my view* for it.
    #[serde(default)]
    pub refused_by: Vec<WorkerId>,
    /// What to do.
    pub work: Work,
}

impl Task {
    /// The id of the task that does `work` in `round` of `job`.
    pub fn id_for(job: &JobId, work: &Work, round: Round) -> Id {
        let scope = rmp_serde::to_vec_named(&work.scope_key()).unwrap_or_default();
        Id::of_parts([job.as_str().as_bytes(), &[0], &scope, &round.to_be_bytes()])
    }
}

/// What a task does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Walk and store a scope of the tree.
    Archive(ArchiveWork),
    /// Store one byte range of a large file.
    Range(RangeWork),
    /// A part of a restore.
    Restore(RestoreWork),
    /// Read some packs to their end.
    Check(CheckWork),
    /// Nothing: its answer tells that everything published before it was delivered (DESIGN 6).
    Probe(u64),
    /// A kind that a newer release added.
    #[serde(other)]
    Unknown,
}

impl Work {
    /// What makes the task the same task: where it works, not what is known about it.
    fn scope_key(&self) -> ScopeKey<'_> {
        match self {
            Self::Archive(archive) => match &archive.scope {
                Scope::Root { targets } => ScopeKey::Root(targets.iter().map(|target| &target.source).collect()),
                Scope::Names { dir, names } => ScopeKey::Names(dir, names),
            },
            Self::Range(range) => ScopeKey::Range(&range.path, range.start, range.end, range.exact),
            Self::Restore(restore) => ScopeKey::Restore(restore.key()),
            Self::Check(check) => ScopeKey::Check(check.number),
            Self::Probe(number) => ScopeKey::Probe(*number),
            Self::Unknown => ScopeKey::Unknown,
        }
    }
}

#[derive(Serialize)]
enum ScopeKey<'a> {
    Root(Vec<&'a RawName>),
    Names(&'a RawName, &'a Names),
    Range(&'a RawName, u64, u64, bool),
    Restore(RestoreKey<'a>),
    Check(u64),
    Probe(u64),
    Unknown,
}

/// Walk and store a scope of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveWork {
    /// What of the tree.
    pub scope: Scope,
    /// Trees of the same directory in the parent snapshot and the parent checkpoint, best first.
    #[serde(default)]
    pub parents: Vec<Id>,
    /// The number that the parent snapshot has for the file system of the scope's directory.
    #[serde(default)]
    pub parent_device: Option<u64>,
    /// How the scope's directory looked to who split it off; none for the root.
    #[serde(default)]
    pub view: Option<View>,
    /// With the root: how the parent snapshot has the targets, or what was agreed on since; a worker that sees
    /// something else says so first.
    #[serde(default)]
    pub expected_targets: Vec<(RawName, View)>,
    /// When to stop and report a split.
    pub budget: Budget,
    /// Whether blobs that running jobs stored meanwhile may be borrowed.
    pub borrow: bool,
    /// What cannot be read is believed at once: no other worker is there, or this is the other worker.
    #[serde(default)]
    pub last_word: bool,
}

/// A part of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole data set, from the top of the snapshot's tree.
    Root {
        /// The top of the tree, down to the targets.
        targets: Vec<TargetNode>,
    },
    /// Entries of one directory.
    Names {
        /// Absolute path of the directory in the source.
        dir: RawName,
        /// Which of its entries.
        names: Names,
    },
}

/// Entries of one directory, ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// These.
    Listed(Vec<RawName>),
    /// Entries `from..to` of a listing that is stored as a sealed object (its names, each ended by a zero byte).
    Slice {
        /// The object.
        listing: Id,
        /// First entry.
        from: u64,
        /// Behind the last entry.
        to: u64,
    },
}

/// How a directory or file looked: what must be equal for two workers to see the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Inode number.
    pub inode: u64,
    /// File type bits of `st_mode`.
    pub file_type: u32,
}

/// How a file looked before its first byte was read; a range whose file looks different is not put together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time: seconds, nanoseconds.
    pub modified: (i64, u32),
    /// Change time: seconds, nanoseconds.
    pub changed: (i64, u32),
}

/// Store one byte range of a large file (DESIGN 3.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangeWork {
    /// Absolute path of the file in the source.
    pub path: RawName,
    /// First byte.
    pub start: u64,
    /// Behind the last byte; the file's size for the last range.
    pub end: u64,
    /// `start` is a proven cut: the chain starts there, without an anchor.
    pub exact: bool,
    /// The file as the splitter saw it.
    pub identity: FileIdentity,
    /// Whether blobs that running jobs stored meanwhile may be borrowed.
    pub borrow: bool,
}

/// Read some packs to their end, and compare them with what the index says of them (DESIGN 3.10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckWork {
    /// Counts the job's tasks.
    pub number: u64,
    /// The packs with their blobs: an index file.
    pub packs: Payload,
}
