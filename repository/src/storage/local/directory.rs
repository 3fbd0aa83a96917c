//! Directories of a local repository: opened step by step, made when missing, synced.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::Failure;

/// The directories that a repository has from the start; `data` has one for each byte.
const TOP_DIRECTORIES: [&str; 5] = ["data", "index", "keys", "locks", "snapshots"];

/// Permission bits of what is created here: like the `config` file, for the owner or the group too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes {
    /// Of directories.
    pub(super) directory: Mode,
    /// Of files: nothing is ever written again.
    pub(super) file: Mode,
    /// Whether the bits must be set again because the process's mask may have cut them.
    pub(super) shared: bool,
}

impl Modes {
    /// The modes for the repository in `root`, by its `config` file; private without one.
    pub(super) fn of(root: &Path) -> Self {
        let group_may_read = open_root(root)
            .and_then(|root| rustix::fs::statat(&root, "config", AtFlags::empty()))
            .is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode).contains(Mode::RGRP));
        if group_may_read {
            Self { directory: Mode::RWXU | Mode::RWXG, file: Mode::RUSR | Mode::RGRP, shared: true }
        } else {
            Self { directory: Mode::RWXU, file: Mode::RUSR, shared: false }
        }
    }
}

/// Opens the root, through links.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the directory `component`, which lies `depth` directories below the root.
pub(super) fn open_component(parent: &OwnedFd, component: &str, depth: usize) -> Result<OwnedFd> {
    let follow = if depth == 0 { OFlags::empty() } else { OFlags::NOFOLLOW };
    rustix::fs::openat(parent, component, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow, Mode::empty())
}

/// Opens the directory `path` (components split by `/`) below the root.
pub(super) fn open_below(root: &Path, path: &str) -> Result<OwnedFd> {
    let mut directory = open_root(root)?;
    for (depth, component) in components(path).enumerate() {
        directory = open_component(&directory, component, depth)?;
    }
    Ok(directory)
}

/// Opens the directory of the object `name`, and its name in there.
pub(super) fn open_parent<'n>(root: &Path, name: &'n str) -> Result<(OwnedFd, &'n str)> {
    let (path, base) = name.rsplit_once('/').unwrap_or(("", name));
    Ok((open_below(root, path)?, base))
}

/// The same, but makes the directories that are missing below the root, durably.
pub(super) fn make_parent<'n>(root: &Path, name: &'n str, modes: Modes) -> Result<(OwnedFd, &'n str)> {
    let (path, base) = name.rsplit_once('/').unwrap_or(("", name));
    let mut directory = open_root(root)?;
    for (depth, component) in components(path).enumerate() {
        directory = match open_component(&directory, component, depth) {
            Err(Errno::NOENT) => {
                make(&directory, component, modes)?;
                sync(&directory)?;
                open_component(&directory, component, depth)?
            }
            opened => opened?,
        };
    }
    Ok((directory, base))
}

/// Makes one directory; one that is there is left as it is.
fn make(parent: &OwnedFd, component: &str, modes: Modes) -> Result<()> {
    match rustix::fs::mkdirat(parent, component, modes.directory) {
        Ok(()) if modes.shared => {
            // Keeps a set-group-id bit that was inherited.
            let stat = rustix::fs::statat(parent, component, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_raw_mode(stat.st_mode) | modes.directory;
            tolerate_missing_modes(rustix::fs::chmodat(parent, component, mode, AtFlags::empty()))
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Some file systems have no permission bits to set.
pub(super) fn tolerate_missing_modes(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

/// Makes the entries of a directory durable, where the file system knows how.
pub(super) fn sync(directory: impl AsFd) -> Result<()> {
    match rustix::fs::fsync(directory) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Makes the root and the directories of a new repository; those that are there are left as they
/// are.
pub(super) fn create_all(root: &Path) -> std::result::Result<(), Failure> {
    create_root(root)?;
    let modes = Modes::of(root);
    let directory = open_root(root)?;
    for top in TOP_DIRECTORIES {
        make(&directory, top, modes)?;
    }
    let data = open_component(&directory, "data", 0)?;
    for byte in 0..=u8::MAX {
        make(&data, &format!("{byte:02x}"), modes)?;
    }
    sync(&data)?;
    sync(&directory)?;
    Ok(())
}

fn create_root(root: &Path) -> std::result::Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let missing: Vec<&Path> =
        root.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync(File::open(parent)?)?;
    }
    Ok(())
}

/// Removes the directories of a deleted object under `longshore/` that are now empty: each job has
/// its own, and restic's stay. Whatever prevents it does not matter.
pub(super) fn remove_empty_parents(root: &Path, name: &str) {
    let mut path = name;
    while let Some((parent, _)) = path.rsplit_once('/') {
        if !parent.starts_with("longshore/") {
            return;
        }
        let removed = open_parent(root, parent)
            .and_then(|(directory, base)| rustix::fs::unlinkat(&directory, base, AtFlags::REMOVEDIR));
        if removed.is_err() {
            return;
        }
        path = parent;
    }
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !component.is_empty())
}
