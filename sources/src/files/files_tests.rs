//! Tests of `files`.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FileType, Mode, mknodat, openat};
use tempfile::TempDir;

use super::*;
use crate::contract::{self, Fixture};

struct LocalFixture {
    source: FileSource,
    /// Where the root is on this host: under another name than in the snapshot, behind a link.
    mount: PathBuf,
    _directory: TempDir,
}

impl LocalFixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("real")).unwrap();
        symlink("real", directory.path().join("link")).unwrap();
        let mount = directory.path().join("link/mount");
        std::fs::create_dir(&mount).unwrap();
        // The parent of a root must be there: it is this host's /usr.
        let root = Root { path: b"/usr/data".to_vec(), mount: bytes(&mount) };
        Self { source: FileSource::new(vec![root]), mount, _directory: directory }
    }
}

impl Fixture for LocalFixture {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn root(&self) -> Vec<u8> {
        b"/usr/data".to_vec()
    }

    fn directory(&self, path: &str) {
        std::fs::create_dir(self.mount.join(path)).unwrap();
    }

    fn file(&self, path: &str, content: &[u8]) {
        std::fs::write(self.mount.join(path), content).unwrap();
    }

    fn symlink(&self, path: &str, target: &str) {
        symlink(target, self.mount.join(path)).unwrap();
    }

    fn hard_link(&self, existing: &str, path: &str) {
        std::fs::hard_link(self.mount.join(existing), self.mount.join(path)).unwrap();
    }

    fn fifo(&self, path: &str) {
        make_node(&self.mount.join(path), FileType::Fifo, 0);
    }

    fn attribute(&self, path: &str, name: &str, value: &[u8]) {
        rustix::fs::setxattr(self.mount.join(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.mount.join(path)).unwrap();
    }

    fn rewrite(&self, path: &str, content: &[u8]) {
        std::fs::write(self.mount.join(path), content).unwrap();
    }

    fn replace(&self, path: &str, content: &[u8]) {
        let temporary = self.mount.join("temporary name");
        std::fs::write(&temporary, content).unwrap();
        std::fs::rename(temporary, self.mount.join(path)).unwrap();
    }
}

fn make_node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[test]
fn files_fulfil_the_contract() {
    contract::run(&LocalFixture::new());
}

#[test]
fn numbers_are_those_of_lstat() {
    use std::os::unix::fs::MetadataExt;
    let fixture = LocalFixture::new();
    fixture.file("f", b"content");
    fixture.symlink("l", "f");
    std::fs::set_permissions(fixture.mount.join("f"), std::fs::Permissions::from_mode(0o6751)).unwrap();
    let times = std::fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500))
        .set_accessed(std::time::UNIX_EPOCH + std::time::Duration::new(5, 7));
    std::fs::File::options().write(true).open(fixture.mount.join("f")).unwrap().set_times(times).unwrap();
    for name in ["f", "l", "."] {
        let expected = std::fs::symlink_metadata(fixture.mount.join(name)).unwrap();
        let path = if name == "." { fixture.root() } else { fixture.path(name) };
        let metadata = fixture.source.metadata(&path).unwrap();
        assert_eq!(
            (metadata.st_mode, metadata.uid, metadata.gid, metadata.size, metadata.links, metadata.inode),
            (expected.mode(), expected.uid(), expected.gid(), expected.size(), expected.nlink(), expected.ino())
        );
        assert_eq!((metadata.device, metadata.rdev), (expected.dev(), expected.rdev()));
        assert_eq!(
            (metadata.modified.seconds, metadata.modified.nanos as i64),
            (expected.mtime(), expected.mtime_nsec())
        );
        assert_eq!(
            (metadata.accessed.seconds, metadata.accessed.nanos as i64),
            (expected.atime(), expected.atime_nsec())
        );
        assert_eq!(
            (metadata.changed.seconds, metadata.changed.nanos as i64),
            (expected.ctime(), expected.ctime_nsec())
        );
    }
    let file = fixture.source.metadata(&fixture.path("f")).unwrap();
    assert_eq!((file.modified.seconds, file.modified.nanos), (-2, 500_000_000));
}

