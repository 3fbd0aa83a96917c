//! Writing a snapshot back to a directory of this host.
//!
//! Everything goes through a descriptor of the target directory and `beneath`; the last component is
//! always handled relative to its parent's descriptor and never followed.
//!
//! **Hostile snapshots:** a name with a slash, `.` or `..` is refused before anything is touched. A
//! snapshot that holds a link `d -> /etc` and then a file `d/passwd` (under two names, in two trees)
//! finds `d` replaced by a directory, or is refused.

mod file;
mod metadata;

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use self::file::LocalTargetFile;
use super::metadata::{MetadataReader, basic};
use super::roots::{Place, Root, Roots};
use super::{PATH_ONLY, beneath, walk};
use crate::names::Names;
use crate::paths;
use crate::restore_target::{
    Effect, MetadataOptions, MetadataOutcome, PrepareOptions, PreparedFile, ReplaceOptions, RestoreError,
    RestoreErrorKind, RestoreTarget, TargetFile, WantedMetadata,
};
use crate::source::{FileKind, Metadata};

/// Mode of a directory until its metadata is set.
const DIRECTORY_MODE: u32 = 0o700;

/// How often something may be put in the way between looking and making.
const PLACE_ATTEMPTS: usize = 8;

/// Whether what stands at a name, of which this is the stat, is already as wanted.
type IsRight<'a> = dyn Fn(BorrowedFd<'_>, &[u8], &Stat) -> bool + 'a;

/// Makes something at a name where nothing is.
type Make<'a> = dyn Fn(BorrowedFd<'_>, &[u8]) -> Result<(), Errno> + 'a;

/// A target directory of this host.
pub struct FileTarget {
    directory: OwnedFd,
}

impl FileTarget {
    /// The directory that the user of this host named; it is made if missing, links in its path are
    /// followed.
    pub fn at(directory: &Path) -> Result<Self, RestoreError> {
        let error = |error| RestoreError::from_io("open", directory.as_os_str().as_bytes(), error);
        std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(error)?;
        let directory = beneath::open_root(directory.as_os_str().as_bytes(), PATH_ONLY).map_err(error)?;
        Ok(Self { directory })
    }

    /// The directory `path` (absolute) at or below one of the restore roots of a worker. It is made if
    /// missing; below the root no link is followed and nothing is replaced on the way.
    pub fn below(roots: Vec<Root>, path: &[u8]) -> Result<Self, RestoreError> {
        let roots = Roots::new(roots);
        let Place::Below { root, relative } = roots.place(path) else {
            let explanation = "it is outside the restore roots of this worker";
            return Err(RestoreError::new(RestoreErrorKind::NotAllowed, "open", path, explanation));
        };
        let mut directory =
            beneath::open_root(&root.mount, PATH_ONLY).map_err(|error| RestoreError::from_io("open", path, error))?;
        for name in relative.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            directory = open_or_make(directory.as_fd(), name)
                .map_err(|errno| RestoreError::from_io("make directory", path, errno.into()))?
                .0;
        }
        Ok(Self { directory })
    }

    /// A descriptor of the parent of `path`, and the last name.
    fn parent<'p>(&self, action: &'static str, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), RestoreError> {
        check(action, path)?;
        let (parent, name) = paths::split_last(path).unwrap_or((b"", path));
        Ok((self.descriptor(action, parent, PATH_ONLY)?, name))
    }

    /// A descriptor of the directory `path`, which may be empty.
    fn descriptor(&self, action: &'static str, path: &[u8], flags: OFlags) -> Result<OwnedFd, RestoreError> {
        if !path.is_empty() {
            check(action, path)?;
        }
        let open = |flags| {
            if path.is_empty() {
                return Ok(rustix::fs::openat(&self.directory, ".", flags | OFlags::CLOEXEC, Mode::empty())?);
            }
            beneath::open(self.directory.as_fd(), path, flags)
        };
        beneath::open_reading(flags | OFlags::DIRECTORY, open)
            .map_err(|error| RestoreError::from_io(action, path, error))
    }

    /// Makes room at `name` and calls `make`, which must fail with EXIST if something is there.
    fn place(
        &self,
        action: &'static str,
        path: &[u8],
        removes_trees: bool,
        is_right: &IsRight<'_>,
        make: &Make<'_>,
    ) -> Result<Effect, RestoreError> {
        let (parent, name) = self.parent(action, path)?;
        let error = |errno: Errno| RestoreError::from_io(action, path, errno.into());
        let mut effect = Effect::Created;
        for _ in 0..PLACE_ATTEMPTS {
            match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is_right(parent.as_fd(), name, &stat) => return Ok(Effect::Unchanged),
                Ok(stat) => {
                    self.make_room(parent.as_fd(), name, path, &stat, removes_trees)?;
                    effect = Effect::Replaced;
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(error(errno)),
            }
            match make(parent.as_fd(), name) {
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(error(errno)),
                Ok(()) => return Ok(effect),
            }
        }
        Err(error(Errno::EXIST))
    }

    /// Removes what stands at `name`.
    fn make_room(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        removes_trees: bool,
    ) -> Result<(), RestoreError> {
        let is_directory = basic(stat).kind == FileKind::Directory;
        if is_directory && removes_trees {
            return self.remove_tree(path, &mut |_| {});
        }
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(parent, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(RestoreError::from_io("replace", path, errno.into())),
        }
    }
}

