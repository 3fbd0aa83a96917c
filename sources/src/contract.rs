//! What every source must do: one suite, run by each implementation.

use crate::paths;
use crate::source::{FileKind, Source, SourceErrorKind};

/// A place where an implementation makes entries for the suite. Paths are relative to the root.
pub(crate) trait Fixture {
    fn source(&self) -> &dyn Source;
    /// The only root of the source, an empty directory two levels below `/` or deeper.
    fn root(&self) -> Vec<u8>;
    fn directory(&self, path: &str);
    fn file(&self, path: &str, content: &[u8]);
    fn symlink(&self, path: &str, target: &str);
    fn hard_link(&self, existing: &str, path: &str);
    fn fifo(&self, path: &str);
    fn attribute(&self, path: &str, name: &str, value: &[u8]);
    fn remove(&self, path: &str);
    /// Other content in the same inode.
    fn rewrite(&self, path: &str, content: &[u8]);
    /// Another inode under the same name.
    fn replace(&self, path: &str, content: &[u8]);

    fn path(&self, relative: &str) -> Vec<u8> {
        paths::child(&self.root(), relative.as_bytes())
    }
}

/// Runs all of it; the fixture must be fresh.
pub(crate) fn run(fixture: &dyn Fixture) {
    listing(fixture);
    metadata_by_kind(fixture);
    batches(fixture);
    reading(fixture);
    changes(fixture);
    boundaries(fixture);
    mounts(fixture);
}

fn kind_of_error<T>(result: Result<T, crate::source::SourceError>) -> SourceErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind,
    }
}

fn listing(fixture: &dyn Fixture) {
    fixture.directory("list");
    fixture.directory("list/empty");
    for name in ["b", "a", "ä", "B", "a b", ".hidden", "a\nb"] {
        fixture.file(&format!("list/{name}"), b"");
    }
    let names = fixture.source().list(&fixture.path("list")).unwrap();
    let expected = [".hidden", "B", "a", "a\nb", "a b", "b", "empty", "ä"].map(str::as_bytes);
    assert_eq!(names.iter().collect::<Vec<_>>(), expected);
    assert!(fixture.source().list(&fixture.path("list/empty")).unwrap().is_empty());
    let short = |bytes_max| fixture.source().list_short(&fixture.path("list"), bytes_max).unwrap();
    assert_eq!(short(4096), Some(names));
    assert_eq!(short(8), None);
    assert_eq!(kind_of_error(fixture.source().list(&fixture.path("list/a"))), SourceErrorKind::Changed);
    assert_eq!(kind_of_error(fixture.source().list(&fixture.path("list/none"))), SourceErrorKind::Vanished);
}

fn metadata_by_kind(fixture: &dyn Fixture) {
    let source = fixture.source();
    fixture.directory("kinds");
    fixture.file("kinds/file", b"seven b");
    fixture.hard_link("kinds/file", "kinds/second");
    fixture.symlink("kinds/link", "no/where");
    fixture.symlink("kinds/loop", "loop");
    fixture.fifo("kinds/fifo");
    fixture.attribute("kinds/file", "user.one", b"1\0\xff");
    fixture.attribute("kinds/file", "user.empty", b"");

    let file = source.metadata(&fixture.path("kinds/file")).unwrap();
    assert_eq!((file.kind, file.size, file.links, file.st_mode & 0o170_000), (FileKind::File, 7, 2, 0o100_000));
    let attributes = file.extended_attributes.iter().filter(|attribute| attribute.name.starts_with(b"user."));
    let mut attributes: Vec<_> = attributes.map(|attribute| (&attribute.name[..], &attribute.value[..])).collect();
    attributes.sort();
    assert_eq!(attributes, [(&b"user.empty"[..], &b""[..]), (b"user.one", b"1\0\xff")]);
    assert!(file.warnings.is_empty());
    let second = source.metadata(&fixture.path("kinds/second")).unwrap();
    assert!(file.is_same_inode(&second) && file == second);

    let link = source.metadata(&fixture.path("kinds/link")).unwrap();
    assert_eq!((link.kind, &link.link_target[..], link.size), (FileKind::Symlink, &b"no/where"[..], 8));
    assert_eq!(source.metadata(&fixture.path("kinds/loop")).unwrap().kind, FileKind::Symlink);
    assert_eq!(source.metadata(&fixture.path("kinds/fifo")).unwrap().kind, FileKind::Fifo);
    let directory = source.metadata(&fixture.path("kinds")).unwrap();
    assert_eq!((directory.kind, directory.device), (FileKind::Directory, file.device));
    assert_ne!(directory.inode, file.inode);
    assert_eq!(kind_of_error(source.metadata(&fixture.path("kinds/none"))), SourceErrorKind::Vanished);
    assert_eq!(kind_of_error(source.metadata(&fixture.path("kinds/file/below"))), SourceErrorKind::Changed);
}

