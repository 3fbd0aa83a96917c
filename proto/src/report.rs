//! Reports: what a worker says of a task. The coordinator believes the first one of an open (task, round).

use serde::{Deserialize, Serialize};

use crate::facts::HostFacts;
use crate::handles::UnixTime;
use crate::id::{Id, Round, WorkerId};
use crate::name::RawName;
use crate::task::{FileIdentity, Names, View};

/// One entry of a job's report stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// A pack is durable. Comes before every result that needs it.
    Pack(PackReport),
    /// A task ended.
    Result(Box<ResultReport>),
    /// A report that is too long for a message: MessagePack of a [`Report`].
    Long(Payload),
    /// Something of a task reached the dead letters; appended by whoever reads the notice.
    Dead(DeadReport),
    /// A kind that a newer release added.
    #[serde(other)]
    Unknown,
}

/// A pack is durable. What it holds is read from its own header: that is what the repository believes too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackReport {
    /// The pack.
    pub pack: Id,
    /// Its length in bytes.
    pub size: u64,
    /// Length of its sealed header in bytes, without the length field.
    pub header_bytes: u32,
    /// Who wrote it.
    pub worker: WorkerId,
    /// It was closed before it was full, by this group commit of the worker, counted from 1; 0: it was full.
    #[serde(default)]
    pub group_commit: u32,
}

/// A task was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadReport {
    /// The task.
    pub task: Id,
    /// Its round.
    pub round: Round,
    /// Short code, such as `starts`, `schema`, `auth`.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

/// A task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultReport {
    /// The task.
    pub task: Id,
    /// Its round.
    pub round: Round,
    /// Who did it.
    pub worker: WorkerId,
    /// What came of it.
    pub outcome: Outcome,
    /// Packs that hold blobs which this result refers to and this worker stored.
    pub packs: Vec<Id>,
    /// Blobs that this result refers to, and which are neither in G nor in `packs`.
    pub borrowed: Payload,
    /// Figures of what this task finished. Whoever finishes what it left open counts that.
    pub counts: Counts,
    /// What could not be read, and the like; at most [`PROBLEMS_MAX`], `counts` has the number.
    pub problems: Vec<Problem>,
    /// When it ended.
    pub ended_at: UnixTime,
}

/// At most so many problems are listed in one report.
pub const PROBLEMS_MAX: usize = 200;

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, or split: then some items are open.
    Archived(Archived),
    /// A byte range is stored.
    Range(RangeResult),
    /// This worker does not see what the splitter saw.
    NotMyView(NotMyView),
    /// A part of a restore is done.
    Restored(Box<crate::restore::Restored>),
    /// Packs were read.
    Checked(Checked),
    /// A probe arrived.
    Probed,
    /// An error that trying again elsewhere will not mend.
    Failed {
        /// One sentence for people.
        reason: String,
    },
    /// A kind that a newer release added.
    #[serde(other)]
    Unknown,
}

/// What an archive task made of its scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Archived {
    /// The scope's entries, ascending by name.
    pub items: Vec<Item>,
    /// With the root task: the host's facts and what the targets look like.
    #[serde(default)]
    pub root: Option<RootView>,
    /// Of the report's figures: what is missing from directories that this task did not finish.
    #[serde(default)]
    pub missing: Missing,
}

/// Entries that are missing from a directory: whoever does its other entries again does not meet them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// They could not be read.
    pub unreadable: u64,
    /// They were gone when they were read.
    pub vanished: u64,
}

/// What the worker that did the root task saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootView {
    /// User and group tables, device numbers as this worker sees them: [`HostFacts`] in MessagePack.
    pub host: Payload,
    /// Each target's view.
    pub targets: Vec<(RawName, View)>,
}

impl RootView {
    /// Decodes host facts.
    ///
    /// # Errors
    /// When the bytes are not [`HostFacts`].
    pub fn decode_host(bytes: &[u8]) -> Result<HostFacts, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

/// Neighbouring entries of a directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// Finished entries.
    Nodes(Fragment),
    /// A directory that is not finished.
    Dir(OpenDir),
    /// A large file that is not finished.
    File(OpenFile),
    /// Entries that were not looked at.
    Open(OpenNames),
    /// A directory on a file system that the map of devices lacks; not looked into.
    Device(NewDevice),
}

/// Finished entries of one directory, ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// First name.
    pub first: RawName,
    /// Last name.
    pub last: RawName,
    /// Number of entries.
    pub count: u64,
    /// The nodes as they stand in the tree, joined by commas.
    pub nodes: Payload,
}

/// A directory that is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenDir {
    /// Name in the tree above.
    pub name: RawName,
    /// Absolute path in the source.
    pub path: RawName,
    /// Its node without `subtree`, taken before its children were read.
    pub node: Vec<u8>,
    /// How it looked.
    pub view: View,
    /// Trees of the same directory in the parents.
    pub parents: Vec<Id>,
    /// The number that the parent snapshot has for the directory's file system.
    #[serde(default)]
    pub parent_device: Option<u64>,
    /// Its entries, ascending; none are missing between them.
    pub items: Vec<Item>,
}

/// A large file that is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenFile {
    /// Name in the tree above.
    pub name: RawName,
    /// Absolute path in the source.
    pub path: RawName,
    /// Its node without `content`, taken before any byte was read.
    pub node: Vec<u8>,
    /// How it looked.
    pub identity: FileIdentity,
    /// Chunks from the start of the file, finished: see [`RangeResult::chunks`].
    pub done: Payload,
    /// Where these end; 0 without any.
    pub done_to: u64,
    /// The parent snapshot has a file of this name.
    #[serde(default)]
    pub is_in_parent: bool,
}

