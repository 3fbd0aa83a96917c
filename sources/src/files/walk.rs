//! Listing a directory.

use std::io;
use std::mem::MaybeUninit;

use rustix::fd::BorrowedFd;
use rustix::fs::RawDir;

use crate::names::{Names, NamesBuilder};

/// Directory entries are fetched in pieces of this size (about 2,000 entries; libc takes 32 KiB).
const BUFFER_BYTES: usize = 64 * 1024;

/// All names in an open directory without `.` and `..`.
pub(super) fn list(directory: BorrowedFd<'_>) -> io::Result<Names> {
    Ok(list_short(directory, usize::MAX)?.unwrap_or_default())
}

/// The same; `None` as soon as they take more memory than `bytes_max`.
pub(super) fn list_short(directory: BorrowedFd<'_>, bytes_max: usize) -> io::Result<Option<Names>> {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = NamesBuilder::default();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name),
        }
        if names.memory_bytes() > bytes_max {
            return Ok(None);
        }
    }
    Ok(Some(names.finish()))
}