impl RestoreTarget for FileTarget {
    fn metadata(&self, path: &[u8]) -> Result<Metadata, RestoreError> {
        let mut reader = MetadataReader::default();
        if path.is_empty() {
            return reader
                .read_itself(self.directory.as_fd(), path)
                .map_err(|error| RestoreError::from_io("stat", path, error));
        }
        let (parent, name) = self.parent("stat", path)?;
        reader.read_entry(parent.as_fd(), name, path).map_err(|error| {
            let kind = match error.kind {
                crate::source::SourceErrorKind::Vanished => RestoreErrorKind::Vanished,
                crate::source::SourceErrorKind::Denied => RestoreErrorKind::Denied,
                crate::source::SourceErrorKind::Changed => RestoreErrorKind::Changed,
                _ => RestoreErrorKind::Failed,
            };
            RestoreError { kind, path: error.path, action: error.action.into(), source: error.source }
        })
    }

    fn list(&self, directory: &[u8]) -> Result<Names, RestoreError> {
        let descriptor = self.descriptor("list", directory, OFlags::RDONLY)?;
        walk::list(descriptor.as_fd()).map_err(|error| RestoreError::from_io("list", directory, error))
    }

    fn make_directory(&self, path: &[u8]) -> Result<Effect, RestoreError> {
        check("make directory", path)?;
        let mut effect = Effect::Unchanged;
        let mut directory: Option<OwnedFd> = None;
        let mut reached = 0;
        for name in path.split(|byte| *byte == b'/') {
            reached += name.len();
            let parent = directory.as_ref().map_or(self.directory.as_fd(), AsFd::as_fd);
            let (made, how) = self.make_one_directory(parent, name, &path[..reached])?;
            (directory, effect) = (Some(made), how);
            reached += 1;
        }
        Ok(effect)
    }