#[test]
fn every_kind_of_entry() {
    let fixture = LocalFixture::new();
    let device = rustix::fs::makedev(7, 300);
    make_node(&fixture.mount.join("block"), FileType::BlockDevice, device);
    make_node(&fixture.mount.join("character"), FileType::CharacterDevice, device);
    make_node(&fixture.mount.join("fifo"), FileType::Fifo, 0);
    let _listener = std::os::unix::net::UnixListener::bind(fixture.mount.join("socket")).unwrap();
    for (name, kind, rdev) in [
        ("block", FileKind::BlockDevice, device),
        ("character", FileKind::CharacterDevice, device),
        ("fifo", FileKind::Fifo, 0),
        ("socket", FileKind::Socket, 0),
    ] {
        let metadata = fixture.source.metadata(&fixture.path(name)).unwrap();
        assert_eq!((metadata.kind, metadata.rdev), (kind, rdev), "{name}");
        assert!(metadata.warnings.is_empty());
    }
}

#[test]
fn names_that_are_not_utf8_and_long_targets() {
    let fixture = LocalFixture::new();
    let name = std::ffi::OsStr::from_bytes(b"a\xffb\\\"\x01");
    let target = "t/".repeat(2000);
    std::fs::write(fixture.mount.join(name), "x").unwrap();
    symlink(&target, fixture.mount.join("l")).unwrap();
    let names = fixture.source.list(&fixture.root()).unwrap();
    assert_eq!(names.iter().collect::<Vec<_>>(), [name.as_bytes(), b"l"]);
    let answers = fixture.source.metadata_of(&fixture.root(), &names.range(0, 2)).unwrap();
    assert_eq!(answers[0].as_ref().unwrap().size, 1);
    assert_eq!(answers[1].as_ref().unwrap().link_target, target.as_bytes());
}

#[test]
fn attributes_stay_in_the_order_of_the_kernel() {
    let fixture = LocalFixture::new();
    fixture.file("f", b"");
    fixture.symlink("l", "f");
    fixture.directory("d");
    for number in [3, 1, 2] {
        fixture.attribute("f", &format!("user.n{number}"), &[number]);
    }
    fixture.attribute("f", "user.large", &[7; 3000]);
    fixture.attribute("d", "user.dir", b"d");
    let link = fixture.mount.join("l");
    rustix::fs::lsetxattr(&link, "trusted.link", b"x", rustix::fs::XattrFlags::empty()).unwrap();
    let acl = Command::new("setfacl").args(["-m", "u:1234:r"]).arg(fixture.mount.join("f")).status().unwrap();
    assert!(acl.success());
    for name in ["f", "l", "d"] {
        let mut list = vec![0; 4096];
        let length = rustix::fs::llistxattr(fixture.mount.join(name), &mut list).unwrap();
        let expected: Vec<&[u8]> = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        let metadata = fixture.source.metadata(&fixture.path(name)).unwrap();
        let names: Vec<&[u8]> = metadata.extended_attributes.iter().map(|attribute| &attribute.name[..]).collect();
        assert_eq!(names, expected, "{name}");
        assert!(metadata.warnings.is_empty());
    }
    let file = fixture.source.metadata(&fixture.path("f")).unwrap();
    let value = |name: &str| &file.extended_attributes.iter().find(|a| a.name == name.as_bytes()).unwrap().value;
    assert_eq!(*value("user.large"), [7; 3000]);
    assert_eq!(value("system.posix_acl_access")[..4], [2, 0, 0, 0]);
    let open = fixture.source.open(&fixture.path("f"), &file).unwrap();
    assert_eq!(open.metadata().unwrap(), file);
}

