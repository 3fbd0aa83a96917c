//! Tests of `generated`.

use super::*;
use crate::contract::{self, Fixture};

struct GeneratedFixture {
    source: GeneratedSource,
}

const ROOT: &str = "/srv/data";

fn full(path: &str) -> String {
    format!("{ROOT}/{path}")
}

impl Fixture for GeneratedFixture {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn root(&self) -> Vec<u8> {
        ROOT.as_bytes().to_vec()
    }

    fn directory(&self, path: &str) {
        self.source.tree().directory(&full(path));
    }

    fn file(&self, path: &str, content: &[u8]) {
        self.source.tree().file(&full(path), Content::literal(content));
    }

    fn symlink(&self, path: &str, target: &str) {
        self.source.tree().symlink(&full(path), target);
    }

    fn hard_link(&self, existing: &str, path: &str) {
        self.source.tree().hard_link(&full(existing), &full(path));
    }

    fn fifo(&self, path: &str) {
        self.source.tree().special(&full(path), 0o010_644, 0);
    }

    fn attribute(&self, path: &str, name: &str, value: &[u8]) {
        self.source.tree().attribute(&full(path), name, value);
    }

    fn remove(&self, path: &str) {
        self.source.tree().apply(Change::Remove(full(path)));
    }

    fn rewrite(&self, path: &str, content: &[u8]) {
        self.source.tree().apply(Change::Rewrite(full(path), Content::literal(content)));
    }

    fn replace(&self, path: &str, content: &[u8]) {
        self.source.tree().apply(Change::Replace(full(path), Content::literal(content)));
    }
}

#[test]
fn generated_trees_fulfil_the_contract() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory(ROOT);
    tree.directory("/etc");
    contract::run(&GeneratedFixture { source: GeneratedSource::on_host(tree, vec![ROOT.as_bytes().to_vec()], 5) });
}

/// Everything that a source shows, in order.
fn dump(source: &dyn Source, path: &[u8], lines: &mut Vec<String>) {
    let metadata = source.metadata(path).unwrap();
    let mut content = Vec::new();
    if metadata.kind == FileKind::File {
        content.resize(metadata.size as usize, 0);
        let mut file = source.open(path, &metadata).unwrap();
        assert_eq!(file.read_at(0, &mut content).unwrap() as u64, metadata.size);
    }
    lines.push(format!("{path:?} {metadata:?} {content:?}"));
    if metadata.kind == FileKind::Directory {
        for name in source.list(path).unwrap().iter() {
            dump(source, &paths::child(path, name), lines);
        }
    }
}

#[test]
fn a_seed_gives_one_tree() {
    let settings = TreeSettings { entries: 300, file_bytes_max: 2000, ..TreeSettings::default() };
    let lines = |seed| {
        let mut lines = Vec::new();
        dump(&GeneratedSource::new(Arc::new(GeneratedTree::from_seed(seed, settings))), b"/", &mut lines);
        lines
    };
    let first = lines(1);
    assert_eq!(first, lines(1));
    assert_ne!(first, lines(2));
    for wanted in ["kind: Symlink", "kind: Fifo", "kind: CharacterDevice", "links: 2", "device: 1,", "device: 1"] {
        assert!(first.iter().any(|line| line.contains(wanted)), "{wanted}");
    }
    let tree = Arc::new(GeneratedTree::from_seed(1, settings));
    let mounts = GeneratedSource::new(tree).mounts(&[b"/data".to_vec()]).unwrap();
    assert!(mounts.iter().filter(|mount| mount.is_mount_point).count() > 1);
}

#[test]
fn a_change_comes_at_its_read() {
    let tree = Arc::new(GeneratedTree::new());
    tree.file("/f", Content::literal(b"old"));
    tree.apply_at_read("/f", 1, Change::Rewrite("/f".into(), Content::literal(b"new")));
    tree.apply_at_read("/f", 2, Change::Remove("/f".into()));
    tree.apply_at_read("/f", 3, Change::Rewrite("/f".into(), Content::literal(b"too late")));
    let source = GeneratedSource::new(tree);
    let metadata = source.metadata(b"/f").unwrap();
    let mut file = source.open(b"/f", &metadata).unwrap();
    let mut buffer = [0; 3];
    for (expected, is_there) in [(b"old", true), (b"new", true), (b"new", false), (b"new", false)] {
        file.read_at(0, &mut buffer).unwrap();
        assert_eq!((&buffer, source.metadata(b"/f").is_ok()), (expected, is_there));
    }
    assert_ne!(file.metadata().unwrap().modified, metadata.modified);
}

#[test]
fn hosts_see_one_tree_with_their_own_eyes() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data/mnt");
    tree.file("/data/f", Content::empty());
    tree.mount("/data/mnt", 9);
    tree.file("/data/mnt/g", Content::empty());
    let one = GeneratedSource::new(tree.clone());
    let other = GeneratedSource::on_host(tree, vec![b"/data".to_vec()], 100);
    assert_eq!(one.metadata(b"/data/mnt/g").unwrap().device, 9);
    assert_eq!(other.metadata(b"/data/mnt/g").unwrap().device, 109);
    let root_inode = other.metadata(b"/data/mnt").unwrap().inode;
    assert_eq!(root_inode, 2);
    other.unmount("/data/mnt");
    assert!(other.list(b"/data/mnt").unwrap().is_empty());
    let uncovered = other.metadata(b"/data/mnt").unwrap();
    assert_eq!(uncovered.device, 101);
    assert_ne!(uncovered.inode, root_inode);
    assert_eq!(other.mounts(&[b"/data".to_vec()]).unwrap().len(), 1);
    assert_eq!(one.list(b"/data/mnt").unwrap().len(), 1);
    other.remount("/data/mnt");
    assert_eq!(other.list(b"/data/mnt").unwrap().len(), 1);
    let devices = |source: &GeneratedSource| -> Vec<_> {
        source.mounts(&[b"/data".to_vec()]).unwrap().into_iter().map(|mount| (mount.path, mount.device)).collect()
    };
    assert_eq!(devices(&other), [(b"/data".to_vec(), 101), (b"/data/mnt".to_vec(), 109)]);
}

#[test]
fn trouble_is_reported_as_its_kind() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/d");
    tree.file("/d/f", Content::seeded(1, 100));
    let source = GeneratedSource::new(tree.clone());
    let metadata = source.metadata(b"/d/f").unwrap();
    let mut file = source.open(b"/d/f", &metadata).unwrap();
    tree.apply(Change::Trouble("/d/f".into(), Some(Trouble::Broken { offset: 50 })));
    assert_eq!(file.read_at(0, &mut [0; 50]).unwrap(), 50);
    assert_eq!(file.read_at(1, &mut [0; 50]).unwrap_err().kind, SourceErrorKind::Unreadable);
    tree.apply(Change::Trouble("/d/f".into(), Some(Trouble::Denied)));
    assert!(source.metadata(b"/d/f").is_ok());
    assert_eq!(source.open(b"/d/f", &metadata).err().unwrap().kind, SourceErrorKind::Denied);
    tree.apply(Change::Trouble("/d".into(), Some(Trouble::Denied)));
    assert_eq!(source.list(b"/d").unwrap_err().kind, SourceErrorKind::Denied);
    assert_eq!(source.metadata(b"/d/f").unwrap_err().kind, SourceErrorKind::Denied);
    tree.apply(Change::Trouble("/d".into(), None));
    assert!(source.list(b"/d").is_ok());
}
