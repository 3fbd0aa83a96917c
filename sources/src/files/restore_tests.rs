//! Tests of `restore`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::handles::UnixTime;
use rustix::fs::CWD;
use tempfile::TempDir;

use super::super::FileSource;
use super::*;
use crate::source::{ExtendedAttribute, Source};

/// A target, and beside it what must stay untouched.
struct Place {
    target: FileTarget,
    directory: TempDir,
}

const WITH_TREES: ReplaceOptions = ReplaceOptions { removes_trees: true };
const KEEPING_TREES: ReplaceOptions = ReplaceOptions { removes_trees: false };

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("outside")).unwrap();
        std::fs::write(directory.path().join("outside/secret"), "precious").unwrap();
        let target = FileTarget::at(&directory.path().join("new/target")).unwrap();
        Self { target, directory }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join("new/target").join(relative)
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// Fails if anything outside changed.
    fn check_outside(&self) {
        let names: Vec<_> =
            std::fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        let secret = self.outside().join("secret");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "precious");
        let metadata = std::fs::symlink_metadata(secret).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.nlink()), (0o644, 0, 1));
    }

    fn write(&self, path: &str, content: &[u8]) -> bool {
        let prepared = self.target.prepare_file(path.as_bytes(), content.len() as u64, PrepareOptions::default());
        let mut prepared = prepared.unwrap();
        prepared.file.write_at(0, content).unwrap();
        prepared.was_there
    }
}

fn wanted(kind: FileKind, permissions: u32) -> WantedMetadata {
    WantedMetadata {
        kind,
        permissions,
        uid: 1234,
        gid: 4321,
        modified: UnixTime { seconds: -5, nanos: 123_456_789 },
        accessed: UnixTime { seconds: 1_700_000_000, nanos: 1 },
        extended_attributes: Vec::new(),
    }
}

fn attribute(name: &str, value: &[u8]) -> ExtendedAttribute {
    ExtendedAttribute { name: name.as_bytes().to_vec(), value: value.to_vec() }
}

fn kind_of<T>(result: Result<T, RestoreError>) -> RestoreErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind,
    }
}

/// Tries every call on a path and gives the kinds of their errors.
fn try_all(target: &FileTarget, path: &[u8]) -> Vec<RestoreErrorKind> {
    let wanted = wanted(FileKind::File, 0o777);
    vec![
        kind_of(target.metadata(path)),
        kind_of(target.list(path)),
        kind_of(target.prepare_file(path, 1, PrepareOptions { is_sparse: false, removes_trees: true })),
        kind_of(target.open_file(path)),
        kind_of(target.make_symlink(path, b"x", WITH_TREES)),
        kind_of(target.make_special(path, FileKind::Fifo, 0, WITH_TREES)),
        kind_of(target.make_hard_link(path, b"ok", WITH_TREES)),
        kind_of(target.make_hard_link(b"plain", path, WITH_TREES)),
        kind_of(target.set_metadata(path, &wanted, MetadataOptions::default())),
        kind_of(target.remove_tree(path, &mut |_| {})),
    ]
}

#[test]
fn hostile_names_are_refused() {
    let place = Place::new();
    place.write("plain", b"x");
    for path in ["..", ".", "a/..", "../outside/secret", "/outside", "a//b", "a/", "plain/../x", "a\0b", "./plain"] {
        let kinds = try_all(&place.target, path.as_bytes());
        assert!(kinds.iter().all(|kind| *kind == RestoreErrorKind::NotAllowed), "{path} {kinds:?}");
        assert_eq!(kind_of(place.target.make_directory(path.as_bytes())), RestoreErrorKind::NotAllowed);
    }
    // The target itself may be looked at, nothing else.
    assert!(place.target.metadata(b"").is_ok() && place.target.list(b"").is_ok());
    assert_eq!(kind_of(place.target.remove_tree(b"", &mut |_| {})), RestoreErrorKind::NotAllowed);
    assert_eq!(place.target.list(b"").unwrap().iter().collect::<Vec<_>>(), [b"plain"]);
    place.check_outside();
}

