//! Opening below a directory, whatever somebody plants there meanwhile.
//!
//! `openat2` lets the kernel refuse symbolic links and ways out; where it is missing (before Linux 5.6,
//! or hidden by a container's filter) the walk goes component by component.

use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// The longest path that is given to the kernel at once (it takes 4,095 bytes).
const PIECE_BYTES_MAX: usize = 4000;

/// How often the kernel may say that the tree moved under a walk before we walk ourselves.
const MOVED_ATTEMPTS: usize = 8;

/// Opens a root, following every symbolic link.
pub(super) fn open_root(path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens with `open` for reading, not changing the access time if that is permitted (to the owner).
pub(super) fn open_reading(flags: OFlags, open: impl Fn(OFlags) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    if flags.contains(OFlags::PATH) {
        return open(flags);
    }
    match open(flags | OFlags::NOATIME) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => open(flags),
        result => result,
    }
}

/// Opens `relative` (not empty, plain names only) below `root`. No symbolic link is followed, neither on
/// the way nor at the end.
pub(super) fn open(root: BorrowedFd<'_>, relative: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut start: Option<OwnedFd> = None;
    let mut rest = relative;
    while rest.len() > PIECE_BYTES_MAX {
        let slash = rest[..PIECE_BYTES_MAX].iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let from = start.as_ref().map_or(root, AsFd::as_fd);
        start = Some(open_piece(from, &rest[..slash], OFlags::PATH | OFlags::DIRECTORY)?);
        rest = &rest[slash + 1..];
    }
    open_piece(start.as_ref().map_or(root, AsFd::as_fd), rest, flags)
}

fn open_piece(root: BorrowedFd<'_>, relative: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MOVED_ATTEMPTS {
        match openat2(root, relative, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS | Errno::PERM) => break,
            result => return Ok(result?),
        }
    }
    open_by_component(root, relative, flags)
}

/// The same without `openat2`.
fn open_by_component(root: BorrowedFd<'_>, relative: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let (parents, name) = match relative.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (Some(&relative[..slash]), &relative[slash + 1..]),
        None => (None, relative),
    };
    let mut directory: Option<OwnedFd> = None;
    for component in parents.into_iter().flat_map(|parents| parents.split(|byte| *byte == b'/')) {
        let walk = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = directory.as_ref().map_or(root, AsFd::as_fd);
        directory = Some(openat(from, plain(component)?, walk, Mode::empty())?);
    }
    Ok(openat(directory.as_ref().map_or(root, AsFd::as_fd), plain(name)?, flags, Mode::empty())?)
}

fn plain(component: &[u8]) -> io::Result<&[u8]> {
    if crate::paths::is_entry_name(component) { Ok(component) } else { Err(Errno::XDEV.into()) }
}

/// Opens a directory above a root by name, following symbolic links but not out of `base`.
pub(super) fn open_following(base: BorrowedFd<'_>, relative: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let relative = if relative.is_empty() { b"." } else { relative };
    match openat2(base, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(openat(base, relative, flags, Mode::empty())?),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    type Open = fn(BorrowedFd<'_>, &[u8], OFlags) -> io::Result<OwnedFd>;

    #[test]
    fn no_link_is_followed_and_no_way_leads_out() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("root/a/b")).unwrap();
        std::fs::write(directory.path().join("root/a/b/file"), "x").unwrap();
        std::fs::write(directory.path().join("secret"), "x").unwrap();
        symlink("a", directory.path().join("root/inside")).unwrap();
        symlink("/etc", directory.path().join("root/outside")).unwrap();
        symlink("../../secret", directory.path().join("root/a/up")).unwrap();
        let root = std::fs::File::open(directory.path().join("root")).unwrap();
        for open in [open as Open, open_by_component] {
            let errno = |path: &str| match open(root.as_fd(), path.as_bytes(), OFlags::RDONLY | OFlags::NOFOLLOW) {
                Ok(_) => None,
                Err(error) => Errno::from_io_error(&error),
            };
            assert_eq!(errno("a/b/file"), None);
            assert_eq!(errno("a/b"), None);
            assert!(matches!(errno("inside/b/file"), Some(Errno::LOOP | Errno::NOTDIR)));
            assert!(matches!(errno("outside/passwd"), Some(Errno::LOOP | Errno::NOTDIR)));
            assert_eq!(errno("inside"), Some(Errno::LOOP));
            assert_eq!(errno("a/up"), Some(Errno::LOOP));
            assert_eq!(errno("a/b/file/c"), Some(Errno::NOTDIR));
            assert_eq!(errno("a/c"), Some(Errno::NOENT));
            assert_eq!(errno("../secret"), Some(Errno::XDEV));
        }
    }

    #[test]
    fn paths_longer_than_the_kernel_takes() {
        let directory = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut current: OwnedFd = std::fs::File::open(directory.path()).unwrap().into();
        for _ in 0..60 {
            rustix::fs::mkdirat(&current, name.as_str(), Mode::RWXU).unwrap();
            current = openat(&current, name.as_str(), OFlags::PATH, Mode::empty()).unwrap();
        }
        let root = std::fs::File::open(directory.path()).unwrap();
        let path = vec![name.as_str(); 60].join("/");
        let deepest = open(root.as_fd(), path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY).unwrap();
        assert_eq!(rustix::fs::fstat(&deepest).unwrap().st_ino, rustix::fs::fstat(&current).unwrap().st_ino);
    }
}
