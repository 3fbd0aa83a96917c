//! The write-back door: where a restore puts files.
//!
//! Paths are raw bytes relative to the target directory: names joined by `/`, none of them empty, `.`
//! or `..`. Whatever a snapshot contains and whatever is planted meanwhile, nothing outside the target
//! is written or followed into: a symbolic link in the way is replaced.
//!
//! **Repeating** a call, also at the same time elsewhere, gives the same result; where the target is
//! already as wanted, nothing is touched (neither content nor times).
//! **Crash:** a call may have happened in part; repeating it completes it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use proto::handles::UnixTime;

use crate::names::Names;
use crate::source::{ExtendedAttribute, FileKind, Metadata};

/// A directory that a snapshot is restored into.
pub trait RestoreTarget: Send + Sync {
    /// What stands at `path`; a link is not followed. The target itself is the empty path.
    fn metadata(&self, path: &[u8]) -> Result<Metadata, RestoreError>;

    /// All names in `directory` (the empty path is the target).
    fn list(&self, directory: &[u8]) -> Result<Names, RestoreError>;

    /// Makes a directory, and those above it, each with mode 0700 until [`RestoreTarget::set_metadata`].
    /// What is no directory and stands in the way is removed.
    fn make_directory(&self, path: &[u8]) -> Result<Effect, RestoreError>;

    /// Makes a regular file with one link ready to be written and opens it.
    ///
    /// A plain file that is there is kept, content and all, but gets the wanted size, never 0 in
    /// between. Anything else is replaced (a directory as [`PrepareOptions`] say). A new one has mode
    /// 0600.
    fn prepare_file(&self, path: &[u8], size: u64, options: PrepareOptions) -> Result<PreparedFile, RestoreError>;

    /// Opens a file that was prepared. Never creates, never changes its size.
    fn open_file(&self, path: &[u8]) -> Result<Box<dyn TargetFile>, RestoreError>;

    /// Opens a regular file that is there only to read it, however many names it has.
    fn read_file(&self, path: &[u8]) -> Result<Box<dyn TargetFile>, RestoreError>;

    /// Makes a symbolic link.
    fn make_symlink(&self, path: &[u8], link_target: &[u8], options: ReplaceOptions) -> Result<Effect, RestoreError>;

    /// Makes a fifo or a device (which needs root). Other kinds are refused.
    fn make_special(
        &self,
        path: &[u8],
        kind: FileKind,
        rdev: u64,
        options: ReplaceOptions,
    ) -> Result<Effect, RestoreError>;

    /// Makes `path` one more name of what stands at `existing`.
    fn make_hard_link(&self, existing: &[u8], path: &[u8], options: ReplaceOptions) -> Result<Effect, RestoreError>;

    /// Owner, attributes, times and permissions, in this order (changing the owner takes away set-user-id
    /// and capabilities; attributes hold access lists, which depend on permissions). What is already
    /// right is left alone.
    ///
    /// All is tried; what failed is told in the outcome. The error is for what is not there or of
    /// another kind.
    fn set_metadata(
        &self,
        path: &[u8],
        wanted: &WantedMetadata,
        options: MetadataOptions<'_>,
    ) -> Result<MetadataOutcome, RestoreError>;

    /// Removes `path` and all below; `removed` hears of each path. Nothing there is no error.
    fn remove_tree(&self, path: &[u8], removed: &mut dyn FnMut(&[u8])) -> Result<(), RestoreError>;
}

/// A regular file of the target, open for reading and writing. Several may be open on one file.
pub trait TargetFile: Send {
    /// What `fstat` says.
    fn metadata(&self) -> Result<Metadata, RestoreError>;

    /// Fills `buffer` from `offset` on; less than its length means end of file.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, RestoreError>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), RestoreError>;

    /// Makes a range inside the file read as zeros, as a hole where the file system can.
    fn punch(&mut self, offset: u64, length: u64) -> Result<(), RestoreError>;
}

/// How a file is prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrepareOptions {
    /// Leave space to be allocated where something is written; else it is allocated now, if possible.
    pub is_sparse: bool,
    /// See [`ReplaceOptions::removes_trees`].
    pub removes_trees: bool,
}

/// What may be removed to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplaceOptions {
    /// Also directories that are not empty (`--delete`). Else they are an error.
    pub removes_trees: bool,
}