#[test]
fn a_link_instead_of_a_directory_is_never_followed() {
    let place = Place::new();
    place.write("plain", b"x");
    symlink(place.outside(), place.path("d")).unwrap();
    symlink("../../outside", place.path("relative")).unwrap();
    for path in ["d/secret", "relative/secret", "plain/secret"] {
        let kinds = try_all(&place.target, path.as_bytes());
        assert!(kinds.iter().all(|kind| *kind == RestoreErrorKind::Changed), "{path} {kinds:?}");
    }
    place.check_outside();
    assert_eq!(place.target.make_directory(b"d/sub").unwrap(), Effect::Created);
    assert!(place.path("d").symlink_metadata().unwrap().is_dir());
    assert_eq!(place.target.make_directory(b"relative").unwrap(), Effect::Replaced);
    assert_eq!(place.target.make_directory(b"plain").unwrap(), Effect::Replaced);
    assert_eq!(place.target.make_directory(b"plain").unwrap(), Effect::Unchanged);
    assert_eq!(place.path("d/sub").symlink_metadata().unwrap().mode() & 0o7777, 0o700);
    place.check_outside();
}

#[test]
fn a_link_at_the_end_is_replaced_or_itself_meant() {
    let place = Place::new();
    for name in ["file", "removed", "owned"] {
        symlink(place.outside().join("secret"), place.path(name)).unwrap();
    }
    symlink(place.outside(), place.path("tree")).unwrap();
    assert_eq!(kind_of(place.target.open_file(b"file")), RestoreErrorKind::Changed);
    assert!(!place.write("file", b"new"));
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"new");
    let file_wanted = place.target.set_metadata(b"owned", &wanted(FileKind::File, 0o777), MetadataOptions::default());
    assert_eq!(kind_of(file_wanted), RestoreErrorKind::Changed);
    let outcome =
        place.target.set_metadata(b"owned", &wanted(FileKind::Symlink, 0o777), MetadataOptions::default()).unwrap();
    assert!(outcome.is_changed && outcome.problems.is_empty(), "{outcome:?}");
    assert_eq!(place.path("owned").symlink_metadata().unwrap().uid(), 1234);
    place.target.remove_tree(b"removed", &mut |_| {}).unwrap();
    let mut removed = Vec::new();
    place.target.remove_tree(b"tree", &mut |path| removed.push(path.to_vec())).unwrap();
    assert_eq!(removed, [b"tree"]);
    place.check_outside();
}

#[test]
fn a_link_exchanged_while_we_write_leads_nowhere() {
    let place = Place::new();
    place.target.make_directory(b"d").unwrap();
    symlink(place.outside(), place.path("link")).unwrap();
    struct SetOnDrop<'a>(&'a AtomicBool);
    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = SetOnDrop(&is_done);
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, place.path("d"), CWD, place.path("link"), exchange).unwrap();
            }
        });
        let (mut made, mut refused) = (0, 0);
        // Until both happened: the exchange really runs against us.
        while made < 300 || refused < 300 {
            assert!(made + refused < 10_000_000, "only one of both happens");
            let path = format!("d/f{}", made % 7);
            match place.target.prepare_file(path.as_bytes(), 3, PrepareOptions::default()) {
                Ok(mut prepared) => {
                    prepared.file.write_at(0, b"bad").unwrap();
                    made += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind, RestoreErrorKind::Changed, "{error:?}");
                    refused += 1;
                }
            }
            let metadata = wanted(FileKind::File, 0o777);
            let _ = place.target.set_metadata(b"d/secret", &metadata, MetadataOptions::default());
            let _ = place.target.remove_tree(b"d/secret", &mut |_| {});
        }
    });
    place.check_outside();
}

#[test]
fn files_are_prepared_without_losing_content() {
    let place = Place::new();
    assert!(!place.write("f", b"0123456789"));
    for (size, expected) in [(10, &b"0123456789"[..]), (4, b"0123"), (6, b"0123\0\0"), (0, b"")] {
        let prepared = place.target.prepare_file(b"f", size, PrepareOptions::default()).unwrap();
        assert!(prepared.was_there);
        assert_eq!(std::fs::read(place.path("f")).unwrap(), expected);
    }
    let before = place.path("f").symlink_metadata().unwrap();
    place.target.prepare_file(b"f", 0, PrepareOptions::default()).unwrap();
    let after = place.path("f").symlink_metadata().unwrap();
    assert_eq!((before.mtime_nsec(), before.ctime_nsec()), (after.mtime_nsec(), after.ctime_nsec()));
    assert_eq!(before.mode() & 0o7777, 0o600);
}

