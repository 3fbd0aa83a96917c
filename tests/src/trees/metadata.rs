//! Owners, modes, attributes, access lists, capabilities and times.

use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, utimensat};

use super::{Builder, broken};
use crate::bytes::Bytes;
use crate::process::run;

/// Modes of files and of directories.
const MODES: &[u32] = &[0, 0o001, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o6711, 0o1755, 0o7777, 0o4000];

/// Owners: root, known by name, without a name, the largest but one (the largest means "leave it").
const OWNERS: &[(u32, u32)] =
    &[(0, 0), (1, 2), (65_534, 65_534), (54_321, 65_432), (0, 4_000_000_000), (u32::MAX - 1, 7)];

/// Seconds and nanoseconds. ext4 holds 1901-12-13 to 2446-05-10.
const TIMES: &[(i64, i64)] = &[
    (0, 0),
    (0, 1),
    (-1, 0),
    // -1.5 s: the fraction counts forward.
    (-2, 500_000_000),
    (-2_147_483_648, 0),
    (-1_000_000_000, 999_999_999),
    (2_147_483_647, 999_999_999),
    (2_147_483_648, 0),
    // 2106, 2200, and the last second of 64-bit nanoseconds (2262), after which restic restores another time.
    (4_294_967_296, 100_000_000),
    (7_258_118_400, 120_000_000),
    (9_223_372_036, 0),
    // Fractions with trailing zeros to cut.
    (1_700_000_000, 123_456_789),
    (1_700_000_000, 123_000_000),
    (1_700_000_000, 1_000),
    // July and November, for zones with summer time; the hour that a zone has twice.
    (1_688_212_800, 0),
    (1_698_541_200, 0),
    (1_698_537_600, 0),
];

pub(super) fn build(builder: &mut Builder) {
    owners(builder);
    modes(builder);
    attributes(builder);
    access_lists(builder);
    times(builder);
}

fn times(builder: &mut Builder) {
    for (index, (seconds, nanoseconds)) in TIMES.iter().enumerate() {
        let file = builder.file(format!("metadata/times/file-{index:02}"), "");
        let folder = builder.folder(format!("metadata/times/folder-{index:02}"));
        let link = builder.folder("metadata/times").join(format!("link-{index:02}"));
        std::os::unix::fs::symlink("file", &link).unwrap_or_else(|error| broken(&link, "link", error));
        builder.times.extend([file, folder, link].map(|path| (path, *seconds, *nanoseconds)));
    }
}

fn owners(builder: &Builder) {
    for (index, (user, group)) in OWNERS.iter().enumerate() {
        let file = builder.file(format!("metadata/owners/file-{index}"), "");
        let folder = builder.folder(format!("metadata/owners/folder-{index}"));
        let link = builder.folder("metadata/owners").join(format!("link-{index}"));
        std::os::unix::fs::symlink("file", &link).unwrap_or_else(|error| broken(&link, "link", error));
        for path in [file, folder, link] {
            lchown(&path, Some(*user), Some(*group)).unwrap_or_else(|error| broken(&path, "chown", error));
        }
    }
}

fn modes(builder: &Builder) {
    for mode in MODES {
        let file = builder.file(format!("metadata/modes/file-{mode:04o}"), format!("{mode:o}"));
        let folder = builder.file(format!("metadata/modes/folder-{mode:04o}/file"), "");
        let folder = folder.parent().unwrap_or(&folder).to_path_buf();
        for path in [file, folder] {
            let permissions = std::fs::Permissions::from_mode(*mode);
            std::fs::set_permissions(&path, permissions).unwrap_or_else(|error| broken(&path, "chmod", error));
        }
    }
}

/// Names out of order, an empty value, binary and long values; on files, directories and (trusted only) links.
fn attributes(builder: &Builder) {
    let mut bytes = Bytes::part(builder.seed, 3);
    let file = builder.file("metadata/attributes/file", "attributes");
    let folder = builder.folder("metadata/attributes/folder");
    for path in [&file, &folder] {
        set(path, "user.zulu", b"last first");
        set(path, "user.alpha", b"");
        set(path, "user.mike", &bytes.vec(300));
        set(path, "trusted.longshore", b"\0\xff\n");
        set(path, "user.gr\u{fc}\u{df}e \"quoted\"", b"name");
    }
    let long = builder.file("metadata/attributes/long", "");
    set(&long, "user.long", &bytes.vec(2_500));
    let link = builder.folder("metadata/attributes").join("link");
    std::os::unix::fs::symlink("file", &link).unwrap_or_else(|error| broken(&link, "link", error));
    set(&link, "trusted.link", b"of the link itself");
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| broken(path, &format!("set {name} of"), error));
}

fn access_lists(builder: &Builder) {
    let file = builder.file("metadata/access/file", "");
    let folder = builder.folder("metadata/access/folder");
    let both = builder.folder("metadata/access/both");
    let capable = builder.file("metadata/access/capable", "#!/bin/sh\n");
    let more_capable = builder.file("metadata/access/more-capable", "#!/bin/sh\n");
    let tool = |program: &str, arguments: &[&str], path: &Path| {
        run(Command::new(program).args(arguments).arg(path)).expect_code(0);
    };
    tool("setfacl", &["-m", "u:1234:rw,g:4321:r,m::rw"], &file);
    tool("setfacl", &["-d", "-m", "u:1234:rwx,g:daemon:rx"], &folder);
    tool("setfacl", &["-m", "u:nobody:rx,d:u:nobody:rx,d:o::-"], &both);
    std::fs::write(both.join("inherits"), "").unwrap_or_else(|error| broken(&both, "write into", error));
    tool("setcap", &["cap_net_raw+ep"], &capable);
    tool("setcap", &["cap_net_bind_service,cap_sys_admin+eip"], &more_capable);
}

/// Sets modification time, and an access time a second later, of the entry itself.
pub fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let last_access = Timespec { tv_sec: seconds.saturating_add(1), tv_nsec: 7 };
    let times = Timestamps { last_access, last_modification };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap_or_else(|error| broken(path, "set times of", error));
}

/// Gives every entry a time of the seed, directories after what is in them, then those that matter.
pub(super) fn apply_times(builder: &Builder) {
    let mut bytes = Bytes::part(builder.seed, 4);
    apply_below(&builder.root, &mut bytes);
    for (path, seconds, nanoseconds) in &builder.times {
        set_times(path, *seconds, *nanoseconds);
    }
}

fn apply_below(path: &Path, bytes: &mut Bytes) {
    let metadata = path.symlink_metadata().unwrap_or_else(|error| broken(path, "look at", error));
    if metadata.is_dir() {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| broken(path, "list", error));
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for below in paths {
            apply_below(&below, bytes);
        }
    }
    // Names of one inode share its times: the last in the walk decides.
    set_times(path, 1_500_000_000 + bytes.below(200_000_000) as i64, bytes.below(1_000_000_000) as i64);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_file_system_keeps_every_time() {
        let scratch = Scratch::new("times");
        let mut builder = Builder { root: scratch.path().to_path_buf(), seed: 1, times: Vec::new() };
        times(&mut builder);
        apply_times(&builder);
        assert_eq!(builder.times.len(), TIMES.len() * 3);
        for (path, seconds, nanoseconds) in &builder.times {
            let metadata = path.symlink_metadata().expect("it was made");
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (*seconds, *nanoseconds), "{}", path.display());
        }
    }
}