/// A file ready to be written.
pub struct PreparedFile {
    /// Open for reading and writing.
    pub file: Box<dyn TargetFile>,
    /// Whether it was there before: then content must be compared and zeros punched; a new one is all
    /// zeros.
    pub was_there: bool,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It was already as wanted.
    Unchanged,
    /// Nothing was there before.
    Created,
    /// Something else stood in the way.
    Replaced,
}

/// The metadata to give to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedMetadata {
    /// What must stand there; anything else is an error.
    pub kind: FileKind,
    /// The twelve permission bits (07777); not used for symbolic links.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// mtime.
    pub modified: UnixTime,
    /// atime.
    pub accessed: UnixTime,
    /// All attributes; others are removed.
    pub extended_attributes: Vec<ExtendedAttribute>,
}

/// Whether the attribute with this name is restored.
pub type SelectsAttribute<'a> = dyn Fn(&[u8]) -> bool + 'a;

/// Which metadata to restore.
#[derive(Clone, Copy, Default)]
pub struct MetadataOptions<'a> {
    /// Attributes for which this says no are neither set nor removed. None: all are restored.
    pub selects_attribute: Option<&'a SelectsAttribute<'a>>,
}

/// What became of metadata.
#[derive(Debug, Default)]
pub struct MetadataOutcome {
    /// Whether anything was changed.
    pub is_changed: bool,
    /// What could not be done.
    pub problems: Vec<MetadataProblem>,
}

/// A piece of metadata that could not be restored.
#[derive(Debug)]
pub struct MetadataProblem {
    /// The file system has no such thing, or only root may set it and we are not root: worth a warning,
    /// no failure.
    pub is_expected: bool,
    /// What failed.
    pub error: RestoreError,
}

/// What went wrong, by what a caller would do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestoreErrorKind {
    /// The name would lead out of the target, or is none. The snapshot is hostile or broken.
    NotAllowed,
    /// What should be there is not.
    Vanished,
    /// What stands there is of another kind than it was prepared to be.
    Changed,
    /// A directory that is not empty, or a mount point, stands in the way.
    InTheWay,
    /// The operating system refuses.
    Denied,
    /// No space or quota left.
    Full,
    /// The file system cannot do this.
    NotSupported,
    /// Any other error.
    Failed,
}

/// An error of the write-back door.
#[derive(Clone, thiserror::Error)]
#[error("{action} {}", self.display_path())]
pub struct RestoreError {
    /// What went wrong.
    pub kind: RestoreErrorKind,
    /// The path in the target.
    pub path: Vec<u8>,
    /// Verb and perhaps object, e.g. `create`, `set owner of`.
    pub action: Cow<'static, str>,
    /// The cause.
    #[source]
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

impl RestoreError {
    /// The kind that an error of the operating system stands for.
    pub fn from_io(action: impl Into<Cow<'static, str>>, path: &[u8], error: std::io::Error) -> Self {
        use rustix::io::Errno;
        let kind = match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => RestoreErrorKind::Vanished,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => RestoreErrorKind::Denied,
            Some(Errno::NOTDIR | Errno::LOOP | Errno::ISDIR) => RestoreErrorKind::Changed,
            Some(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => RestoreErrorKind::InTheWay,
            Some(Errno::NOSPC | Errno::DQUOT) => RestoreErrorKind::Full,
            Some(Errno::OPNOTSUPP | Errno::NOSYS) => RestoreErrorKind::NotSupported,
            _ => RestoreErrorKind::Failed,
        };
        Self { kind, path: path.to_vec(), action: action.into(), source: Arc::new(error) }
    }

    /// An error with an explanation of our own.
    pub fn new(
        kind: RestoreErrorKind,
        action: impl Into<Cow<'static, str>>,
        path: &[u8],
        explanation: &'static str,
    ) -> Self {
        Self { kind, path: path.to_vec(), action: action.into(), source: Arc::new(Explanation(explanation)) }
    }

    /// The path for people; invalid UTF-8 is replaced.
    pub fn display_path(&self) -> Cow<'_, str> {
        if self.path.is_empty() { "the target directory".into() } else { String::from_utf8_lossy(&self.path) }
    }
}

impl fmt::Debug for RestoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {self}: {}", self.kind, self.source)
    }
}

/// A cause that is not an error of the operating system.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Explanation(&'static str);