    fn prepare_file(&self, path: &[u8], size: u64, options: PrepareOptions) -> Result<PreparedFile, RestoreError> {
        let (parent, name) = self.parent("create", path)?;
        let error = |errno: Errno| RestoreError::from_io("create", path, errno.into());
        let prepared = |file: File, was_there| {
            file::set_size(&file, size, options.is_sparse)
                .map_err(|errno| RestoreError::from_io("set size of", path, errno.into()))?;
            Ok(PreparedFile { file: Box::new(LocalTargetFile::new(file, path)), was_there })
        };
        for _ in 0..PLACE_ATTEMPTS {
            if let Some(file) = file::open_plain(parent.as_fd(), name).map_err(error)? {
                return prepared(file, true);
            }
            match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if file::is_plain(&stat) => continue,
                Ok(stat) => self.make_room(parent.as_fd(), name, path, &stat, options.removes_trees)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(error(errno)),
            }
            match file::create(parent.as_fd(), name) {
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(error(errno)),
                Ok(file) => return prepared(file, false),
            }
        }
        Err(error(Errno::EXIST))
    }

    fn open_file(&self, path: &[u8]) -> Result<Box<dyn TargetFile>, RestoreError> {
        let (parent, name) = self.parent("open", path)?;
        match file::open_plain(parent.as_fd(), name) {
            Ok(Some(file)) => Ok(Box::new(LocalTargetFile::new(file, path))),
            Ok(None) => Err(match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(errno) => RestoreError::from_io("open", path, errno.into()),
                Ok(_) => {
                    let explanation = "it is not a plain file with one link";
                    RestoreError::new(RestoreErrorKind::Changed, "open", path, explanation)
                }
            }),
            Err(errno) => Err(RestoreError::from_io("open", path, errno.into())),
        }
    }

    fn read_file(&self, path: &[u8]) -> Result<Box<dyn TargetFile>, RestoreError> {
        let (parent, name) = self.parent("open", path)?;
        match file::open_reading(parent.as_fd(), name) {
            Ok(Some(file)) => Ok(Box::new(LocalTargetFile::new(file, path))),
            Ok(None) => Err(RestoreError::new(RestoreErrorKind::Changed, "open", path, "it is not a regular file")),
            Err(errno) => Err(RestoreError::from_io("open", path, errno.into())),
        }
    }

    fn make_symlink(&self, path: &[u8], link_target: &[u8], options: ReplaceOptions) -> Result<Effect, RestoreError> {
        let is_right = |parent: BorrowedFd<'_>, name: &[u8], stat: &Stat| {
            basic(stat).kind == FileKind::Symlink
                && rustix::fs::readlinkat(parent, name, Vec::new()).is_ok_and(|there| there.to_bytes() == link_target)
        };
        let make = |parent: BorrowedFd<'_>, name: &[u8]| rustix::fs::symlinkat(link_target, parent, name);
        self.place("make link", path, options.removes_trees, &is_right, &make)
    }

    fn make_special(
        &self,
        path: &[u8],
        kind: FileKind,
        rdev: u64,
        options: ReplaceOptions,
    ) -> Result<Effect, RestoreError> {
        let (file_type, rdev) = match kind {
            FileKind::Fifo => (FileType::Fifo, 0),
            FileKind::BlockDevice => (FileType::BlockDevice, rdev),
            FileKind::CharacterDevice => (FileType::CharacterDevice, rdev),
            _ => {
                let explanation = "only fifos and devices are made so";
                return Err(RestoreError::new(RestoreErrorKind::NotSupported, "make node", path, explanation));
            }
        };
        let is_right = |_: BorrowedFd<'_>, _: &[u8], stat: &Stat| {
            let there = basic(stat);
            there.kind == kind && there.rdev == rdev
        };
        let make = |parent: BorrowedFd<'_>, name: &[u8]| {
            rustix::fs::mknodat(parent, name, file_type, Mode::from_raw_mode(file::FILE_MODE), rdev)
        };
        self.place("make node", path, options.removes_trees, &is_right, &make)
    }

    fn make_hard_link(&self, existing: &[u8], path: &[u8], options: ReplaceOptions) -> Result<Effect, RestoreError> {
        let (from, from_name) = self.parent("link", existing)?;
        let wanted = rustix::fs::statat(&from, from_name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| basic(&stat))
            .map_err(|errno| RestoreError::from_io("link", existing, errno.into()))?;
        if wanted.kind == FileKind::Directory {
            let explanation = "a directory has only one name";
            return Err(RestoreError::new(RestoreErrorKind::Changed, "link", existing, explanation));
        }
        let is_right = |_: BorrowedFd<'_>, _: &[u8], stat: &Stat| basic(stat).is_same_inode(&wanted);
        let make =
            |parent: BorrowedFd<'_>, name: &[u8]| rustix::fs::linkat(&from, from_name, parent, name, AtFlags::empty());
        self.place("link", path, options.removes_trees, &is_right, &make)
    }

    fn set_metadata(
        &self,
        path: &[u8],
        wanted: &WantedMetadata,
        options: MetadataOptions<'_>,
    ) -> Result<MetadataOutcome, RestoreError> {
        let (parent, name) = self.parent("set metadata of", path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&parent, name, flags, Mode::empty())
            .map_err(|errno| RestoreError::from_io("set metadata of", path, errno.into()))?;
        metadata::set(descriptor.as_fd(), path, wanted, options)
    }

    fn remove_tree(&self, path: &[u8], removed: &mut dyn FnMut(&[u8])) -> Result<(), RestoreError> {
        check("remove", path)?;
        // Depth first without recursion, so that a deep tree needs neither stack nor descriptors.
        let mut waiting = vec![path.to_vec()];
        while let Some(path) = waiting.last().cloned() {
            let subdirectories = self.empty_or_remove(&path, removed)?;
            if subdirectories.is_empty() {
                waiting.pop();
            } else {
                waiting.extend(subdirectories);
            }
        }
        Ok(())
    }
}

