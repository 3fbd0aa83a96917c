//! Restore: what its tasks are told and what they report (DESIGN 3.9).
//!
//! Paths are those of the target: names joined by `/`, without a leading one; the target itself is the empty path.
//! Trees never change, so a scope names its tree, and names in it as its bounds.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::job::{Budget, RestoreRequest};
use crate::name::RawName;
use crate::report::Payload;

/// Scopes of the tree are restored.
pub const STAGE_SCOPES: u32 = 1;
/// What of large files and files with several names the scopes left out is written.
pub const STAGE_CONTENT: u32 = 2;
/// Further names of files are linked, large files get their metadata.
pub const STAGE_LINKS: u32 = 3;
/// Directories that several tasks worked in get their metadata.
pub const STAGE_DIRECTORIES: u32 = 4;
/// What the job left in the target is removed.
pub const STAGE_CLOSE: u32 = 5;

/// What becomes of files that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overwrite {
    /// They get what differs.
    #[default]
    Always,
    /// Files of the same size and modification time are taken as equal, and not read.
    IfChanged,
    /// What is not older than in the snapshot is left as it is.
    IfNewer,
    /// What is there is left as it is.
    Never,
}

/// What all tasks of a restore share; sealed, named in every task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreFacts {
    /// The index files that existed when the job started.
    pub index_files: Vec<Id>,
    /// What is asked for.
    pub request: RestoreRequest,
    /// The marker in the target, by which a worker sees that it sees the same one; none before the first report.
    pub marker: Option<RawName>,
}

/// What a task of a restore does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreWork {
    /// Restore a part of the tree.
    Scope(Box<RestoreScope>),
    /// Write a part of a large file, which was prepared.
    Range(RestoreRange),
    /// Write these files ([`NamedNode`]s).
    Files(Payload),
    /// Give these entries their metadata, in this order ([`NamedNode`]s).
    Metadata(Payload),
    /// Make further names of files ([`FurtherName`]s).
    Links(Payload),
    /// Remove what the job left in the target.
    Close,
}

impl RestoreWork {
    /// What makes the task the same task.
    pub(crate) fn key(&self) -> RestoreKey<'_> {
        match self {
            Self::Scope(scope) => RestoreKey::Scope(&scope.part.path, &scope.part.after, &scope.part.until),
            Self::Range(range) => RestoreKey::Range(&range.path, range.offset),
            Self::Files(list) => RestoreKey::Files(list),
            Self::Metadata(list) => RestoreKey::Metadata(list),
            Self::Links(list) => RestoreKey::Links(list),
            Self::Close => RestoreKey::Close,
        }
    }
}

/// See [`RestoreWork::key`].
#[derive(Serialize)]
pub(crate) enum RestoreKey<'a> {
    Scope(&'a RawName, &'a Option<RawName>, &'a Option<RawName>),
    Range(&'a RawName, u64),
    Files(&'a Payload),
    Metadata(&'a Payload),
    Links(&'a Payload),
    Close,
}

/// Restore a part of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreScope {
    /// Which part.
    pub part: TreePart,
    /// When to stop and report what is left.
    pub budget: Budget,
    /// It is the whole tree, and no other task works beside this one: the budget does not count.
    pub whole: bool,
}

/// Entries of one directory, with everything below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreePart {
    /// The directory.
    pub path: RawName,
    /// Its tree.
    pub tree: Id,
    /// Only entries behind this name.
    #[serde(default)]
    pub after: Option<RawName>,
    /// Only entries up to this name.
    #[serde(default)]
    pub until: Option<RawName>,
    /// The directory itself is selected, so what the snapshot has not may be removed from it.
    pub selected: bool,
    /// The directory and those above that nobody has made yet, because nothing below was selected so far; top first.
    #[serde(default)]
    pub unmade: Vec<NamedNode>,
}

/// An entry of the snapshot, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedNode {
    /// Path in the target.
    pub path: RawName,
    /// The node as it stands in the tree; without its content where that is not needed.
    #[serde(with = "crate::report::bytes_field")]
    pub node: Vec<u8>,
}

/// A further name of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FurtherName {
    /// The name that is there.
    pub existing: RawName,
    /// The name to make.
    pub path: RawName,
    /// When the file was last changed (seconds, nanoseconds), for [`Overwrite::IfNewer`].
    pub modified: (i64, u32),
}

/// Write a part of a large file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRange {
    /// The file.
    pub path: RawName,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// The file's data blobs: 32 bytes each.
    pub content: Payload,
    /// First blob of the part.
    pub from: u64,
    /// Behind its last blob.
    pub to: u64,
    /// The file was there before: it is compared, and zeros are punched.
    pub was_there: bool,
}

/// What a task of a restore did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// Figures of this task.
    pub counts: RestoreCounts,
    /// What it did not look at.
    pub open: Vec<TreePart>,
    /// Directories that get their metadata when all is in them ([`NamedNode`]s).
    pub directories: Payload,
    /// Files whose content is written in ranges. They are prepared.
    pub large_files: Vec<LargeFile>,
    /// Files with several names, not all of them in this scope ([`LinkedFile`]s).
    pub linked: Payload,
    /// With the first task: the marker that it put into the target.
    #[serde(default)]
    pub marker: Option<RawName>,
}

