//! The source door: what a worker may ask of the data that is backed up.
//!
//! All calls block; a worker makes them on its blocking threads, the simulation makes them inline.
//! Paths are raw bytes: absolute, cleaned, in the namespace of the snapshot (a source knows where it
//! has them), and without symbolic links ([`crate::files::targets`] resolves those above a target).
//! A symbolic link is never followed; one that stands where a directory was expected is an error.
//!
//! **Consistency:** none. Between two calls anything may change; each call says what it saw.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use proto::handles::UnixTime;
use serde::{Deserialize, Serialize};

use crate::files::users::UserTable;
use crate::names::Names;

/// A tree of files that can be read.
pub trait Source: Send + Sync {
    /// Whether `path` and what is below may be read at all, whatever is there.
    fn serves(&self, path: &[u8]) -> bool {
        let _ = path;
        true
    }

    /// What `lstat` says of `path`, with link target and extended attributes.
    ///
    /// This and nothing else may be asked of the ancestors of what the source serves; they are stated
    /// *following* symbolic links, for their names are fixed by the configuration.
    fn metadata(&self, path: &[u8]) -> Result<Metadata, SourceError>;

    /// The same for many entries of one directory, which is opened once. One answer per name, in order.
    ///
    /// The outer error is about the directory. Names are not looked up in a listing: `names` may hold
    /// entries that vanished.
    fn metadata_of(&self, directory: &[u8], names: &[&[u8]])
    -> Result<Vec<Result<Metadata, SourceError>>, SourceError>;

    /// All names in `directory`, without `.` and `..`.
    fn list(&self, directory: &[u8]) -> Result<Names, SourceError>;

    /// The same of a directory whose names take at most `bytes_max` of memory; `None` if they take more, which is
    /// noticed as soon as they do.
    fn list_short(&self, directory: &[u8], bytes_max: usize) -> Result<Option<Names>, SourceError> {
        Ok(Some(self.list(directory)?).filter(|names| names.memory_bytes() <= bytes_max))
    }

    /// Opens a regular file for reading, without following a link, without changing its access time
    /// where that is permitted, and without waiting for the other end of a fifo.
    ///
    /// `expected` is what was seen before; if that or what was opened is not a regular file, the error
    /// is [`SourceErrorKind::Changed`]. Whether it is the *same* file is for the caller to judge, from
    /// [`OpenFile::metadata`].
    fn open(&self, path: &[u8], expected: &Metadata) -> Result<Box<dyn OpenFile>, SourceError>;

    /// For each of `under`: the path itself, then every mount point below it, with `st_dev` as this
    /// host has it. Ascending by path, each path once.
    fn mounts(&self, under: &[Vec<u8>]) -> Result<Vec<Mount>, SourceError>;

    /// Names of users and groups on this host.
    fn users(&self) -> Result<UserTable, SourceError>;
}

/// A regular file, open for reading. Keeps reading the same inode when the name is given to another.
pub trait OpenFile: Send {
    /// What `fstat` says now, with extended attributes.
    fn metadata(&self) -> Result<Metadata, SourceError>;

    /// Reads at `offset` and fills `buffer` unless the file ends before: less than `buffer.len()` means
    /// end of file.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError>;
}

/// The type of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device (restic's `dev`).
    BlockDevice,
    /// A character device (restic's `chardev`).
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket, which restic leaves out.
    Socket,
    /// What no type bits of Linux describe; restic refuses it.
    Unknown,
}

impl FileKind {
    /// The type that the S_IFMT bits of `st_mode` say.
    pub fn of_mode(st_mode: u32) -> Self {
        match st_mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o060_000 => Self::BlockDevice,
            0o020_000 => Self::CharacterDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => Self::Unknown,
        }
    }
}

/// One extended attribute, as the kernel gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExtendedAttribute {
    /// Name with its namespace, e.g. `user.comment`.
    #[serde(with = "crate::serialized")]
    pub name: Vec<u8>,
    /// Value; may be empty.
    #[serde(with = "crate::serialized")]
    pub value: Vec<u8>,
}

