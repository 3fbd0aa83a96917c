//! The mount table of this process, in the namespace of the snapshot.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::roots::{Place, Root, Roots};
use super::{FileSource, local_device};
use crate::paths;
use crate::source::{Mount, Source, SourceError};

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// See [`crate::source::Source::mounts`].
pub(super) fn mounts(source: &FileSource, roots: &Roots, under: &[Vec<u8>]) -> Result<Vec<Mount>, SourceError> {
    let table =
        std::fs::read(MOUNT_TABLE).map_err(|error| SourceError::from_io("read", MOUNT_TABLE.as_bytes(), error))?;
    let table = parse(&table);
    let mut found = BTreeMap::new();
    for path in under {
        let device = source.metadata(path)?.device;
        found.entry(path.clone()).or_insert_with(|| Mount {
            path: path.clone(),
            device,
            is_mount_point: false,
            file_system: String::new(),
        });
        if let Place::Below { root, relative } = roots.place(path) {
            add_below(&table, roots, root, relative, &mut found)?;
        }
        for root in roots.at_or_below(path) {
            add_below(&table, roots, root, b"", &mut found)?;
            let device = source.metadata(&root.path)?.device;
            found.entry(root.path.clone()).or_insert_with(|| Mount {
                path: root.path.clone(),
                device,
                is_mount_point: false,
                file_system: String::new(),
            });
        }
    }
    Ok(found.into_values().collect())
}

/// Adds the mount points at or below `relative` in `root`.
fn add_below(
    table: &[MountedFileSystem],
    roots: &Roots,
    root: &Root,
    relative: &[u8],
    found: &mut BTreeMap<Vec<u8>, Mount>,
) -> Result<(), SourceError> {
    let mount = std::fs::canonicalize(OsStr::from_bytes(&root.mount))
        .map_err(|error| SourceError::from_io("resolve", &root.path, error))?
        .into_os_string()
        .into_vec();
    let start = if relative.is_empty() { mount.clone() } else { paths::child(&mount, relative) };
    for mounted in table.iter().filter(|mounted| paths::below(&start, &mounted.mount_point).is_some()) {
        let path = match paths::below(&mount, &mounted.mount_point) {
            Some(b"") | None => root.path.clone(),
            Some(relative) => paths::child(&root.path, relative),
        };
        let is_served_here = matches!(roots.place(&path), Place::Below { root: nearest, .. } if nearest == root);
        // A mount point that cannot be reached is hidden under another one.
        let Ok(device) = local_device(&mounted.mount_point) else { continue };
        if is_served_here {
            let file_system = mounted.file_system.clone();
            found.insert(path.clone(), Mount { path, device, is_mount_point: true, file_system });
        }
    }
    Ok(())
}

/// One line of the mount table.
#[derive(Debug, PartialEq, Eq)]
struct MountedFileSystem {
    mount_point: Vec<u8>,
    file_system: String,
}

/// Reads /proc/self/mountinfo (proc_pid_mountinfo(5)): the mount point is the fifth field, the type
/// follows the field `-`. Lines that do not look so are left out.
fn parse(table: &[u8]) -> Vec<MountedFileSystem> {
    let line = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let mount_point = unescape(fields.nth(4)?);
        let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(MountedFileSystem { mount_point, file_system: String::from_utf8_lossy(file_system).into_owned() })
    };
    table.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Space, tab, newline and backslash stand in the table as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        if let Some(digits) = octal {
            plain.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = b"36 35 98:0 /mnt1 /mnt/with\\040space\\134 rw,noatime master:1 - ext3 /dev/root rw\n\
            37 35 0:5 / /plain rw - tmpfs tmpfs rw\n\
            nonsense\n\
            38 35 0:5 / /cut rw\n";
        let mounted = |mount_point: &[u8], file_system: &str| MountedFileSystem {
            mount_point: mount_point.to_vec(),
            file_system: file_system.to_owned(),
        };
        assert_eq!(parse(table), [mounted(b"/mnt/with space\\", "ext3"), mounted(b"/plain", "tmpfs")]);
        assert_eq!(unescape(b"a\\12"), b"a\\12");
        assert_eq!(unescape(b"\\377\\011"), b"\xff\t");
    }
}
