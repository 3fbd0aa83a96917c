//! A repository in a directory, laid out and with the modes of restic's local storage (FORMAT.md 1).
//!
//! # Order and consistency
//! A put writes a temporary file beside the object, syncs it, gives it its name without replacing
//! anything (`renameat2` with `RENAME_NOREPLACE`, else `linkat`), and syncs the directory. Before
//! `AlreadyThere` is returned the directory is synced too, since the one who wrote the object may
//! not have got so far. A delete is not synced: after a power loss an object may be back.
//!
//! # Crash and cancellation
//! A killed writer leaves at most a temporary file, which no listing shows. A call whose future is
//! dropped goes on to its end on its thread.
//!
//! # Symbolic links
//! The root and the directories directly in it may be links. Deeper links, and links in place of
//! objects, are neither listed nor followed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::{Failure, StorageError, StorageErrorKind};
use super::operation::Operation;
use super::request::{RequestError, check_name, check_range};
use super::{Body, Location, Page, Storage};

mod directory;
mod list;
mod write;

/// Objects a page: what one page holds in memory, and how much is listed again after a fault.
const PAGE_ENTRIES: usize = 5_000;

/// A directory as storage.
#[derive(Clone, Debug)]
pub struct Local {
    root: Arc<Path>,
    page_entries: usize,
}

impl Local {
    /// The storage in the directory `root`, which need not exist before [`Storage::create`].
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into().into(), page_entries: PAGE_ENTRIES }
    }

    /// The same storage with at most `entries` objects a page (at least 1).
    pub fn with_page_entries(self, entries: usize) -> Self {
        Self { page_entries: entries.max(1), ..self }
    }

    /// Runs `work` on a thread that may block.
    async fn blocking<T, W>(&self, operation: Operation, name: &str, work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnOnce(&Path, &str) -> Result<T, Failure> + Send + 'static,
    {
        let (root, owned_name) = (self.root.clone(), name.to_owned());
        let joined = tokio::task::spawn_blocking(move || work(&root, &owned_name)).await;
        let result = match joined {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime ends before the thread began.
            Err(error) => Err(Failure::new(StorageErrorKind::Unavailable, error)),
        };
        result.map_err(|failure| StorageError::new(operation, name, self.location(), failure))
    }
}

#[async_trait]
impl Storage for Local {
    fn location(&self) -> String {
        Location::Local(self.root.to_path_buf()).to_string()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        self.blocking(Operation::Put, name, move |root, name| write::put(root, name, &body)).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        self.blocking(Operation::Get, name, move |root, name| read(root, name, range)).await
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.blocking(Operation::Size, name, size).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        let (from, limit) = (from.map(str::to_owned), self.page_entries);
        self.blocking(Operation::List, prefix, move |root, prefix| list::page(root, prefix, from.as_deref(), limit))
            .await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.blocking(Operation::Delete, name, delete).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.blocking(Operation::Create, "the directories", |root, _| directory::create_all(root)).await
    }
}

/// Something else than a file stands where an object could.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it is not a regular file")]
struct NotAFile;

fn read(root: &Path, name: &str, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
    check_name(name)?;
    let (parent, base) = directory::open_parent(root, name).map_err(absent)?;
    // A pipe in place of an object must not make the open wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = File::from(rustix::fs::openat(&parent, base, flags, Mode::empty()).map_err(absent)?);
    let stat = rustix::fs::fstat(&file)?;
    let range = check_range(range, object_size(&stat)?)?;
    let len = range.end - range.start;
    let mut buffer = Vec::with_capacity(usize::try_from(len).map_err(|_| Errno::NOMEM)?);
    file.seek(SeekFrom::Start(range.start))?;
    file.take(len).read_to_end(&mut buffer)?;
    if (buffer.len() as u64) < len {
        let size = range.start + buffer.len() as u64;
        return Err(RequestError::Beyond { end: range.end, size }.into());
    }
    Ok(buffer.into())
}

fn size(root: &Path, name: &str) -> Result<u64, Failure> {
    check_name(name)?;
    let (parent, base) = directory::open_parent(root, name).map_err(absent)?;
    let stat = rustix::fs::statat(&parent, base, AtFlags::SYMLINK_NOFOLLOW).map_err(absent)?;
    object_size(&stat)
}

fn delete(root: &Path, name: &str) -> Result<(), Failure> {
    check_name(name)?;
    let removed = directory::open_parent(root, name).and_then(|(parent, base)| {
        match rustix::fs::unlinkat(&parent, base, AtFlags::empty()) {
            // A read-only file system says so before it looks whether the name is there.
            Err(Errno::ROFS) => rustix::fs::statat(&parent, base, AtFlags::SYMLINK_NOFOLLOW).and(Err(Errno::ROFS)),
            removed => removed,
        }
    });
    match removed {
        Ok(()) => directory::remove_empty_parents(root, name),
        // A directory of that name is no object.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    // A root that is not there is not an empty one.
    directory::open_root(root).map(drop).map_err(Failure::from)
}

/// The length of the object behind `stat`.
fn object_size(stat: &rustix::fs::Stat) -> Result<u64, Failure> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size as u64),
        FileType::Directory => Err(StorageErrorKind::NotFound.into()),
        _ => Err(Failure::new(StorageErrorKind::Permanent, NotAFile)),
    }
}

/// Errors on the way to an object that is only read.
fn absent(errno: Errno) -> Failure {
    match errno {
        Errno::NOTDIR => Failure::new(StorageErrorKind::NotFound, std::io::Error::from(errno)),
        Errno::LOOP => Failure::new(StorageErrorKind::Permanent, NotAFile),
        errno => errno.into(),
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