#[test]
fn space_is_allocated_unless_sparse() {
    let place = Place::new();
    const SIZE: u64 = 1 << 20;
    let blocks = |path: &str| place.path(path).symlink_metadata().unwrap().blocks() * 512;
    let prepare = |path: &str, is_sparse| {
        place.target.prepare_file(path.as_bytes(), SIZE, PrepareOptions { is_sparse, removes_trees: false }).unwrap()
    };
    prepare("full", false);
    let mut sparse = prepare("sparse", true);
    assert!(blocks("full") >= SIZE);
    assert_eq!((blocks("sparse"), place.path("sparse").symlink_metadata().unwrap().len()), (0, SIZE));
    sparse.file.write_at(0, &vec![7; SIZE as usize]).unwrap();
    assert_eq!(sparse.file.metadata().unwrap().size, SIZE);
    sparse.file.punch(4096, SIZE / 2).unwrap();
    assert!(blocks("sparse") < SIZE);
    let mut content = vec![1; SIZE as usize];
    assert_eq!(sparse.file.read_at(0, &mut content).unwrap() as u64, SIZE);
    let mut expected = vec![7; SIZE as usize];
    expected[4096..4096 + SIZE as usize / 2].fill(0);
    assert!(content == expected);
}

#[test]
fn only_plain_files_with_one_link_are_kept() {
    let place = Place::new();
    place.write("linked", b"both");
    std::fs::hard_link(place.path("linked"), place.path("other")).unwrap();
    assert_eq!(kind_of(place.target.open_file(b"linked")), RestoreErrorKind::Changed);
    assert!(!place.write("linked", b"one"));
    assert_eq!(std::fs::read(place.path("other")).unwrap(), b"both");
    // Opening a fifo would wait, opening a device might do anything.
    place.target.make_special(b"fifo", FileKind::Fifo, 0, KEEPING_TREES).unwrap();
    assert_eq!(kind_of(place.target.open_file(b"fifo")), RestoreErrorKind::Changed);
    assert!(!place.write("fifo", b"now a file"));
    assert_eq!(kind_of(place.target.open_file(b"none")), RestoreErrorKind::Vanished);
    assert_eq!(kind_of(place.target.prepare_file(b"none/f", 0, PrepareOptions::default())), RestoreErrorKind::Vanished);
    place.target.open_file(b"other").unwrap().write_at(1, b"OT").unwrap();
    assert_eq!(std::fs::read(place.path("other")).unwrap(), b"bOTh");
}

#[test]
fn directories_in_the_way() {
    let place = Place::new();
    for name in ["empty", "full/sub"] {
        place.target.make_directory(name.as_bytes()).unwrap();
    }
    place.write("full/sub/f", b"x");
    assert!(!place.write("empty", b"now a file"));
    let keeping = place.target.prepare_file(b"full", 1, PrepareOptions::default());
    assert_eq!(kind_of(keeping), RestoreErrorKind::InTheWay);
    assert_eq!(kind_of(place.target.make_symlink(b"full", b"x", KEEPING_TREES)), RestoreErrorKind::InTheWay);
    assert!(place.path("full/sub/f").exists());
    assert_eq!(place.target.make_symlink(b"full", b"x", WITH_TREES).unwrap(), Effect::Replaced);
}

#[test]
fn what_is_right_already_is_left_alone() {
    let place = Place::new();
    let device = rustix::fs::makedev(1, 3);
    place.write("f", b"x");
    let make = || {
        [
            place.target.make_symlink(b"link", b"to/\xff", KEEPING_TREES).unwrap(),
            place.target.make_special(b"fifo", FileKind::Fifo, 7, KEEPING_TREES).unwrap(),
            place.target.make_special(b"null", FileKind::CharacterDevice, device, KEEPING_TREES).unwrap(),
            place.target.make_special(b"block", FileKind::BlockDevice, device, KEEPING_TREES).unwrap(),
            place.target.make_hard_link(b"f", b"second", KEEPING_TREES).unwrap(),
            place.target.make_hard_link(b"link", b"link2", KEEPING_TREES).unwrap(),
        ]
    };
    assert_eq!(make(), [Effect::Created; 6]);
    let stats = || {
        ["link", "fifo", "null", "block", "second"].map(|name| {
            let metadata = place.path(name).symlink_metadata().unwrap();
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        })
    };
    let before = stats();
    let again = make();
    // A link with two names is as right as one; a new one is made where the kind differs.
    assert_eq!(again, [Effect::Unchanged; 6]);
    assert_eq!(stats(), before);
    assert_eq!(place.target.make_symlink(b"link", b"elsewhere", KEEPING_TREES).unwrap(), Effect::Replaced);
    assert_eq!(
        place.target.make_special(b"null", FileKind::BlockDevice, device, KEEPING_TREES).unwrap(),
        Effect::Replaced
    );
    assert_eq!(place.target.make_hard_link(b"fifo", b"second", KEEPING_TREES).unwrap(), Effect::Replaced);
    assert_eq!(
        kind_of(place.target.make_special(b"x", FileKind::Socket, 0, KEEPING_TREES)),
        RestoreErrorKind::NotSupported
    );
    assert_eq!(kind_of(place.target.make_hard_link(b"none", b"x", KEEPING_TREES)), RestoreErrorKind::Vanished);
    place.target.make_directory(b"d").unwrap();
    assert_eq!(kind_of(place.target.make_hard_link(b"d", b"x", KEEPING_TREES)), RestoreErrorKind::Changed);
}

