//! Regular files of the target: opened only if they are plain, created only where nothing is.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::metadata::{MetadataReader, basic};
use crate::restore_target::{RestoreError, TargetFile};
use crate::source::{FileKind, Metadata};

/// Mode of a file until its metadata is set.
pub(super) const FILE_MODE: u32 = 0o600;

/// Zeros are written in pieces of this size where holes are not possible.
const ZEROS_BYTES: usize = 64 * 1024;

/// Opens a plain file with one link at `name`, none if something else or nothing is there.
pub(super) fn open_plain(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<File>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_plain(&stat) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let file = match open_for_writing(parent, name) {
        // Our own file, but read-only: permissions are restored last anyway.
        Err(Errno::ACCESS) => {
            make_writable(parent, name)?;
            open_for_writing(parent, name)
        }
        result => result,
    };
    match file {
        Ok(file) => Ok(is_plain(&rustix::fs::fstat(&file)?).then_some(file)),
        Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a regular file for reading only; none if it is something else.
pub(super) fn open_reading(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<File>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(parent, name, flags, Mode::empty()),
        result => result,
    };
    let file = match opened {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    Ok((basic(&rustix::fs::fstat(&file)?).kind == FileKind::File).then_some(file))
}

/// Creates a file where nothing is.
pub(super) fn create(parent: BorrowedFd<'_>, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(FILE_MODE))?))
}

/// Whether it is a regular file with one name.
pub(super) fn is_plain(stat: &Stat) -> bool {
    let metadata = basic(stat);
    metadata.kind == FileKind::File && metadata.links == 1
}

/// Comparing what is there must not change its access time, where that is permitted.
fn open_for_writing(parent: BorrowedFd<'_>, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?)),
        result => Ok(File::from(result?)),
    }
}

/// Gives the owner of a plain file the right to write it.
fn make_writable(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if !is_plain(&rustix::fs::statat(&descriptor, "", AtFlags::EMPTY_PATH)?) {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(FILE_MODE), AtFlags::empty())
}

/// Gives a file its size: a longer one is cut, a shorter one grows, with space allocated unless sparse.
pub(super) fn set_size(file: &File, size: u64, is_sparse: bool) -> Result<(), Errno> {
    let there = basic(&rustix::fs::fstat(file)?).size;
    if there > size || (is_sparse && there < size) {
        return rustix::fs::ftruncate(file, size);
    }
    if there == size {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(errno),
        Err(_) => rustix::fs::ftruncate(file, size),
    }
}

/// A file of this host, open for reading and writing.
pub(super) struct LocalTargetFile {
    file: File,
    path: Vec<u8>,
}

impl LocalTargetFile {
    pub(super) fn new(file: File, path: &[u8]) -> Self {
        Self { file, path: path.to_vec() }
    }

    fn error(&self, action: &'static str, error: io::Error) -> RestoreError {
        RestoreError::from_io(action, &self.path, error)
    }
}

impl TargetFile for LocalTargetFile {
    fn metadata(&self) -> Result<Metadata, RestoreError> {
        MetadataReader::default().read_open(self.file.as_fd(), &self.path).map_err(|error| self.error("stat", error))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, RestoreError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error("read", error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), RestoreError> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.error("write", error))
    }

    fn punch(&mut self, offset: u64, length: u64) -> Result<(), RestoreError> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, mode, offset, length) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(errno) => return Err(self.error("punch a hole into", errno.into())),
        }
        let zeros = vec![0; ZEROS_BYTES];
        let mut written = 0;
        while written < length {
            let piece = (length - written).min(ZEROS_BYTES as u64);
            self.write_at(offset + written, &zeros[..piece as usize])?;
            written += piece;
        }
        Ok(())
    }
}