fn batches(fixture: &dyn Fixture) {
    let source = fixture.source();
    let directory = fixture.path("kinds");
    let names: [&[u8]; 6] = [b"link", b"none", b"file", b"..", b"../kinds", b""];
    let answers = source.metadata_of(&directory, &names).unwrap();
    assert_eq!(answers.len(), names.len());
    assert_eq!(answers[0].as_ref().unwrap(), &source.metadata(&fixture.path("kinds/link")).unwrap());
    assert_eq!(answers[1].as_ref().unwrap_err().kind, SourceErrorKind::Vanished);
    assert_eq!(answers[1].as_ref().unwrap_err().path, fixture.path("kinds/none"));
    assert_eq!(answers[2].as_ref().unwrap(), &source.metadata(&fixture.path("kinds/file")).unwrap());
    for answer in &answers[3..] {
        assert_eq!(answer.as_ref().unwrap_err().kind, SourceErrorKind::NotAllowed);
    }
    assert_eq!(kind_of_error(source.metadata_of(&fixture.path("none"), &[b"a"])), SourceErrorKind::Vanished);
    assert_eq!(kind_of_error(source.metadata_of(&fixture.path("kinds/file"), &[b"a"])), SourceErrorKind::Changed);
}

fn reading(fixture: &dyn Fixture) {
    let source = fixture.source();
    let content: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    fixture.file("read", &content);
    let metadata = source.metadata(&fixture.path("read")).unwrap();
    let mut file = source.open(&fixture.path("read"), &metadata).unwrap();
    assert_eq!(file.metadata().unwrap(), metadata);
    let mut buffer = vec![0; 70_000];
    assert_eq!(file.read_at(50_000, &mut buffer).unwrap(), 50_000);
    assert_eq!(buffer[..50_000], content[50_000..]);
    assert_eq!(file.read_at(3, &mut buffer).unwrap(), 70_000);
    assert_eq!(buffer, content[3..70_003]);
    assert_eq!(file.read_at(100_000, &mut buffer).unwrap(), 0);
    assert_eq!(file.read_at(u64::MAX / 4, &mut buffer).unwrap(), 0);
    assert_eq!(file.read_at(0, &mut []).unwrap(), 0);

    for other in ["kinds/link", "kinds/fifo", "kinds"] {
        let path = fixture.path(other);
        let seen = source.metadata(&path).unwrap();
        assert_eq!(kind_of_error(source.open(&path, &seen)), SourceErrorKind::Changed, "{other} seen before");
        assert_eq!(kind_of_error(source.open(&path, &metadata)), SourceErrorKind::Changed, "{other} instead of a file");
    }
    assert_eq!(kind_of_error(source.open(&fixture.path("none"), &metadata)), SourceErrorKind::Vanished);
}