impl FileTarget {
    /// One level of [`RestoreTarget::make_directory`].
    fn make_one_directory(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<(OwnedFd, Effect), RestoreError> {
        let mut effect = Effect::Created;
        for _ in 0..PLACE_ATTEMPTS {
            match open_or_make(parent, name) {
                Ok((directory, true)) => return Ok((directory, effect)),
                Ok((directory, false)) => return Ok((directory, Effect::Unchanged)),
                Err(Errno::NOTDIR | Errno::LOOP) => match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => effect = Effect::Replaced,
                    Err(errno) => return Err(RestoreError::from_io("replace", path, errno.into())),
                },
                Err(errno) => return Err(RestoreError::from_io("make directory", path, errno.into())),
            }
        }
        Err(RestoreError::from_io("make directory", path, Errno::EXIST.into()))
    }

    /// Removes what is no directory in the directory `path`, and itself if nothing remains; the
    /// directories that remain are returned.
    fn empty_or_remove(&self, path: &[u8], removed: &mut dyn FnMut(&[u8])) -> Result<Vec<Vec<u8>>, RestoreError> {
        let (parent, name) = self.parent("remove", path)?;
        let error = |path: &[u8], errno: Errno| RestoreError::from_io("remove", path, errno.into());
        let kind = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => basic(&stat).kind,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(error(path, errno)),
        };
        if kind != FileKind::Directory {
            return match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
                Err(errno) if errno != Errno::NOENT => Err(error(path, errno)),
                _ => {
                    removed(path);
                    Ok(Vec::new())
                }
            };
        }
        let directory = self.descriptor("remove", path, OFlags::RDONLY)?;
        let names = walk::list(directory.as_fd()).map_err(|error| RestoreError::from_io("remove", path, error))?;
        let mut subdirectories = Vec::new();
        for name in names.iter() {
            let path = paths::child(path, name);
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) => removed(&path),
                Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => subdirectories.push(path),
                Err(errno) => return Err(error(&path, errno)),
            }
        }
        if subdirectories.is_empty() {
            match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Ok(()) => removed(path),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(error(path, errno)),
            }
        }
        Ok(subdirectories)
    }
}

/// Refuses paths that are not plain names joined by slashes.
fn check(action: &'static str, path: &[u8]) -> Result<(), RestoreError> {
    if path.split(|byte| *byte == b'/').all(paths::is_entry_name) {
        return Ok(());
    }
    let explanation = "a name in it is empty, . or .., or holds a NUL byte";
    Err(RestoreError::new(RestoreErrorKind::NotAllowed, action, path, explanation))
}

/// Opens the directory `name`; makes it if nothing is there, and says whether it did.
fn open_or_make(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(OwnedFd, bool), Errno> {
    let flags = PATH_ONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        result => return Ok((result?, false)),
    }
    let is_made = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    Ok((rustix::fs::openat(parent, name, flags, Mode::empty())?, is_made))
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