/// Entries that were not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenNames {
    /// Which of the directory's entries.
    pub names: Names,
    /// How many.
    pub count: u64,
    /// First and last name.
    pub bounds: (RawName, RawName),
    /// This worker could not read them; another one shall try before that is believed.
    #[serde(default)]
    pub second_opinion: bool,
}

/// A directory on a file system that the map of devices lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDevice {
    /// Name in the tree above.
    pub name: RawName,
    /// Absolute path in the source.
    pub path: RawName,
    /// `st_dev` as this worker sees it.
    pub device: u64,
    /// The number that the parent snapshot has there.
    pub parent_device: Option<u64>,
}

/// A byte range is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResult {
    /// Where the first stored chunk starts: the first cut of the range's chain at or behind its start.
    pub first_cut: u64,
    /// For each stored chunk: where it ends (u64, little endian) and its id (32 bytes).
    pub chunks: Payload,
    /// Where the last stored chunk ends.
    pub end: u64,
    /// The next range's chain has a cut at `end` too, or the file ends there.
    pub proven: bool,
    /// The file, looked at again after the last read.
    pub identity_after: FileIdentity,
    /// The file, looked at before the first read.
    pub identity_before: FileIdentity,
}

/// Packs were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was found: a list of findings in JSON, as `check` prints them.
    pub findings: Payload,
}

/// This worker does not see what the splitter saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMyView {
    /// The path that looks different.
    pub path: RawName,
    /// It is the root of a target, not only of the scope.
    pub target_root: bool,
    /// What is there; `None`: nothing.
    pub seen: Option<View>,
    /// What is missing is a file system: it is not mounted here.
    #[serde(default)]
    pub mount: bool,
    /// This worker may not read there: the path is outside its roots.
    #[serde(default)]
    pub outside: bool,
    /// With the root task: every target as this worker sees it. None if it saw something else when it began: what moves
    /// is not believed.
    #[serde(default)]
    pub targets_seen: Vec<(RawName, Option<View>)>,
    /// One sentence for people.
    pub message: String,
}

/// Bytes in the message, or in a sealed object where they would be too long for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// Here.
    Inline(#[serde(with = "bytes_field")] Vec<u8>),
    /// In the object of this id (digest of the plain bytes).
    Object {
        /// Its id.
        id: Id,
        /// Its length in bytes.
        bytes: u64,
    },
}

impl Default for Payload {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

impl Payload {
    /// Length in bytes of what it stands for.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Object { bytes, .. } => *bytes,
        }
    }

    /// Whether it stands for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub(crate) mod bytes_field {
    use serde::{Deserializer, Serializer, de::Visitor};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct BytesVisitor;
        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

/// Figures of one task, or summed over the accepted reports of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Files that the parent has not.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files as the parent has them.
    pub files_unmodified: u64,
    /// Directories that the parent has not.
    pub dirs_new: u64,
    /// Directories whose tree differs from the parent's.
    pub dirs_changed: u64,
    /// Directories whose tree is the parent's.
    pub dirs_unmodified: u64,
    /// Entries of any type.
    pub entries: u64,
    /// Sum of the sizes of all files.
    pub bytes_processed: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Data blobs that were stored.
    pub data_blobs: u64,
    /// Tree blobs that were stored.
    pub tree_blobs: u64,
    /// Plain bytes of stored blobs.
    pub bytes_added: u64,
    /// Sealed bytes of stored blobs.
    pub bytes_packed: u64,
    /// Bytes that were stored already.
    pub bytes_deduplicated: u64,
    /// Entries that could not be read.
    pub unreadable: u64,
    /// Files that changed while they were read.
    pub changed_while_read: u64,
    /// Entries that were gone when they were read.
    pub vanished: u64,
}

impl Counts {
    /// Adds another task's figures.
    pub fn add(&mut self, other: &Self) {
        let Self {
            files_new,
            files_changed,
            files_unmodified,
            dirs_new,
            dirs_changed,
            dirs_unmodified,
            entries,
            bytes_processed,
            bytes_read,
            data_blobs,
            tree_blobs,
            bytes_added,
            bytes_packed,
            bytes_deduplicated,
            unreadable,
            changed_while_read,
            vanished,
        } = other;
        self.files_new += files_new;
        self.files_changed += files_changed;
        self.files_unmodified += files_unmodified;
        self.dirs_new += dirs_new;
        self.dirs_changed += dirs_changed;
        self.dirs_unmodified += dirs_unmodified;
        self.entries += entries;
        self.bytes_processed += bytes_processed;
        self.bytes_read += bytes_read;
        self.data_blobs += data_blobs;
        self.tree_blobs += tree_blobs;
        self.bytes_added += bytes_added;
        self.bytes_packed += bytes_packed;
        self.bytes_deduplicated += bytes_deduplicated;
        self.unreadable += unreadable;
        self.changed_while_read += changed_while_read;
        self.vanished += vanished;
    }
}

/// Something about one entry that people should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// Absolute path in the source.
    pub path: RawName,
    /// One sentence for people.
    pub message: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The entry is not in the snapshot.
    Unreadable,
    /// The entry is in the snapshot with less than all of its metadata.
    Incomplete,
    /// The file changed while it was read.
    ChangedWhileRead,
    /// The entry was not restored, or not entirely.
    NotRestored,
    /// The entry was not restored: the repository lost something of it.
    Damaged,
    /// A blob of the parent is not in the index; the file was read again.
    ParentBlobMissing,
    /// A kind that a newer release added.
    #[serde(other)]
    Other,
}
