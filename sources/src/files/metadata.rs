//! `struct stat`, link target and extended attributes of an entry.
//!
//! There is no `listxattr` relative to a directory descriptor (before Linux 6.13), and none for
//! descriptors that only name an entry: the attributes are read through `/proc/self/fd/<directory>/<name>`,
//! which neither follows a link nor depends on how the directory is called now.

use std::io::{self, Write};

use proto::handles::UnixTime;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use crate::source::{ExtendedAttribute, FileKind, Metadata, MetadataWarning, SourceError, SourceErrorKind};

/// Room for an attribute list or value to begin with; larger ones are asked for their size.
const BUFFER_BYTES: usize = 4096;

/// How often a list or value may grow between asking for its size and reading it.
const GROWTH_ATTEMPTS: usize = 10;

/// Whose attributes are asked for.
#[derive(Clone, Copy)]
enum AttributesOf<'a> {
    /// An open file.
    Descriptor(BorrowedFd<'a>),
    /// A path under /proc; a link at its end is not followed.
    Path(&'a [u8]),
    /// The same, followed: /proc/self/fd/N itself.
    Followed(&'a [u8]),
}

/// Reads metadata; keeps its buffers from one entry to the next.
#[derive(Default)]
pub(super) struct MetadataReader {
    path: Vec<u8>,
    list: Vec<u8>,
    value: Vec<u8>,
}

impl MetadataReader {
    /// The entry `name` of `directory`. `path` is for errors.
    pub(super) fn read_entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<Metadata, SourceError> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
            .map_err(|errno| SourceError::from_io("stat", path, errno.into()))?;
        let mut metadata = basic(&stat);
        if metadata.kind == FileKind::Symlink {
            match rustix::fs::readlinkat(directory, name, Vec::new()) {
                Ok(target) => metadata.link_target = target.into_bytes(),
                Err(Errno::INVAL) => {
                    return Err(SourceError::new(SourceErrorKind::Changed, "stat", path, "it is no longer a link"));
                }
                Err(errno @ Errno::NOENT) => return Err(SourceError::from_io("stat", path, errno.into())),
                Err(errno) => metadata.warnings.push(warning("read the link", path, errno)),
            }
        }
        self.path.clear();
        write!(self.path, "/proc/self/fd/{}/", directory.as_raw_fd()).map_err(|error| {
            // A write to a vector does not fail.
            SourceError::from_io("stat", path, error)
        })?;
        self.path.extend_from_slice(name);
        let proc_path = std::mem::take(&mut self.path);
        let result = self.attributes(AttributesOf::Path(&proc_path), path, &mut metadata);
        self.path = proc_path;
        match result {
            Err(Errno::NOENT) if is_proc_there() => Err(SourceError::from_io("stat", path, Errno::NOENT.into())),
            _ => Ok(metadata),
        }
    }

    /// What `descriptor` (which may only name it) stands for; never a symbolic link.
    pub(super) fn read_itself(&mut self, descriptor: BorrowedFd<'_>, path: &[u8]) -> io::Result<Metadata> {
        let mut metadata = basic(&rustix::fs::statat(descriptor, "", AtFlags::EMPTY_PATH)?);
        let proc_path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        // A failure has become a warning.
        let _ = self.attributes(AttributesOf::Followed(proc_path.as_bytes()), path, &mut metadata);
        Ok(metadata)
    }

    /// An open file.
    pub(super) fn read_open(&mut self, descriptor: BorrowedFd<'_>, path: &[u8]) -> io::Result<Metadata> {
        let mut metadata = basic(&rustix::fs::fstat(descriptor)?);
        // A failure has become a warning.
        let _ = self.attributes(AttributesOf::Descriptor(descriptor), path, &mut metadata);
        Ok(metadata)
    }

    /// Fills the attributes of `metadata`; what cannot be read becomes a warning. The error is that of
    /// listing, if it failed.
    fn attributes(&mut self, of: AttributesOf<'_>, path: &[u8], metadata: &mut Metadata) -> Result<(), Errno> {
        let length = match read_growing(&mut self.list, |buffer| of.list(buffer), || of.list_bytes()) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::NODATA) => return Ok(()),
            Err(errno) => {
                let mut warning = warning("list the extended attributes", path, errno);
                warning.is_list_denied = matches!(errno, Errno::ACCESS | Errno::PERM);
                metadata.warnings.push(warning);
                return Err(errno);
            }
        };
        let list = std::mem::take(&mut self.list);
        for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            match read_growing(&mut self.value, |buffer| of.value(name, buffer), || of.value_bytes(name)) {
                Ok(length) => metadata
                    .extended_attributes
                    .push(ExtendedAttribute { name: name.to_vec(), value: self.value[..length].to_vec() }),
                Err(Errno::OPNOTSUPP | Errno::NODATA) => {}
                Err(errno) => {
                    let what = format!("read the extended attribute {}", String::from_utf8_lossy(name));
                    metadata.warnings.push(warning(&what, path, errno));
                }
            }
        }
        self.list = list;
        Ok(())
    }
}