#[test]
fn numbers_and_attributes_as_stock_restic_stores_them() {
    let stock = super::stock_restic::StockRestic::new();
    let directory = stock.base().join("odd");
    std::fs::create_dir(&directory).unwrap();
    let path = |name: &str| directory.join(name);
    std::fs::write(path("file"), "content").unwrap();
    std::fs::hard_link(path("file"), path("second")).unwrap();
    std::fs::create_dir(path("sub")).unwrap();
    symlink("to/nowhere", path("link")).unwrap();
    make_node(&path("fifo"), FileType::Fifo, 0);
    make_node(&path("block"), FileType::BlockDevice, rustix::fs::makedev(259, 300));
    make_node(&path("character"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    for name in ["file", "sub"] {
        for attribute in ["user.z", "trusted.m", "user.a", "security.q", "user.long name"] {
            rustix::fs::setxattr(path(name), attribute, b"", rustix::fs::XattrFlags::empty()).unwrap();
        }
        assert!(Command::new("setfacl").args(["-m", "u:7:rx"]).arg(path(name)).status().unwrap().success());
    }
    rustix::fs::lsetxattr(path("link"), "trusted.link", b"", rustix::fs::XattrFlags::empty()).unwrap();

    let source = FileSource::whole_host();
    let nodes = stock.nodes("odd");
    assert_eq!(nodes.len(), 7);
    for node in nodes {
        let name = node["name"].as_str().unwrap();
        let metadata = source.metadata(&bytes(&path(name))).unwrap();
        let number = |key: &str| node[key].as_u64().unwrap_or(0);
        assert_eq!((metadata.inode, metadata.device), (number("inode"), number("device_id")), "{name}");
        assert_eq!(
            (u64::from(metadata.uid), u64::from(metadata.st_mode & 0o777)),
            (number("uid"), number("mode") & 0o777)
        );
        assert_eq!(metadata.rdev, number("device"), "{name}");
        if !matches!(metadata.kind, FileKind::Directory | FileKind::Fifo) {
            assert_eq!(metadata.links, number("links"), "{name}");
        }
        assert_eq!(metadata.link_target, node["linktarget"].as_str().unwrap_or("").as_bytes());
        let stored = node["extended_attributes"].as_array().cloned().unwrap_or_default();
        let stored: Vec<&[u8]> =
            stored.iter().map(|attribute| attribute["name"].as_str().unwrap().as_bytes()).collect();
        let ours: Vec<&[u8]> = metadata.extended_attributes.iter().map(|attribute| &attribute.name[..]).collect();
        assert_eq!(ours, stored, "{name}");
    }
}

#[test]
fn attributes_of_the_root_itself() {
    let fixture = LocalFixture::new();
    fixture.attribute(".", "user.root", b"r");
    let metadata = fixture.source.metadata(&fixture.root()).unwrap();
    assert_eq!(metadata.extended_attributes[0].name, b"user.root");
}

#[test]
fn a_root_may_be_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("single");
    std::fs::write(&path, "content").unwrap();
    let source = FileSource::new(vec![Root { path: b"/single".to_vec(), mount: bytes(&path) }]);
    let metadata = source.metadata(b"/single").unwrap();
    assert_eq!(metadata.kind, FileKind::File);
    let mut buffer = [0; 16];
    assert_eq!(source.open(b"/single", &metadata).unwrap().read_at(3, &mut buffer).unwrap(), 4);
    assert_eq!(source.list(b"/single").unwrap_err().kind, SourceErrorKind::Changed);
    assert_eq!(source.metadata(b"/single/x").unwrap_err().kind, SourceErrorKind::Changed);
}

#[test]
fn a_missing_root_is_vanished() {
    let source = FileSource::new(vec![Root::parse(b"/data=/nowhere/at/all").unwrap()]);
    assert_eq!(source.metadata(b"/data").unwrap_err().kind, SourceErrorKind::Vanished);
    assert_eq!(source.metadata(b"/data/x").unwrap_err().kind, SourceErrorKind::Vanished);
    assert_eq!(source.list(b"/data").unwrap_err().kind, SourceErrorKind::Vanished);
}

#[test]
fn sixty_levels_of_long_names() {
    let fixture = LocalFixture::new();
    let name = "n".repeat(200);
    let mut current: OwnedFd = std::fs::File::open(&fixture.mount).unwrap().into();
    for _ in 0..60 {
        rustix::fs::mkdirat(&current, name.as_str(), Mode::RWXU).unwrap();
        current = openat(&current, name.as_str(), OFlags::PATH, Mode::empty()).unwrap();
    }
    let file = openat(&current, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let directory = fixture.path(&vec![name.as_str(); 60].join("/"));
    let path = paths::child(&directory, b"file");
    assert_eq!(fixture.source.list(&directory).unwrap().iter().collect::<Vec<_>>(), [b"file"]);
    let metadata = fixture.source.metadata(&path).unwrap();
    assert_eq!(fixture.source.open(&path, &metadata).unwrap().read_at(0, &mut [0; 9]).unwrap(), 4);
    // Such a tree is taken down level by level.
    assert!(Command::new("rm").arg("-r").arg(fixture.mount.join(&name)).status().unwrap().success());
}

#[test]
fn access_times_stay() {
    use std::os::unix::fs::MetadataExt;
    let fixture = LocalFixture::new();
    fixture.directory("d");
    fixture.file("d/f", b"content");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    for path in ["d/f", "d"] {
        let file = std::fs::File::open(fixture.mount.join(path)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_accessed(old)).unwrap();
    }
    let metadata = fixture.source.metadata(&fixture.path("d/f")).unwrap();
    fixture.source.open(&fixture.path("d/f"), &metadata).unwrap().read_at(0, &mut [0; 9]).unwrap();
    fixture.source.list(&fixture.path("d")).unwrap();
    for path in ["d/f", "d"] {
        assert_eq!(std::fs::symlink_metadata(fixture.mount.join(path)).unwrap().atime(), 1000, "{path}");
    }
}

#[test]
fn a_nested_root_is_seen_under_its_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("outer/sub")).unwrap();
    std::fs::create_dir(directory.path().join("inner")).unwrap();
    std::fs::write(directory.path().join("inner/x"), "").unwrap();
    let root = |path: &str, mount: &str| Root { path: path.into(), mount: bytes(&directory.path().join(mount)) };
    let source = FileSource::new(vec![root("/o", "outer"), root("/o/sub", "inner")]);
    let inner = source.metadata(b"/o/sub").unwrap();
    assert_eq!(source.metadata_of(b"/o", &[b"sub"]).unwrap()[0].as_ref().unwrap().inode, inner.inode);
    assert_eq!(source.list(b"/o/sub").unwrap().len(), 1);
    let mounts = source.mounts(&[b"/o".to_vec()]).unwrap();
    assert_eq!(mounts.iter().map(|mount| &mount.path[..]).collect::<Vec<_>>(), [&b"/o"[..], b"/o/sub"]);
}

