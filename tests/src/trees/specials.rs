//! Entries that are neither file nor directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{Builder, broken};

/// Targets of symbolic links.
const TARGETS: &[(&str, &[u8])] = &[
    ("file", b"../contents/empty"),
    ("folder", b"../shapes"),
    ("folder-slash", b"../shapes/"),
    ("dangling", b"there/is/nothing"),
    ("absolute", b"/etc/passwd"),
    ("root", b"/"),
    ("self", b"self"),
    ("parent", b".."),
    ("here", b"."),
    ("outside", b"../../../../../../../../etc"),
    ("dots", b"./../specials/./file//"),
    ("newline", b"new\nline\ttab"),
    ("quote", b"a\"b\\c<d>&"),
    ("not-utf8", b"caf\xe9/\xff\xfe"),
    ("surrogate", b"\xed\xa0\x80"),
    ("replacement", "\u{fffd}\u{2028}\u{1fae9}".as_bytes()),
];

/// The longest target that Linux takes: a page without its NUL.
const TARGET_LENGTH_MAX: usize = 4_095;

pub(super) fn build(builder: &mut Builder) {
    let folder = builder.folder("specials");
    for (name, target) in TARGETS {
        link(&folder.join(format!("link-{name}")), target);
    }
    link(&folder.join("link-long"), &b"0123456789abcdef".repeat(256)[..TARGET_LENGTH_MAX]);
    let make = |name: &str, kind, mode, device| {
        let path = folder.join(name);
        mknodat(CWD, &path, kind, Mode::from_raw_mode(mode), device)
            .unwrap_or_else(|error| broken(&path, "make", error));
    };
    make("fifo", FileType::Fifo, 0o644, 0);
    make("char-null", FileType::CharacterDevice, 0o666, makedev(1, 3));
    make("char-zero", FileType::CharacterDevice, 0o600, makedev(0, 0));
    make("char-large", FileType::CharacterDevice, 0o600, makedev(4_095, 1_048_575));
    make("block-loop", FileType::BlockDevice, 0o660, makedev(7, 0));
    make("block-large", FileType::BlockDevice, 0o600, makedev(259, 70_000));
    socket(builder);
}

/// Second names of special files. restic writes their link count and restores them as files of their own.
pub(super) fn build_links(builder: &Builder) {
    let folder = builder.folder("specials");
    for name in ["link-dangling", "fifo", "char-zero", "block-large", "socket"] {
        let second = folder.join(format!("second-{name}"));
        std::fs::hard_link(folder.join(name), &second).unwrap_or_else(|error| broken(&second, "link", error));
    }
}

fn link(path: &Path, target: &[u8]) {
    symlink(OsStr::from_bytes(target), path).unwrap_or_else(|error| broken(path, "link", error));
}

/// A socket's path is short, so it is bound at the top and moved to its place; it stays when the listener goes.
fn socket(builder: &Builder) {
    let (short, path) = (builder.root.join("s"), builder.root.join("specials/socket"));
    UnixListener::bind(&short).unwrap_or_else(|error| broken(&short, "bind", error));
    std::fs::rename(&short, &path).unwrap_or_else(|error| broken(&path, "rename to", error));
}
