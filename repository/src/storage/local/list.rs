//! Listing a directory tree page by page, in the order of the full names.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::{Failure, directory};
use crate::storage::request::{check_prefix, is_component};
use crate::storage::{Entry, Page};

/// At most `limit` objects below `prefix` that come after `from`.
pub(super) fn page(root: &Path, prefix: &str, from: Option<&str>, limit: usize) -> Result<Page, Failure> {
    check_prefix(prefix)?;
    // A root that is not there is an error, a directory in it that is not there is empty.
    directory::open_root(root)?;
    let start = match directory::open_below(root, prefix) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Page::default()),
        opened => opened?,
    };
    let mut walk = Walk { from, limit, entries: Vec::new(), more: false };
    walk.visit(&start, prefix)?;
    let last = walk.entries.last().filter(|_| walk.more);
    Ok(Page { next: last.map(|entry| entry.name.clone()), entries: walk.entries })
}

struct Walk<'f> {
    from: Option<&'f str>,
    limit: usize,
    entries: Vec<Entry>,
    /// Whether an object was found that the page has no room for.
    more: bool,
}

impl Walk<'_> {
    /// Adds what lies in `directory`, whose name is `path` (empty or ends in `/`).
    fn visit(&mut self, directory: &OwnedFd, path: &str) -> Result<(), Failure> {
        for name in self.children(directory, path)? {
            if self.more {
                return Ok(());
            }
            let base = &name[path.len()..];
            match base.strip_suffix('/') {
                Some(component) => match directory::open_component(directory, component, path.matches('/').count()) {
                    // Gone meanwhile, or replaced by something else.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    child => self.visit(&child?, &name)?,
                },
                None => match rustix::fs::statat(directory, base, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => {}
                    stat => self.add(name, &stat?),
                },
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, stat: &rustix::fs::Stat) {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return;
        }
        if self.entries.len() == self.limit {
            self.more = true;
        } else {
            self.entries.push(Entry { name, size: stat.st_size as u64 });
        }
    }

    /// Full names of the files and (with a slash at the end) directories in `directory` that can
    /// be or hold what comes after `from`, sorted.
    fn children(&self, directory: &OwnedFd, path: &str) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let Ok(base) = entry.file_name().to_str() else { continue };
            if !is_component(base) || is_restic_temporary(base) {
                continue;
            }
            let name = match kind_of(directory, path, base, entry.file_type()) {
                Some(FileType::Directory) => format!("{path}{base}/"),
                Some(FileType::RegularFile) => format!("{path}{base}"),
                _ => continue,
            };
            let passed = |from: &str| name.as_str() <= from && !(name.ends_with('/') && from.starts_with(&name));
            if !self.from.is_some_and(passed) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The type of a directory entry; `None` if it is gone or does not count.
fn kind_of(directory: &OwnedFd, path: &str, base: &str, known: FileType) -> Option<FileType> {
    let stat = |flags| {
        let stat = rustix::fs::statat(directory, base, flags).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    };
    let kind = if known == FileType::Unknown { stat(AtFlags::SYMLINK_NOFOLLOW)? } else { known };
    match kind {
        // Links to directories count in the root only.
        FileType::Symlink if path.is_empty() => stat(AtFlags::empty()).filter(|kind| *kind == FileType::Directory),
        FileType::Symlink => None,
        kind => Some(kind),
    }
}

/// Whether restic would give this name to a file that it has not finished.
fn is_restic_temporary(base: &str) -> bool {
    base.split_once("-tmp-").is_some_and(|(name, random)| {
        (name == "config" || name.len() == 64) && random.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::is_restic_temporary;

    #[test]
    fn unfinished_files_of_restic_are_known_by_name() {
        let id = "ab".repeat(32);
        for name in [format!("{id}-tmp-123456"), "config-tmp-1".to_owned()] {
            assert!(is_restic_temporary(&name), "{name}");
        }
        for name in [id.as_str(), "config", "a-tmp-1", "config-tmp-x1"] {
            assert!(!is_restic_temporary(name), "{name}");
        }
    }
}
