//! The tree does not depend on how the work was split (DESIGN 2.5).

use std::sync::Arc;

use proptest::prelude::*;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::handles::UnixTime;
use proto::id::Id;
use proto::job::{Budget, TargetNode, TargetPlace};
use proto::report::Item;
use sources::generated::{Content, GeneratedTree, TreeSettings};

use crate::test_site::{Site, name};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The tree of a backup that does all in one task, and of one under `budget`, with its number of tasks.
async fn both(site: &Site, tree: &Arc<GeneratedTree>, budget: &Budget) -> (Id, Id, usize) {
    let mut whole = site.backup("whole", tree);
    let expected = whole.tree().await.unwrap();
    assert!(whole.problems.is_empty());
    let mut split = site.backup("split", tree);
    split.budget = budget.clone();
    let found = split.tree().await.unwrap();
    assert!(split.problems.is_empty());
    (expected, found, split.tasks)
}

fn budgets() -> impl Strategy<Value = Budget> {
    (1_u64..30, 1_u64..60, 1_u64..(1 << 20), 0_u64..4).prop_map(|(changed_entries, entries, bytes, deadline)| Budget {
        changed_entries,
        entries,
        bytes,
        // Now and then a task has to stop at once.
        soft_deadline_seconds: if deadline == 0 { 0 } else { 3600 },
        ..Budget::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn splits_change_nothing(seed: u64, entries in 1_u64..150, depth_max in 1_u32..9, budget in budgets()) {
        let settings = TreeSettings { entries, depth_max, file_bytes_max: 20_000, ..TreeSettings::default() };
        let tree = Arc::new(GeneratedTree::from_seed(seed, settings));
        let (expected, found, _) = run(async { both(&Site::new().await, &tree, &budget).await });
        prop_assert_eq!(expected, found);
    }
}

#[tokio::test]
async fn one_entry_a_task_is_the_same_tree() {
    let tree = Arc::new(GeneratedTree::from_seed(5, TreeSettings { entries: 60, ..TreeSettings::default() }));
    let budget = Budget { entries: 1, ..Budget::default() };
    let (expected, found, tasks) = both(&Site::new().await, &tree, &budget).await;
    assert_eq!(expected, found);
    assert!(tasks > 20, "{tasks} tasks");
}

#[tokio::test]
async fn long_listings_are_cut_from_an_object() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data/wide");
    for number in 0..1_500 {
        tree.file(&format!("/data/wide/{number:06}-and-a-rather-long-name"), Content::empty());
    }
    let budget = Budget { changed_entries: 100, ..Budget::default() };
    let (expected, found, tasks) = both(&Site::new().await, &tree, &budget).await;
    assert_eq!(expected, found);
    assert_eq!(tasks, 15);
}

#[tokio::test]
async fn ranges_are_the_same_file() {
    let tree = Arc::new(GeneratedTree::new());
    let content = Content::seeded(1, 6 << 20).then(Content::zeros(3 << 20)).then(Content::seeded(2, 5_000_000));
    tree.directory("/data");
    tree.file("/data/long", content);
    tree.file("/data/short", Content::seeded(3, 1000));
    let budget = Budget { range_bytes: 2 << 20, range_threshold_bytes: 4 << 20, ..Budget::default() };
    let (expected, found, tasks) = both(&Site::new().await, &tree, &budget).await;
    assert_eq!(expected, found);
    assert_eq!(tasks, 1 + 6);
}

/// A report nests as the directories that it leaves open do: no reader must give up on it.
#[test]
fn deep_trees_fit_into_reports() {
    // The helper of these tests puts directories together by recursion; a worker does not.
    let deep = std::thread::Builder::new().stack_size(64 << 20).spawn(|| run(deep_trees()));
    deep.unwrap().join().unwrap();
}

async fn deep_trees() {
    let tree = Arc::new(GeneratedTree::new());
    let path = "/data".to_owned() + &"/d".repeat(300);
    tree.directory(&path);
    tree.file(&format!("{path}/bottom"), Content::seeded(1, 10));
    let site = Site::new().await;
    let budget = Budget::default();
    let (expected, found, tasks) = both(&site, &tree, &budget).await;
    assert_eq!(expected, found);
    assert_eq!(tasks, 3);
    let mut backup = site.backup("deep", &tree);
    let items = backup.begin().await.unwrap();
    let envelope = Envelope {
        minor: SCHEMA_MINOR,
        repository: site.repository.id(),
        job: backup.job.clone(),
        expires_at: UnixTime::from_seconds(1),
        body: items,
    };
    let key = proto::auth::MessageKey::derive(b"key", &site.repository.id());
    let sealed = envelope.seal(&key).unwrap();
    let opened: Envelope<Vec<Item>> =
        Envelope::open(&sealed, &key, &site.repository.id(), UnixTime::default()).unwrap();
    assert_eq!(opened.body, envelope.body);
}

#[tokio::test]
async fn targets_that_are_done_again_are_the_same() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/srv");
    tree.mount("/srv", 77);
    tree.directory("/srv/real");
    tree.file("/srv/real/f", Content::seeded(1, 10));
    tree.directory("/srv/real/mnt");
    tree.mount("/srv/real/mnt", 88);
    tree.file("/srv/real/mnt/g", Content::seeded(2, 10));
    let site = Site::new().await;
    // The name in the tree is not that of the source, and what leads to the target is on another file system.
    let place = TargetPlace::Target { path: name("/srv/alias"), explicit: true };
    let below = TargetNode { name: name("alias"), source: name("/srv/real"), place };
    let above = TargetNode { name: name("srv"), source: name("/srv"), place: TargetPlace::Above(vec![below]) };
    let start = || {
        let mut backup = site.backup("targets", &tree);
        backup.targets = vec![above.clone()];
        backup.facts.targets = vec![(name("/srv/alias"), name("/srv/real"))];
        backup
    };
    let mut whole = start();
    let expected = whole.tree().await.unwrap();
    let mut first = start();
    let items = first.begin().await.unwrap();
    let again = first.work(proto::task::Scope::Root { targets: vec![above.clone()] }, None, Vec::new());
    let done = first.archive(again).await.unwrap();
    assert!(done.archived.root.is_none(), "the facts are those of the first");
    assert_eq!(done.archived.items, items);
    assert_ne!(expected, Id::of(b""));
}
