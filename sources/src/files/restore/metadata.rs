//! Owner, attributes, times, permissions of one inode.
//!
//! All calls go through `/proc/self/fd/N` of a descriptor that only names the inode: it cannot be
//! exchanged in between, and a symbolic link is set itself.

use std::collections::BTreeMap;

use proto::handles::UnixTime;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::metadata::MetadataReader;
use crate::restore_target::{
    MetadataOptions, MetadataOutcome, MetadataProblem, RestoreError, RestoreErrorKind, WantedMetadata,
};
use crate::source::{FileKind, Metadata};

/// See [`crate::restore_target::RestoreTarget::set_metadata`].
pub(super) fn set(
    descriptor: BorrowedFd<'_>,
    path: &[u8],
    wanted: &WantedMetadata,
    options: MetadataOptions<'_>,
) -> Result<MetadataOutcome, RestoreError> {
    let mut setter = Setter {
        descriptor,
        path,
        proc_path: format!("/proc/self/fd/{}", descriptor.as_raw_fd()),
        reader: MetadataReader::default(),
        outcome: MetadataOutcome::default(),
    };
    let there = setter.read()?;
    if there.kind != wanted.kind {
        let explanation = "something of another kind stands there";
        return Err(RestoreError::new(RestoreErrorKind::Changed, "set metadata of", path, explanation));
    }
    // Changing the owner changes permissions and attributes, so what is there is read again.
    let there = if setter.owner(&there, wanted) { setter.read()? } else { there };
    let there = if setter.attributes(&there, wanted, options) { setter.read()? } else { there };
    setter.times(&there, wanted);
    setter.permissions(&there, wanted);
    Ok(setter.outcome)
}

struct Setter<'a> {
    descriptor: BorrowedFd<'a>,
    path: &'a [u8],
    proc_path: String,
    reader: MetadataReader,
    outcome: MetadataOutcome,
}

impl Setter<'_> {
    fn read(&mut self) -> Result<Metadata, RestoreError> {
        let metadata = self.reader.read_itself(self.descriptor, self.path);
        metadata.map_err(|error| RestoreError::from_io("stat", self.path, error))
    }

    /// Notes how a change went; true if it was made.
    fn note(&mut self, action: impl Into<String>, result: Result<(), Errno>) -> bool {
        match result {
            Ok(()) => {
                self.outcome.is_changed = true;
                true
            }
            Err(errno) => {
                let is_refused = matches!(errno, Errno::PERM | Errno::ACCESS) && !rustix::process::geteuid().is_root();
                let error = RestoreError::from_io(action.into(), self.path, errno.into());
                let is_expected = is_refused || error.kind == RestoreErrorKind::NotSupported;
                self.outcome.problems.push(MetadataProblem { is_expected, error });
                false
            }
        }
    }

    fn owner(&mut self, there: &Metadata, wanted: &WantedMetadata) -> bool {
        if (there.uid, there.gid) == (wanted.uid, wanted.gid) {
            return false;
        }
        // The numbers that stand for "leave it" cannot be set.
        if wanted.uid == u32::MAX || wanted.gid == u32::MAX {
            return self.note("set owner of", Err(Errno::INVAL));
        }
        let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        let result = rustix::fs::chownat(CWD, &*self.proc_path, Some(uid), Some(gid), AtFlags::empty());
        self.note("set owner of", result)
    }

    fn attributes(&mut self, there: &Metadata, wanted: &WantedMetadata, options: MetadataOptions<'_>) -> bool {
        let selects = |name: &[u8]| options.selects_attribute.is_none_or(|selects| selects(name));
        let name_of = |name: &[u8]| format!("attribute {} of", String::from_utf8_lossy(name));
        let mut extra: BTreeMap<&[u8], &[u8]> =
            there.extended_attributes.iter().map(|attribute| (&attribute.name[..], &attribute.value[..])).collect();
        let mut is_changed = false;
        for attribute in wanted.extended_attributes.iter().filter(|attribute| selects(&attribute.name)) {
            if extra.remove(&attribute.name[..]) == Some(&attribute.value[..]) {
                continue;
            }
            let result =
                rustix::fs::setxattr(&*self.proc_path, &attribute.name[..], &attribute.value, XattrFlags::empty());
            is_changed |= self.note(format!("set {}", name_of(&attribute.name)), result);
        }
        for name in extra.into_keys().filter(|name| selects(name)) {
            match rustix::fs::removexattr(&*self.proc_path, name) {
                Err(Errno::NODATA) => {}
                result => is_changed |= self.note(format!("remove {}", name_of(name)), result),
            }
        }
        is_changed
    }

    fn times(&mut self, there: &Metadata, wanted: &WantedMetadata) {
        // Looking at a link is reading it: its access time never stays as it was set.
        let is_accessed_right = wanted.kind == FileKind::Symlink || there.accessed == wanted.accessed;
        if there.modified == wanted.modified && is_accessed_right {
            return;
        }
        let time = |time: UnixTime| Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
        let times = Timestamps { last_access: time(wanted.accessed), last_modification: time(wanted.modified) };
        let result = rustix::fs::utimensat(CWD, &*self.proc_path, &times, AtFlags::empty());
        self.note("set times of", result);
    }

    fn permissions(&mut self, there: &Metadata, wanted: &WantedMetadata) {
        let permissions = wanted.permissions & 0o7777;
        if wanted.kind == FileKind::Symlink || there.st_mode & 0o7777 == permissions {
            return;
        }
        let result = rustix::fs::chmodat(CWD, &*self.proc_path, Mode::from_raw_mode(permissions), AtFlags::empty());
        self.note("set permissions of", result);
    }
}