fn changes(fixture: &dyn Fixture) {
    let source = fixture.source();
    let read = |file: &mut Box<dyn crate::source::OpenFile>| {
        let mut buffer = [0; 8];
        let length = file.read_at(0, &mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    fixture.file("changing", b"one");
    let before = source.metadata(&fixture.path("changing")).unwrap();
    let mut file = source.open(&fixture.path("changing"), &before).unwrap();
    fixture.rewrite("changing", b"two!");
    assert_eq!(read(&mut file), b"two!");
    let rewritten = file.metadata().unwrap();
    assert!(rewritten.is_same_inode(&before));
    assert_eq!(rewritten.size, 4);

    fixture.replace("changing", b"three");
    assert_eq!(read(&mut file), b"two!", "an open file stays the same inode");
    assert!(file.metadata().unwrap().is_same_inode(&before));
    let replaced = source.metadata(&fixture.path("changing")).unwrap();
    assert!(!replaced.is_same_inode(&before));
    let mut file = source.open(&fixture.path("changing"), &before).unwrap();
    assert_eq!(read(&mut file), b"three", "whether it is the same file is for the caller to judge");
    fixture.remove("changing");
    assert_eq!(read(&mut file), b"three");
    assert_eq!(kind_of_error(source.open(&fixture.path("changing"), &before)), SourceErrorKind::Vanished);
}

fn boundaries(fixture: &dyn Fixture) {
    let source = fixture.source();
    let root = fixture.root();
    let (parent, name) = paths::split_last(&root).unwrap();
    let file = source.metadata(&fixture.path("kinds/file")).unwrap();
    assert_eq!(source.metadata(&root).unwrap().kind, FileKind::Directory);
    assert_eq!(source.metadata(parent).unwrap().kind, FileKind::Directory, "ancestors may be looked at");
    assert_eq!(source.metadata(b"/").unwrap().kind, FileKind::Directory);
    assert_eq!(kind_of_error(source.list(parent)), SourceErrorKind::NotAllowed);
    assert_eq!(kind_of_error(source.metadata_of(parent, &[name])), SourceErrorKind::NotAllowed);

    let sibling = [&root[..], b"x"].concat();
    let climbing = fixture.path("kinds/../../x");
    for outside in [&sibling[..], &climbing, b"/etc", b"", b"relative", &fixture.path("kinds/"), &fixture.path("a\0b")]
    {
        let name = String::from_utf8_lossy(outside);
        assert_eq!(kind_of_error(source.metadata(outside)), SourceErrorKind::NotAllowed, "{name}");
        assert_eq!(kind_of_error(source.list(outside)), SourceErrorKind::NotAllowed, "{name}");
        assert_eq!(kind_of_error(source.open(outside, &file)), SourceErrorKind::NotAllowed, "{name}");
    }

    // A link is never a way: not to the outside, not to the inside.
    fixture.symlink("out", "/");
    fixture.symlink("in", "kinds");
    for link in ["out", "in"] {
        assert_eq!(kind_of_error(source.list(&fixture.path(link))), SourceErrorKind::Changed);
    }
    for below in ["out/etc", "in/file"] {
        assert_eq!(kind_of_error(source.metadata(&fixture.path(below))), SourceErrorKind::Changed);
        assert_eq!(kind_of_error(source.list(&fixture.path(below))), SourceErrorKind::Changed);
        assert_eq!(kind_of_error(source.open(&fixture.path(below), &file)), SourceErrorKind::Changed);
    }
    assert_eq!(kind_of_error(source.metadata_of(&fixture.path("in"), &[b"file"])), SourceErrorKind::Changed);
}

fn mounts(fixture: &dyn Fixture) {
    let source = fixture.source();
    let asked = vec![fixture.path("kinds"), fixture.root(), fixture.path("list/empty"), fixture.root()];
    let mounts = source.mounts(&asked).unwrap();
    assert!(mounts.windows(2).all(|pair| pair[0].path < pair[1].path));
    for path in &asked {
        let mount = mounts.iter().find(|mount| mount.path == *path).unwrap();
        assert_eq!(mount.device, source.metadata(path).unwrap().device);
    }
    assert_eq!(kind_of_error(source.mounts(&[b"/etc".to_vec()])), SourceErrorKind::NotAllowed);
    assert_eq!(kind_of_error(source.mounts(&[fixture.path("none")])), SourceErrorKind::Vanished);
}