#[test]
fn metadata_of_every_kind_and_then_nothing_to_do() {
    let place = Place::new();
    place.write("file", b"x");
    place.target.make_directory(b"dir").unwrap();
    place.target.make_symlink(b"link", b"file", KEEPING_TREES).unwrap();
    place.target.make_special(b"fifo", FileKind::Fifo, 0, KEEPING_TREES).unwrap();
    place.target.make_special(b"dev", FileKind::BlockDevice, 0x700, KEEPING_TREES).unwrap();
    // cap_net_raw+ep, as the kernel stores it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let file_attributes =
        vec![attribute("user.b", b""), attribute("user.a", b"\0\xff"), attribute("security.capability", &capability)];
    for (name, kind, permissions, extended_attributes) in [
        ("file", FileKind::File, 0o6711, file_attributes),
        ("dir", FileKind::Directory, 0o1777, vec![attribute("user.d", b"d")]),
        ("link", FileKind::Symlink, 0o777, vec![attribute("trusted.l", b"l")]),
        ("fifo", FileKind::Fifo, 0o604, Vec::new()),
        ("dev", FileKind::BlockDevice, 0o660, Vec::new()),
    ] {
        let stray = if kind == FileKind::Symlink { "trusted.stray" } else { "security.stray" };
        let _ = rustix::fs::lsetxattr(place.path(name), stray, b"", rustix::fs::XattrFlags::empty());
        let wanted = WantedMetadata { extended_attributes, ..wanted(kind, permissions) };
        let outcome = place.target.set_metadata(name.as_bytes(), &wanted, MetadataOptions::default()).unwrap();
        assert!(outcome.is_changed && outcome.problems.is_empty(), "{name} {:?}", outcome.problems);
        let there = place.target.metadata(name.as_bytes()).unwrap();
        assert_eq!((there.uid, there.gid, there.st_mode & 0o7777), (1234, 4321, permissions), "{name}");
        assert_eq!(there.modified, wanted.modified, "{name}");
        assert!(kind == FileKind::Symlink || there.accessed == wanted.accessed, "{name}");
        let sorted = |attributes: &[ExtendedAttribute]| {
            let pairs = attributes.iter().map(|attribute| (attribute.name.clone(), attribute.value.clone()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(sorted(&there.extended_attributes), sorted(&wanted.extended_attributes), "{name}");
        let outcome = place.target.set_metadata(name.as_bytes(), &wanted, MetadataOptions::default()).unwrap();
        assert!(!outcome.is_changed && outcome.problems.is_empty(), "{name}");
        assert_eq!(place.target.metadata(name.as_bytes()).unwrap().changed, there.changed, "{name}");
    }
}

#[test]
fn unselected_attributes_are_left_alone() {
    let place = Place::new();
    place.write("f", b"x");
    for name in ["user.keep", "user.drop"] {
        rustix::fs::setxattr(place.path("f"), name, b"1", rustix::fs::XattrFlags::empty()).unwrap();
    }
    let wanted = WantedMetadata {
        extended_attributes: vec![attribute("user.keep", b"2"), attribute("user.new", b"3")],
        ..wanted(FileKind::File, 0o644)
    };
    let left_alone = b"user.keep".to_vec();
    let selects = |name: &[u8]| name != left_alone;
    let options = MetadataOptions { selects_attribute: Some(&selects) };
    place.target.set_metadata(b"f", &wanted, options).unwrap();
    let mut attributes = place.target.metadata(b"f").unwrap().extended_attributes;
    attributes.sort_by(|left, right| left.name.cmp(&right.name));
    assert_eq!(attributes, [attribute("user.keep", b"1"), attribute("user.new", b"3")]);
}

#[test]
fn trees_are_removed_however_deep() {
    let place = Place::new();
    const LONG: &str = "a directory name, many of which make a long path";
    let mut path = LONG.as_bytes().to_vec();
    let mut directory: OwnedFd = std::fs::File::open(place.path("")).unwrap().into();
    for _ in 0..300 {
        rustix::fs::mkdirat(&directory, LONG, Mode::RWXU).unwrap();
        directory = rustix::fs::openat(&directory, LONG, OFlags::PATH, Mode::empty()).unwrap();
        path.extend_from_slice(format!("/{LONG}").as_bytes());
    }
    rustix::fs::symlinkat(place.outside(), &directory, "out").unwrap();
    place.write("beside", b"x");
    let mut removed = Vec::new();
    place.target.remove_tree(LONG.as_bytes(), &mut |path| removed.push(path.len())).unwrap();
    assert_eq!(removed.len(), 301);
    assert_eq!(removed[0], path.len() - LONG.len() - 1 + "/out".len());
    assert_eq!(place.target.list(b"").unwrap().iter().collect::<Vec<_>>(), [b"beside"]);
    place.target.remove_tree(LONG.as_bytes(), &mut |_| panic!("nothing is left")).unwrap();
    place.check_outside();
}

#[test]
fn a_worker_restores_only_below_its_roots() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("real/root")).unwrap();
    std::fs::create_dir(directory.path().join("outside")).unwrap();
    symlink("real", directory.path().join("link")).unwrap();
    symlink("../../outside", directory.path().join("real/root/escape")).unwrap();
    let mount = directory.path().join("link/root").into_os_string().into_encoded_bytes();
    let below = |path: &str| {
        FileTarget::below(vec![Root { path: b"/restore".to_vec(), mount: mount.clone() }], path.as_bytes())
    };
    let target = below("/restore/job/one").unwrap();
    target.make_directory(b"d").unwrap();
    assert!(directory.path().join("real/root/job/one/d").is_dir());
    below("/restore/job/one").unwrap();
    below("/restore").unwrap();
    for path in ["/restored", "/", "/restore/../outside", "relative", "/restore//x"] {
        assert_eq!(kind_of(below(path)), RestoreErrorKind::NotAllowed, "{path}");
    }
    assert_eq!(kind_of(below("/restore/escape")), RestoreErrorKind::Changed);
    assert_eq!(kind_of(below("/restore/escape/x")), RestoreErrorKind::Changed);
    assert_eq!(std::fs::read_dir(directory.path().join("outside")).unwrap().count(), 0);
}

/// Copies a tree through both doors; gives how many entries were changed.
fn copy(source: &FileSource, from: &[u8], target: &FileTarget, to: &[u8]) -> u32 {
    let mut changed = 0;
    for name in source.list(from).unwrap().iter() {
        let (from, to) = (paths::child(from, name), if to.is_empty() { name.to_vec() } else { paths::child(to, name) });
        let seen = source.metadata(&from).unwrap();
        assert!(seen.warnings.is_empty());
        let effect = match seen.kind {
            FileKind::Directory => target.make_directory(&to).unwrap(),
            FileKind::Symlink => target.make_symlink(&to, &seen.link_target, KEEPING_TREES).unwrap(),
            FileKind::File => {
                let mut content = vec![0; seen.size as usize];
                source.open(&from, &seen).unwrap().read_at(0, &mut content).unwrap();
                let mut prepared = target.prepare_file(&to, seen.size, PrepareOptions::default()).unwrap();
                let mut there = vec![0; content.len()];
                prepared.file.read_at(0, &mut there).unwrap();
                if there != content {
                    prepared.file.write_at(0, &content).unwrap();
                }
                if prepared.was_there { Effect::Unchanged } else { Effect::Created }
            }
            kind => target.make_special(&to, kind, seen.rdev, KEEPING_TREES).unwrap(),
        };
        if seen.kind == FileKind::Directory {
            changed += copy(source, &from, target, &to);
        }
        let wanted = WantedMetadata {
            kind: seen.kind,
            permissions: seen.st_mode & 0o7777,
            uid: seen.uid,
            gid: seen.gid,
            modified: seen.modified,
            accessed: seen.accessed,
            extended_attributes: seen.extended_attributes.clone(),
        };
        let outcome = target.set_metadata(&to, &wanted, MetadataOptions::default()).unwrap();
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        changed += u32::from(outcome.is_changed || effect != Effect::Unchanged);
        let there = target.metadata(&to).unwrap();
        let own = Metadata { inode: there.inode, device: there.device, changed: there.changed, ..seen };
        let sorted = |mut metadata: Metadata| {
            metadata.extended_attributes.sort_by(|left, right| left.name.cmp(&right.name));
            metadata.size = if metadata.kind == FileKind::Directory { 0 } else { metadata.size };
            metadata.accessed = if metadata.kind == FileKind::Symlink { metadata.modified } else { metadata.accessed };
            metadata
        };
        assert_eq!(sorted(there), sorted(own));
    }
    changed
}

#[test]
fn a_tree_goes_through_both_doors() {
    let place = Place::new();
    let from = place.directory.path().join("from");
    std::fs::create_dir_all(from.join("d/sub")).unwrap();
    std::fs::write(from.join("d/f"), vec![5; 100_000]).unwrap();
    std::fs::write(from.join(std::ffi::OsStr::from_bytes(b"d/\xff")), "").unwrap();
    symlink("f", from.join("d/l")).unwrap();
    rustix::fs::mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o610), 0).unwrap();
    for (path, mode) in [("d/f", 0o4400), ("d/sub", 0o2770), ("d", 0o500)] {
        std::fs::set_permissions(from.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let acl = |arguments: &[&str]| {
        assert!(Command::new("setfacl").args(arguments).current_dir(&from).status().unwrap().success())
    };
    acl(&["-m", "u:1234:rw,g:7:x", "d/f"]);
    acl(&["-d", "-m", "u:99:rwx", "d/sub"]);
    let root = Root { path: b"/from".to_vec(), mount: from.into_os_string().into_encoded_bytes() };
    let source = FileSource::new(vec![root]);
    assert_eq!(copy(&source, b"/from", &place.target, b""), 6);
    assert_eq!(copy(&source, b"/from", &place.target, b""), 0, "the second time there is nothing to do");
}

#[test]
fn without_rights_what_root_could_do_is_expected_to_fail() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = directory.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=1234", "--regid=1234", "--clear-groups", "--bounding-set=-all"])
        .arg(&program)
        .env("SOURCES_TEST_INSIDE", "1")
        .args(["--exact", "--nocapture", "files::restore::tests::without_rights_inside"])
        .env("SOURCES_TEST_DIRECTORY", directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
// Does its work only when `without_rights_what_root_could_do_is_expected_to_fail` runs it, which gives it an ordinary user.
fn without_rights_inside() {
    if std::env::var_os("SOURCES_TEST_INSIDE").is_none() {
        return;
    }
    let directory = PathBuf::from(std::env::var_os("SOURCES_TEST_DIRECTORY").unwrap());
    let target = FileTarget::at(&directory.join("target")).unwrap();
    target.prepare_file(b"f", 3, PrepareOptions::default()).unwrap();
    let wanted = WantedMetadata {
        uid: 0,
        extended_attributes: vec![attribute("user.mine", b"1"), attribute("trusted.not", b"2")],
        ..wanted(FileKind::File, 0o444)
    };
    let outcome = target.set_metadata(b"f", &wanted, MetadataOptions::default()).unwrap();
    assert_eq!(outcome.problems.len(), 2, "{:?}", outcome.problems);
    assert!(outcome.problems.iter().all(|problem| problem.is_expected));
    let there = target.metadata(b"f").unwrap();
    assert_eq!((there.modified, there.st_mode & 0o7777), (wanted.modified, 0o444));
    assert_eq!(there.extended_attributes, [attribute("user.mine", b"1")]);
    // Read-only now, but ours: it can be written again.
    assert!(target.prepare_file(b"f", 5, PrepareOptions::default()).unwrap().was_there);
    let device = target.make_special(b"null", FileKind::CharacterDevice, 0x103, ReplaceOptions::default());
    assert_eq!(kind_of(device), RestoreErrorKind::Denied);
    target.make_special(b"fifo", FileKind::Fifo, 0, ReplaceOptions::default()).unwrap();
}
