//! A file tree on this host: the source door, and the way back, over Linux system calls.
//!
//! Below a configured root no symbolic link is ever followed and no path leads out of it: every call
//! walks from a descriptor of the root (`beneath`). Roots are opened anew for each call, so that a
//! mount can come and go.

mod beneath;
pub mod exclude;
mod metadata;
mod mounts;
pub mod pattern_file;
mod read;
pub mod restore;
pub mod roots;
pub mod targets;
pub mod users;
#[cfg(test)]
mod stock_restic;
mod walk;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, OFlags};

use self::metadata::MetadataReader;
use self::roots::{Place, Root, Roots};
use self::users::UserTable;
use crate::names::Names;
use crate::paths;
use crate::source::{FileKind, Metadata, Mount, OpenFile, Source, SourceError, SourceErrorKind};

/// A descriptor that only names a directory, for calls relative to it.
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// The files of this host below some roots.
#[derive(Clone, Debug)]
pub struct FileSource {
    roots: Roots,
}

impl FileSource {
    /// Serves `roots` and the metadata of their ancestors.
    pub fn new(roots: Vec<Root>) -> Self {
        Self { roots: Roots::new(roots) }
    }

    /// Serves everything under the names that this host uses, for an embedded worker.
    pub fn whole_host() -> Self {
        Self::new(vec![Root { path: b"/".to_vec(), mount: b"/".to_vec() }])
    }

    /// The root that serves `path` and what is left of the path below it.
    fn root_of<'a>(&'a self, action: &'static str, path: &'a [u8]) -> Result<(&'a Root, &'a [u8]), SourceError> {
        match self.roots.place(path) {
            Place::Below { root, relative } => Ok((root, relative)),
            Place::Ancestor { .. } | Place::Outside => Err(SourceError::new(
                SourceErrorKind::NotAllowed,
                action,
                path,
                "it is outside the roots of this worker",
            )),
        }
    }

    /// Opens the directory `path`.
    fn directory(&self, action: &'static str, path: &[u8], flags: OFlags) -> Result<OwnedFd, SourceError> {
        let (root, relative) = self.root_of(action, path)?;
        let open = || {
            if relative.is_empty() {
                return beneath::open_reading(flags | OFlags::DIRECTORY, |flags| {
                    beneath::open_root(&root.mount, flags)
                });
            }
            let descriptor = beneath::open_root(&root.mount, PATH_ONLY)?;
            beneath::open_reading(flags | OFlags::DIRECTORY, |flags| beneath::open(descriptor.as_fd(), relative, flags))
        };
        open().map_err(|error| SourceError::from_io(action, path, error))
    }
}

impl Source for FileSource {
    fn serves(&self, path: &[u8]) -> bool {
        matches!(self.roots.place(path), Place::Below { .. })
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata, SourceError> {
        let mut reader = MetadataReader::default();
        match self.roots.place(path) {
            Place::Ancestor { base, relative } => beneath::open_root(&base, PATH_ONLY)
                .and_then(|base| beneath::open_following(base.as_fd(), relative))
                .and_then(|descriptor| reader.read_itself(descriptor.as_fd(), path))
                .map_err(|error| SourceError::from_io("stat", path, error)),
            Place::Below { root, relative: b"" } => beneath::open_root(&root.mount, OFlags::PATH)
                .and_then(|descriptor| reader.read_itself(descriptor.as_fd(), path))
                .map_err(|error| SourceError::from_io("stat", path, error)),
            Place::Below { .. } | Place::Outside => {
                let (parent, name) = split(path)?;
                let directory = self.directory("stat", parent, PATH_ONLY)?;
                reader.read_entry(directory.as_fd(), name, path)
            }
        }
    }

    fn metadata_of(
        &self,
        directory: &[u8],
        names: &[&[u8]],
    ) -> Result<Vec<Result<Metadata, SourceError>>, SourceError> {
        let descriptor = self.directory("stat", directory, PATH_ONLY)?;
        let mut reader = MetadataReader::default();
        let mut answers = Vec::with_capacity(names.len());
        for name in names {
            let path = paths::child(directory, name);
            answers.push(if !paths::is_entry_name(name) {
                Err(SourceError::new(SourceErrorKind::NotAllowed, "stat", &path, "it is not the name of an entry"))
            } else if self.roots.is_root(&path) {
                self.metadata(&path)
            } else {
                reader.read_entry(descriptor.as_fd(), name, &path)
            });
        }
        Ok(answers)
    }

    fn list(&self, directory: &[u8]) -> Result<Names, SourceError> {
        let descriptor = self.directory("list", directory, OFlags::RDONLY)?;
        walk::list(descriptor.as_fd()).map_err(|error| SourceError::from_io("list", directory, error))
    }

    fn list_short(&self, directory: &[u8], bytes_max: usize) -> Result<Option<Names>, SourceError> {
        let descriptor = self.directory("list", directory, OFlags::RDONLY)?;
        walk::list_short(descriptor.as_fd(), bytes_max).map_err(|error| SourceError::from_io("list", directory, error))
    }

    fn open(&self, path: &[u8], expected: &Metadata) -> Result<Box<dyn OpenFile>, SourceError> {
        if expected.kind != FileKind::File {
            return Err(SourceError::new(SourceErrorKind::Changed, "open", path, "it is not a regular file"));
        }
        let (root, relative) = self.root_of("open", path)?;
        let open = |flags| {
            if relative.is_empty() {
                return beneath::open_root(&root.mount, flags);
            }
            let descriptor = beneath::open_root(&root.mount, PATH_ONLY)?;
            beneath::open(descriptor.as_fd(), relative, flags)
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let descriptor =
            beneath::open_reading(flags, open).map_err(|error| SourceError::from_io("open", path, error))?;
        Ok(Box::new(read::LocalFile::new(descriptor, path)?))
    }

    fn users(&self) -> Result<UserTable, SourceError> {
        UserTable::of_this_host().map_err(|error| SourceError::from_io("read the users of", b"/etc", error))
    }

    fn mounts(&self, under: &[Vec<u8>]) -> Result<Vec<Mount>, SourceError> {
        mounts::mounts(self, &self.roots, under)
    }
}

/// Parent and name of `path`, which must be absolute and cleaned.
fn split(path: &[u8]) -> Result<(&[u8], &[u8]), SourceError> {
    paths::split_last(path)
        .filter(|(_, name)| paths::is_absolute(path) && paths::is_entry_name(name))
        .ok_or_else(|| SourceError::new(SourceErrorKind::NotAllowed, "stat", path, "it is not an absolute path"))
}

/// `st_dev` of a local path, without following a link at its end or mounting anything.
fn local_device(path: &[u8]) -> std::io::Result<u64> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
    Ok(metadata::basic(&stat).device)
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