/// What is known of an entry without reading its content. Numbers are those of `struct stat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The type bits of `st_mode`.
    pub kind: FileKind,
    /// `st_mode`, type bits included.
    pub st_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_size`; for a symbolic link the length of its target.
    pub size: u64,
    /// `st_nlink`.
    pub links: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_dev` as this host numbers it; 3.6 of the design maps it to the data set's number.
    pub device: u64,
    /// `st_rdev`; 0 unless a device.
    pub rdev: u64,
    /// mtime.
    pub modified: UnixTime,
    /// atime.
    pub accessed: UnixTime,
    /// ctime.
    pub changed: UnixTime,
    /// Target of a symbolic link, else empty.
    #[serde(with = "crate::serialized")]
    pub link_target: Vec<u8>,
    /// In the order of listxattr, which restic keeps.
    pub extended_attributes: Vec<ExtendedAttribute>,
    /// What could not be read of link target and attributes; the entry is kept without it.
    pub warnings: Vec<MetadataWarning>,
}

impl Metadata {
    /// Whether both describe the same inode of the same host's file system.
    pub fn is_same_inode(&self, other: &Self) -> bool {
        self.inode == other.inode && self.device == other.device
    }
}

/// Something that is missing in a [`Metadata`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataWarning {
    /// Listing the attributes was not permitted. restic ignores this for directories above a target.
    pub is_list_denied: bool,
    /// What went wrong, with the path.
    pub message: String,
}

impl fmt::Display for MetadataWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// A place where a file system starts, or one of the paths that were asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path in the namespace of the snapshot.
    #[serde(with = "crate::serialized")]
    pub path: Vec<u8>,
    /// `st_dev` of what is mounted there, as this host numbers it.
    pub device: u64,
    /// Whether something is mounted exactly here (else the path was asked about).
    pub is_mount_point: bool,
    /// Type of the file system (`ext4`, `nfs4`), empty if not a mount point.
    pub file_system: String,
}

/// What went wrong with a source, by what a caller would do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// The entry is not there (any more): left out silently if a listing named it.
    Vanished,
    /// The operating system refuses access: reported, exit 3; another worker may be allowed.
    Denied,
    /// Outside the roots of this source: the task must not be done here.
    NotAllowed,
    /// Something of another type stands there now, or a link where a directory was.
    Changed,
    /// Any other error of reading: reported, exit 3; another worker may succeed.
    Unreadable,
}

/// An error of the source door.
#[derive(Clone, thiserror::Error)]
#[error("{action} {}", self.display_path())]
pub struct SourceError {
    /// What went wrong.
    pub kind: SourceErrorKind,
    /// The path in the namespace of the snapshot.
    pub path: Vec<u8>,
    /// The verb: `stat`, `list`, `open`, `read`, `resolve`.
    pub action: &'static str,
    /// The cause.
    #[source]
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

impl SourceError {
    /// An error with an explanation of our own.
    pub fn new(kind: SourceErrorKind, action: &'static str, path: &[u8], explanation: &'static str) -> Self {
        Self { kind, path: path.to_vec(), action, source: Arc::new(Explanation(explanation)) }
    }

    /// The kind that an error of the operating system stands for.
    pub fn from_io(action: &'static str, path: &[u8], error: std::io::Error) -> Self {
        use rustix::io::Errno;
        let kind = match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => SourceErrorKind::Vanished,
            Some(Errno::ACCESS | Errno::PERM) => SourceErrorKind::Denied,
            Some(Errno::NOTDIR | Errno::LOOP | Errno::ISDIR) => SourceErrorKind::Changed,
            _ => SourceErrorKind::Unreadable,
        };
        Self { kind, path: path.to_vec(), action, source: Arc::new(error) }
    }

    /// The path for people; invalid UTF-8 is replaced.
    pub fn display_path(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.path)
    }

    /// Whether the entry is simply not there.
    pub fn is_vanished(&self) -> bool {
        self.kind == SourceErrorKind::Vanished
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {self}: {}", self.kind, self.source)
    }
}

/// A cause that is not an error of the operating system.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Explanation(&'static str);