impl AttributesOf<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Descriptor(descriptor) => rustix::fs::flistxattr(descriptor, buffer),
            Self::Path(path) => rustix::fs::llistxattr(path, buffer),
            Self::Followed(path) => rustix::fs::listxattr(path, buffer),
        }
    }

    fn list_bytes(self) -> Result<usize, Errno> {
        match self {
            Self::Descriptor(descriptor) => rustix::fs::flistxattr_query(descriptor),
            Self::Path(path) => rustix::fs::llistxattr_query(path),
            Self::Followed(path) => rustix::fs::listxattr_query(path),
        }
    }

    fn value(self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Descriptor(descriptor) => rustix::fs::fgetxattr(descriptor, name, buffer),
            Self::Path(path) => rustix::fs::lgetxattr(path, name, buffer),
            Self::Followed(path) => rustix::fs::getxattr(path, name, buffer),
        }
    }

    fn value_bytes(self, name: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Descriptor(descriptor) => rustix::fs::fgetxattr_query(descriptor, name),
            Self::Path(path) => rustix::fs::lgetxattr_query(path, name),
            Self::Followed(path) => rustix::fs::getxattr_query(path, name),
        }
    }
}

/// Fills `buffer` through `read`, making it larger when the kernel says that it is too small.
fn read_growing(
    buffer: &mut Vec<u8>,
    read: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    size: impl Fn() -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    if buffer.is_empty() {
        buffer.resize(BUFFER_BYTES, 0);
    }
    for _ in 0..GROWTH_ATTEMPTS {
        match read(buffer) {
            Err(Errno::RANGE) => {
                let bytes = size()?;
                buffer.resize(bytes.max(buffer.len() + 1), 0);
            }
            result => return result,
        }
    }
    Err(Errno::RANGE)
}

fn is_proc_there() -> bool {
    rustix::fs::stat("/proc/self/fd").is_ok()
}

fn warning(what: &str, path: &[u8], errno: Errno) -> MetadataWarning {
    let message = format!("cannot {what} of {}: {}", String::from_utf8_lossy(path), io::Error::from(errno));
    MetadataWarning { is_list_denied: false, message }
}

/// The fields of `struct stat`, whose types differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
pub(super) fn basic(stat: &Stat) -> Metadata {
    let time = |seconds, nanos| UnixTime { seconds, nanos };
    Metadata {
        kind: FileKind::of_mode(stat.st_mode),
        st_mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        links: stat.st_nlink as u64,
        inode: stat.st_ino as u64,
        device: stat.st_dev as u64,
        rdev: stat.st_rdev as u64,
        modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        accessed: time(stat.st_atime as i64, stat.st_atime_nsec as u32),
        changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        link_target: Vec::new(),
        extended_attributes: Vec::new(),
        warnings: Vec::new(),
    }
}