/// A file whose content is written in ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeFile {
    /// Path in the target.
    pub path: RawName,
    /// Its node without `content`.
    #[serde(with = "crate::report::bytes_field")]
    pub node: Vec<u8>,
    /// Its data blobs: 32 bytes each.
    pub content: Payload,
    /// Where each range begins: its offset in bytes, and its first blob.
    pub ranges: Vec<(u64, u64)>,
    /// It was there before.
    pub was_there: bool,
}

/// A file with several names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedFile {
    /// Its inode number in the snapshot.
    pub inode: u64,
    /// Its device number in the snapshot.
    pub device: u64,
    /// Its names in this scope; never none.
    pub names: Vec<RawName>,
    /// Its node, with content; empty if the first name is restored already.
    #[serde(with = "crate::report::bytes_field")]
    pub node: Vec<u8>,
    /// When it was last changed: seconds, nanoseconds.
    pub modified: (i64, u32),
}

/// Figures of one task, or summed over a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreCounts {
    /// Files that got content, or were made.
    pub files_restored: u64,
    /// Files whose content was as wanted.
    pub files_unchanged: u64,
    /// Files left as they are, because of [`Overwrite`].
    pub files_skipped: u64,
    /// Directories, made or not.
    pub directories: u64,
    /// Links, fifos and devices, made or not.
    pub others: u64,
    /// Further names of files, made or not.
    pub hard_links: u64,
    /// Entries that were removed because the snapshot has them not.
    pub deleted: u64,
    /// Bytes of content that were written.
    pub bytes_written: u64,
    /// Bytes of content that were as wanted.
    pub bytes_unchanged: u64,
    /// Sealed bytes that were needed from packs.
    pub bytes_needed: u64,
    /// Bytes that were read from packs to get them.
    pub bytes_fetched: u64,
    /// Reads of packs.
    pub requests: u64,
    /// Files that were read again and compared.
    pub files_verified: u64,
    /// What could not be restored, or not entirely.
    pub errors: u64,
}

impl RestoreCounts {
    /// Adds another task's figures.
    pub fn add(&mut self, other: &Self) {
        let Self {
            files_restored,
            files_unchanged,
            files_skipped,
            directories,
            others,
            hard_links,
            deleted,
            bytes_written,
            bytes_unchanged,
            bytes_needed,
            bytes_fetched,
            requests,
            files_verified,
            errors,
        } = other;
        self.files_restored += files_restored;
        self.files_unchanged += files_unchanged;
        self.files_skipped += files_skipped;
        self.directories += directories;
        self.others += others;
        self.hard_links += hard_links;
        self.deleted += deleted;
        self.bytes_written += bytes_written;
        self.bytes_unchanged += bytes_unchanged;
        self.bytes_needed += bytes_needed;
        self.bytes_fetched += bytes_fetched;
        self.requests += requests;
        self.files_verified += files_verified;
        self.errors += errors;
    }
}

/// Bytes of a list for a [`Payload`].
pub fn encode_list<T: Serialize>(list: &[T]) -> Vec<u8> {
    // Plain structs of numbers, bytes and text: encoding them cannot fail.
    if list.is_empty() { Vec::new() } else { rmp_serde::to_vec(list).unwrap_or_default() }
}

/// The list of a [`Payload`].
///
/// # Errors
/// When the bytes are no such list.
pub fn decode_list<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, rmp_serde::decode::Error> {
    if bytes.is_empty() { Ok(Vec::new()) } else { rmp_serde::from_slice(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;
    use crate::task::{Task, Work};

    fn node(path: &str) -> NamedNode {
        NamedNode { path: path.as_bytes().into(), node: vec![0xff; 300] }
    }

    #[test]
    fn lists_survive_and_cost_what_their_bytes_cost() {
        let list = vec![node("a/b"), node("\u{e4}")];
        let bytes = encode_list(&list);
        assert!(bytes.len() < 640, "{}", bytes.len());
        assert_eq!(decode_list::<NamedNode>(&bytes).unwrap(), list);
        assert_eq!(decode_list::<NamedNode>(&encode_list::<NamedNode>(&[])).unwrap(), []);
        assert!(decode_list::<NamedNode>(&bytes[..100]).is_err());
    }

    #[test]
    fn a_task_is_the_same_wherever_its_budget_ends() {
        let job = JobId::new("job").unwrap();
        let scope = |after: Option<&str>, entries| {
            let part = TreePart {
                path: b"d".as_slice().into(),
                tree: Id::of(b"tree"),
                after: after.map(|name| name.as_bytes().into()),
                until: None,
                selected: true,
                unmade: vec![node("d")],
            };
            let budget = Budget { entries, ..Budget::default() };
            let work = Work::Restore(RestoreWork::Scope(Box::new(RestoreScope { part, budget, whole: false })));
            let bytes = rmp_serde::to_vec_named(&work).unwrap();
            assert_eq!(rmp_serde::from_slice::<Work>(&bytes).unwrap(), work);
            Task::id_for(&job, &work, 0)
        };
        assert_eq!(scope(None, 1), scope(None, 2));
        assert_ne!(scope(None, 1), scope(Some("x"), 1));
    }

    #[test]
    fn requests_of_older_submitters_are_read() {
        let json = format!(r#"{{"snapshot":"{}","path":"","target":"/t"}}"#, Id::of(b"s"));
        let request: RestoreRequest = serde_json::from_str(&json).unwrap();
        assert_eq!(request.overwrite, Overwrite::Always);
        assert!(!request.verify);
        assert_eq!(serde_json::to_value(Overwrite::IfChanged).unwrap(), "if-changed");
    }
}
