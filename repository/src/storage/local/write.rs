//! Creating one object in a directory, whole or not at all.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, OFlags, RenameFlags};
use rustix::io::Errno;

use super::directory::{self, Modes};
use super::{Failure, NotAFile};
use crate::storage::Body;
use crate::storage::error::StorageErrorKind;
use crate::storage::request::check_name;

/// Part of the name of temporary files. `~` is in no object's name, so listings leave them out;
/// restic does too, because they are not 64 hex digits.
const TEMPORARY_PREFIX: &str = ".longshore~";

/// How often a put starts again because another client's delete removed the directory meanwhile.
const PARENT_TRIES: usize = 64;

/// How many leftovers with our process id are stepped over to find a free temporary name.
const TEMPORARY_NAME_TRIES: usize = 10_000;

/// Number of the next temporary file of this process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Bytes a read when a spooled file is copied through memory.
const COPY_BUFFER_BYTES: usize = 1 << 20;

/// Most pieces a system call takes (`UIO_MAXIOV`).
const PIECES_A_CALL: usize = 1024;

/// Creates `name` with `body`.
pub(super) fn put(root: &Path, name: &str, body: &Body) -> Result<(), Failure> {
    check_name(name)?;
    let mut tries = PARENT_TRIES;
    loop {
        tries -= 1;
        match put_once(root, name, body) {
            Err(failure) if failure.kind == StorageErrorKind::NotFound && tries > 0 => {
                directory::open_root(root)?;
            }
            result => return result,
        }
    }
}

fn put_once(root: &Path, name: &str, body: &Body) -> Result<(), Failure> {
    let modes = Modes::of(root);
    let (parent, base) = directory::make_parent(root, name, modes)?;
    if is_there(&parent, base)? {
        return Err(already_there(&parent));
    }
    let mut temporary = Temporary::create(&parent, modes)?;
    temporary.write(body)?;
    temporary.file.sync_all()?;
    temporary.publish(base)
}

fn is_there(parent: &OwnedFd, base: &str) -> Result<bool, Failure> {
    match rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(true),
        Ok(_) => Err(Failure::new(StorageErrorKind::Permanent, NotAFile)),
    }
}

/// The failure of a create that came second, once the object that came first is durable.
fn already_there(parent: &OwnedFd) -> Failure {
    match directory::sync(parent) {
        Ok(()) => StorageErrorKind::AlreadyThere.into(),
        Err(errno) => errno.into(),
    }
}

/// A file without a name that counts; removed unless it is published.
struct Temporary<'p> {
    parent: &'p OwnedFd,
    name: String,
    file: File,
    named: bool,
}

impl<'p> Temporary<'p> {
    fn create(parent: &'p OwnedFd, modes: Modes) -> Result<Self, Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        for _ in 0..TEMPORARY_NAME_TRIES {
            let name =
                format!("{TEMPORARY_PREFIX}{}-{}", std::process::id(), NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed));
            match rustix::fs::openat(parent, &name, flags, modes.file) {
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
                Ok(descriptor) => {
                    let temporary = Self { parent, name, file: descriptor.into(), named: true };
                    if modes.shared {
                        directory::tolerate_missing_modes(rustix::fs::fchmod(&temporary.file, modes.file))?;
                    }
                    return Ok(temporary);
                }
            }
        }
        Err(Failure::new(StorageErrorKind::Permanent, std::io::Error::from(Errno::EXIST)))
    }

    fn write(&mut self, body: &Body) -> Result<(), Failure> {
        match body {
            Body::Memory(pieces) => write_pieces(&mut self.file, pieces),
            Body::Spooled { file, len } => copy(file, &self.file, *len),
        }
    }

    /// Gives the file its name if that is free, durably.
    fn publish(mut self, base: &str) -> Result<(), Failure> {
        match rustix::fs::renameat_with(self.parent, &self.name, self.parent, base, RenameFlags::NOREPLACE) {
            Ok(()) => self.named = false,
            Err(Errno::EXIST) => return Err(already_there(self.parent)),
            // Not every file system can rename without replacing (NFS cannot).
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link(base)?,
            Err(errno) => return Err(unsettled(errno)),
        }
        // Once this fails nobody can tell what is on the disk, and a second try would not either.
        directory::sync(self.parent)
            .map_err(|errno| Failure::new(StorageErrorKind::Permanent, std::io::Error::from(errno)))
    }

    /// Gives the file a second name; the first goes when it is dropped.
    fn link(&self, base: &str) -> Result<(), Failure> {
        match rustix::fs::linkat(self.parent, &self.name, self.parent, base, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // NFS may send a request again whose answer was lost: then the name is our own file.
            Err(Errno::EXIST) if self.is_named(base)? => Ok(()),
            Err(Errno::EXIST) => Err(already_there(self.parent)),
            Err(errno) => Err(unsettled(errno)),
        }
    }

    fn is_named(&self, base: &str) -> Result<bool, Failure> {
        let own = rustix::fs::fstat(&self.file)?;
        let found = rustix::fs::statat(self.parent, base, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.named {
            // A leftover does no harm; the error that led here is the one to report.
            let _ = rustix::fs::unlinkat(self.parent, &self.name, AtFlags::empty());
        }
    }
}

/// The failure of a rename or link: what is transient elsewhere leaves the outcome open here.
fn unsettled(errno: Errno) -> Failure {
    let failure = Failure::from(errno);
    match failure.kind {
        StorageErrorKind::Unavailable => Failure { kind: StorageErrorKind::Unknown, ..failure },
        _ => failure,
    }
}

fn write_pieces(file: &mut File, pieces: &[Bytes]) -> Result<(), Failure> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    // Takes empty pieces off the front, so that 0 bytes written means that nothing goes on.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let call = rest.len().min(PIECES_A_CALL);
        match file.write_vectored(&rest[..call]) {
            Ok(0) => return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Copies the first `len` bytes of `source` to the start of `target`, in the kernel where it can.
fn copy(source: &File, target: &File, len: u64) -> Result<(), Failure> {
    let (mut from, mut to) = (0, 0);
    while from < len {
        let rest = usize::try_from(len - from).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), rest) {
            // The end of the file, or a file system that only says so: the slow way knows.
            Ok(0) => return copy_through_memory(source, target, from, len),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::BADF | Errno::IO) => {
                return copy_through_memory(source, target, from, len);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_through_memory(source: &File, target: &File, from: u64, len: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut offset = from;
    while offset < len {
        let part = COPY_BUFFER_BYTES.min(usize::try_from(len - offset).unwrap_or(usize::MAX));
        source.read_exact_at(&mut buffer[..part], offset)?;
        target.write_all_at(&buffer[..part], offset)?;
        offset += part as u64;
    }
    Ok(())
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
