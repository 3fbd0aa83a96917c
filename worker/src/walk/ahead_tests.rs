//! What is looked at before its turn is what a look at its turn would have seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use sources::files::exclude::{ExcludeRules, TagFile};
use sources::files::users::UserTable;
use sources::generated::{Content, GeneratedSource, GeneratedTree, TreeSettings};
use sources::source::{Mount, OpenFile};

use super::*;

/// Counts how often directories are listed.
struct Counting {
    source: GeneratedSource,
    lists: AtomicU64,
}

impl Source for Counting {
    fn metadata(&self, path: &[u8]) -> Result<Metadata, SourceError> {
        self.source.metadata(path)
    }

    fn metadata_of(
        &self,
        directory: &[u8],
        names: &[&[u8]],
    ) -> Result<Vec<Result<Metadata, SourceError>>, SourceError> {
        self.source.metadata_of(directory, names)
    }

    fn list(&self, directory: &[u8]) -> Result<Names, SourceError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.source.list(directory)
    }

    fn open(&self, path: &[u8], expected: &Metadata) -> Result<Box<dyn OpenFile>, SourceError> {
        self.source.open(path, expected)
    }

    fn mounts(&self, under: &[Vec<u8>]) -> Result<Vec<Mount>, SourceError> {
        self.source.mounts(under)
    }

    fn users(&self) -> Result<UserTable, SourceError> {
        self.source.users()
    }
}

/// All names below `/data`, by directory, as the walk takes them; and how often directories were listed.
async fn walked(tree: GeneratedTree, cpu: Cpu) -> (BTreeMap<Vec<u8>, Vec<Vec<u8>>>, u64) {
    walked_without(tree, cpu, &ExcludeRules::default()).await
}

async fn walked_without(tree: GeneratedTree, cpu: Cpu, rules: &ExcludeRules) -> (BTreeMap<Vec<u8>, Vec<Vec<u8>>>, u64) {
    let source = Arc::new(Counting { source: GeneratedSource::new(Arc::new(tree)), lists: AtomicU64::new(0) });
    let excludes = Arc::new(Excludes::compile(rules, Vec::new()).unwrap());
    let permits = Arc::new(Semaphore::new(LOOKS_AT_ONCE));
    let looker = Looker { cpu, source: source.clone(), excludes, enough: ENTRIES_IN_LOOK, permits };
    let device = source.metadata(b"/data").unwrap().device;
    let mut found = BTreeMap::new();
    let top = Place { source: b"/data", path: b"/data", device };
    let looked = looker.look(top).await.unwrap().unwrap();
    let mut open = vec![(b"/data".to_vec(), looked, 0)];
    while let Some((directory, looked, at)) = open.last_mut() {
        let place = Place { source: directory, path: directory, device };
        if *at == 0 {
            let names: Vec<Vec<u8>> = looked.names.iter().map(<[u8]>::to_vec).collect();
            for from in (looked.first.len()..names.len()).step_by(ENTRIES_AHEAD) {
                let range = (from, names.len().min(from + ENTRIES_AHEAD));
                let more = looker.entries_now(directory, &looked.names, range.0, range.1);
                looked.first.extend(more);
            }
            for (name, seen) in names.iter().zip(&looked.first) {
                if looker.is_entered(place, &looked.tags, name, seen.as_ref().unwrap()) {
                    looked.below.expect(name);
                }
            }
            looked.below.begin(&looker, place);
            found.insert(directory.clone(), names);
        }
        let Some(seen) = looked.first.get(*at) else {
            open.pop();
            continue;
        };
        let (name, metadata) = (looked.names[*at].to_vec(), seen.as_ref().unwrap().clone());
        *at += 1;
        if !looker.is_entered(place, &looked.tags, &name, &metadata) {
            continue;
        }
        let path = paths::child(directory, &name);
        let ahead = looked.below.take(&name).await.unwrap();
        looked.below.begin(&looker, place);
        let looked = match ahead {
            Some(looked) => looked,
            None => looker.look(Place { source: &path, path: &path, device }).await.unwrap().unwrap(),
        };
        open.push((path, looked, 0));
    }
    (found, source.lists.load(Ordering::Relaxed))
}

