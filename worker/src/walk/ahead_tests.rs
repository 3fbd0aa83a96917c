//! What is looked at before its turn is what a look at its turn would have seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use sources::files::exclude::ExcludeRules;
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
    let source = Arc::new(Counting { source: GeneratedSource::new(Arc::new(tree)), lists: AtomicU64::new(0) });
    let excludes = Arc::new(Excludes::compile(&ExcludeRules::default(), Vec::new()).unwrap());
    let looker = Looker { cpu, source: source.clone(), excludes };
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
        let ahead = looked.below.take(&looker, place, &name).await.unwrap();
        looked.below.begin(&looker, place);
        let looked = match ahead {
            Some(looked) => looked.unwrap(),
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
        for number in 0..=NAMES_AHEAD_MAX {
            tree.file(&format!("{directory}/{number}"), Content::empty());
        }
    }
    let (found, lists) = walked(tree, Cpu::threads(2)).await;
    assert_eq!(found[b"/data/b".as_slice()].len(), NAMES_AHEAD_MAX + 1);
    assert_eq!(lists, 1 + 2 * 3, "listed ahead and dropped, then listed again");
}

#[tokio::test]
async fn what_vanishes_between_is_asked_for_by_name() {
    let tree = GeneratedTree::new();
    for directory in ["/data", "/data/a", "/data/c"] {
        tree.directory(directory);
    }
    let source: Arc<dyn Source> = Arc::new(GeneratedSource::new(Arc::new(tree)));
    let device = source.metadata(b"/data").unwrap().device;
    let excludes = Arc::new(Excludes::compile(&ExcludeRules::default(), Vec::new()).unwrap());
    let looker = Looker { cpu: Cpu::inline(), source, excludes };
    let place = Place { source: b"/data", path: b"/data", device };
    let mut ahead = Ahead::default();
    for name in ["a", "b", "c"] {
        ahead.expect(name.as_bytes());
        ahead.expect(b"a"); // known already
    }
    ahead.begin(&looker, place);
    assert!(ahead.take(&looker, place, b"0").await.unwrap().is_none(), "nobody expected it");
    assert!(ahead.take(&looker, place, b"a").await.unwrap().unwrap().is_ok());
    let gone = ahead.take(&looker, place, b"b").await.unwrap().unwrap();
    assert!(gone.is_err_and(|error| error.is_vanished()));
    assert!(ahead.take(&looker, place, b"c").await.unwrap().unwrap().is_ok());
    assert!(ahead.take(&looker, place, b"d").await.unwrap().is_none());
}