/// Runs this test binary's `name` again in a mount namespace of its own.
fn in_own_mounts(name: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--"])
        .arg(program)
        .env("SOURCES_TEST_INSIDE", "1")
        .args(["--exact", "--nocapture", name])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mount_points_are_found() {
    in_own_mounts("files::tests::mount_points_are_found_inside");
}

#[test]
// Does its work only when `mount_points_are_found` runs it, which gives it a mount namespace of its own.
fn mount_points_are_found_inside() {
    if std::env::var_os("SOURCES_TEST_INSIDE").is_none() {
        return;
    }
    let fixture = LocalFixture::new();
    let mount = |path: &str| {
        let status = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(fixture.mount.join(path)).status();
        assert!(status.unwrap().success());
    };
    fixture.directory("with space");
    mount("with space");
    fixture.directory("with space/inner");
    mount("with space/inner");
    fixture.directory("covered");
    mount("covered");
    fixture.directory("covered/hidden");
    mount("covered/hidden");
    mount("covered");
    let mounts = fixture.source.mounts(&[fixture.root()]).unwrap();
    let expected = ["", "covered", "with space", "with space/inner"].map(|path| match path {
        "" => fixture.root(),
        path => fixture.path(path),
    });
    assert_eq!(mounts.iter().map(|mount| mount.path.clone()).collect::<Vec<_>>(), expected);
    for mount in &mounts[1..] {
        assert!(mount.is_mount_point && mount.file_system == "tmpfs");
        assert_eq!(mount.device, fixture.source.metadata(&mount.path).unwrap().device);
        assert_ne!(mount.device, mounts[0].device);
    }
    let below = fixture.source.mounts(&[fixture.path("with space")]).unwrap();
    assert_eq!(below, mounts[2..]);
}

/// Everything that a user without rights meets.
#[test]
// Does its work only when `denied_is_told_from_missing` runs it, which gives it an ordinary user.
fn denied_is_told_from_missing_inside() {
    if std::env::var_os("SOURCES_TEST_INSIDE").is_none() {
        return;
    }
    let directory = PathBuf::from(std::env::var_os("SOURCES_TEST_DIRECTORY").unwrap());
    let source = FileSource::new(vec![Root { path: b"/data".to_vec(), mount: bytes(&directory) }]);
    let file = source.metadata(b"/data/file").unwrap();
    assert_eq!(source.open(b"/data/file", &file).err().unwrap().kind, SourceErrorKind::Denied);
    assert_eq!(source.list(b"/data/closed").unwrap_err().kind, SourceErrorKind::Denied);
    assert_eq!(source.metadata(b"/data/closed/x").unwrap_err().kind, SourceErrorKind::Denied);
    let names = source.list(b"/data/listed").unwrap();
    let answers = source.metadata_of(b"/data/listed", &names.range(0, names.len()));
    assert_eq!(answers.unwrap()[0].as_ref().unwrap_err().kind, SourceErrorKind::Denied);
    // Of another's readable file the access time cannot be kept; it is read all the same.
    let readable = source.metadata(b"/data/readable").unwrap();
    assert_eq!(source.open(b"/data/readable", &readable).unwrap().read_at(0, &mut [0; 9]).unwrap(), 1);
    assert!(readable.warnings.is_empty());
    // `user.*` attributes need read permission: named, not readable.
    assert_eq!(file.warnings.len(), 1, "{:?}", file.warnings);
    assert!(file.extended_attributes.is_empty());
    assert!(!file.warnings[0].is_list_denied);
}

#[test]
fn denied_is_told_from_missing() {
    let directory = tempfile::tempdir().unwrap();
    let set_mode = |path: &str, mode| {
        std::fs::set_permissions(directory.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["closed", "listed"] {
        std::fs::create_dir(directory.path().join(path)).unwrap();
        std::fs::write(directory.path().join(path).join("x"), "x").unwrap();
    }
    for path in ["file", "readable"] {
        std::fs::write(directory.path().join(path), "x").unwrap();
    }
    let attribute = rustix::fs::setxattr(directory.path().join("file"), "user.a", b"", rustix::fs::XattrFlags::empty());
    attribute.unwrap();
    set_mode(".", 0o755);
    set_mode("closed", 0o700);
    set_mode("listed", 0o744);
    set_mode("file", 0o600);
    let program = directory.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    set_mode("program", 0o755);
    let output = Command::new("setpriv")
        .args(["--reuid=1234", "--regid=1234", "--clear-groups", "--bounding-set=-all"])
        .arg(&program)
        .env("SOURCES_TEST_INSIDE", "1")
        .args(["--exact", "--nocapture", "files::tests::denied_is_told_from_missing_inside"])
        .env("SOURCES_TEST_DIRECTORY", directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