/// The same, asked for one after the other.
fn listed(source: &GeneratedSource, directory: &[u8], found: &mut BTreeMap<Vec<u8>, Vec<Vec<u8>>>) {
    let device = source.metadata(b"/data").unwrap().device;
    let names: Vec<Vec<u8>> = source.list(directory).unwrap().iter().map(<[u8]>::to_vec).collect();
    for name in &names {
        let path = paths::child(directory, name);
        let metadata = source.metadata(&path).unwrap();
        if metadata.kind == FileKind::Directory && metadata.device == device {
            listed(source, &path, found);
        }
    }
    found.insert(directory.to_vec(), names);
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_directory_is_seen_once(seed: u64, entries in 1_u64..4000, depth_max in 1_u32..12, inline: bool) {
        let settings = TreeSettings { entries, depth_max, file_bytes_max: 10, ..TreeSettings::default() };
        let tree = || GeneratedTree::from_seed(seed, settings);
        let mut expected = BTreeMap::new();
        listed(&GeneratedSource::new(Arc::new(tree())), b"/data", &mut expected);
        let cpu = if inline { Cpu::inline() } else { Cpu::threads(2) };
        let (found, lists) = run(walked(tree(), cpu));
        prop_assert_eq!(lists, expected.len() as u64);
        prop_assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn long_directories_wait_for_their_turn() {
    let tree = GeneratedTree::new();
    tree.directory("/data");
    for directory in ["/data/a", "/data/b", "/data/c"] {
        tree.directory(directory);
        for number in 0..8192 {
            tree.file(&format!("{directory}/{number:020}"), Content::empty());
        }
    }
    let (found, lists) = walked(tree, Cpu::threads(2)).await;
    assert_eq!(found[b"/data/b".as_slice()].len(), 8192);
    assert_eq!(lists, 1 + 2 * 3, "listed ahead and dropped, then listed again");
}

#[tokio::test]
async fn other_file_systems_and_what_is_excluded_are_left_alone() {
    let tree = GeneratedTree::new();
    for directory in ["/data", "/data/a", "/data/a/cache", "/data/a/cache/below", "/data/a/mnt", "/data/a/mnt/below"] {
        tree.directory(directory);
    }
    tree.file("/data/a/cache/CACHEDIR.TAG", Content::literal(b"Signature: 8a477f597d28d172789f06886806bc55"));
    tree.mount("/data/a/mnt", 77);
    let rules = ExcludeRules { tag_files: vec![TagFile::cache()], ..ExcludeRules::default() };
    let (found, lists) = walked_without(tree, Cpu::threads(2), &rules).await;
    let directories: Vec<&[u8]> = found.keys().map(Vec::as_slice).collect();
    assert_eq!(directories, [b"/data".as_slice(), b"/data/a", b"/data/a/cache"]);
    assert_eq!(lists, 3);
}

fn looker(tree: GeneratedTree) -> Looker {
    let source: Arc<dyn Source> = Arc::new(GeneratedSource::new(Arc::new(tree)));
    let excludes = Arc::new(Excludes::compile(&ExcludeRules::default(), Vec::new()).unwrap());
    Looker { cpu: Cpu::inline(), source, excludes, enough: ENTRIES_IN_LOOK, permits: Arc::new(Semaphore::new(1)) }
}

fn directories(names: &[&str]) -> GeneratedTree {
    let tree = GeneratedTree::new();
    tree.directory("/data");
    names.iter().for_each(|name| tree.directory(&format!("/data/{name}")));
    tree
}

fn place(looker: &Looker) -> Place<'static> {
    Place { source: b"/data", path: b"/data", device: looker.source.metadata(b"/data").unwrap().device }
}

#[tokio::test]
async fn what_cannot_be_read_ahead_is_left_to_its_turn() {
    let looker = looker(directories(&["a", "c"]));
    let mut ahead = Ahead::default();
    for name in ["a", "b", "c"] {
        ahead.expect(name.as_bytes());
        ahead.expect(b"a"); // known already
    }
    ahead.begin(&looker, place(&looker));
    let mut seen = Vec::new();
    for name in ["0", "a", "b", "c", "d"] {
        seen.push(ahead.take(name.as_bytes()).await.unwrap().is_some());
    }
    assert_eq!(seen, [false, true, false, true, false]);
}

#[tokio::test]
async fn without_a_permit_everything_waits_for_its_turn() {
    let looker = looker(directories(&["a", "b", "c"]));
    let held = looker.permits.clone().try_acquire_owned().unwrap();
    let mut ahead = Ahead::default();
    ["a", "b", "c"].iter().for_each(|name| ahead.expect(name.as_bytes()));
    ahead.begin(&looker, place(&looker));
    assert!(ahead.take(b"a").await.unwrap().is_none());
    drop(held);
    ahead.begin(&looker, place(&looker));
    assert!(ahead.take(b"b").await.unwrap().is_some());
    assert!(ahead.take(b"c").await.unwrap().is_some());
}
