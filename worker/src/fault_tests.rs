//! What a worker makes of a source, or a storage, that fails in one exact place.

use std::sync::Arc;

use proto::auth::MessageKey;
use proto::envelope::Envelope;
use proto::handles::UnixTime;
use proto::report::{Archived, Item, Missing, NotMyView, Outcome, Payload, Problem, ProblemKind, Report, ResultReport};
use proto::task::{FileIdentity, Names, RangeWork, Scope, View};
use repository::repository::FileKind;
use sources::generated::{Change, Content, GeneratedTree, Trouble};
use sources::source::Source;

use crate::error::WorkerError;
use crate::pipeline::identity_of;
use crate::range::store_range;
use crate::report::Reporter;
use crate::test_site::{Backup, Site, name};
use crate::walk::view_of;

fn trouble(tree: &GeneratedTree, path: &str, trouble: Trouble) {
    tree.apply(Change::Trouble(path.to_owned(), Some(trouble)));
}

#[track_caller]
fn refusal<T>(result: Result<T, WorkerError>) -> NotMyView {
    match result {
        Err(WorkerError::NotMyView(refusal) | WorkerError::NotMounted(refusal)) => *refusal,
        Err(error) => panic!("{}", error.chain()),
        Ok(_) => panic!("it is refused"),
    }
}

fn names_in(backup: &Backup<'_>, dir: &str, names: &[&str], view: Option<View>) -> proto::task::ArchiveWork {
    let names = Names::Listed(names.iter().map(|text| name(text)).collect());
    backup.work(Scope::Names { dir: name(dir), names }, view, Vec::new())
}

fn kinds(problems: &[Problem]) -> Vec<ProblemKind> {
    problems.iter().map(|problem| problem.kind).collect()
}

#[tokio::test]
async fn what_cannot_be_read_is_left_to_another_worker_or_believed() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data");
    for file in ["a", "b", "c", "d", "e"] {
        tree.file(&format!("/data/{file}"), Content::seeded(1, 10));
    }
    for file in ["/data/b", "/data/c", "/data/e"] {
        trouble(&tree, file, Trouble::Denied);
    }
    let site = Site::new().await;
    let mut first = site.backup("first", &tree);
    first.last_word = false;
    let items = first.begin().await.unwrap();
    let [Item::Dir(data)] = &items[..] else { panic!("{items:?}") };
    let [Item::Nodes(_), Item::Open(two), Item::Nodes(_), Item::Open(one)] = &data.items[..] else {
        panic!("neighbours are one item: {:?}", data.items)
    };
    assert_eq!(two.names, Names::Listed(vec![name("b"), name("c")]));
    assert_eq!((two.bounds.clone(), two.count, two.second_opinion), ((name("b"), name("c")), 2, true));
    assert_eq!(one.names, Names::Listed(vec![name("e")]));
    let mut last = site.backup("last", &tree);
    last.tree().await.unwrap();
    assert_eq!(kinds(&last.problems), [ProblemKind::Unreadable; 3]);
}

#[tokio::test]
async fn a_target_that_is_gone_is_no_chance() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/other");
    let site = Site::new().await;
    let mut backup = site.backup("gone", &tree);
    backup.add_target("other");
    backup.last_word = false;
    let items = backup.begin().await.unwrap();
    let [Item::Open(open), Item::Nodes(_)] = &items[..] else { panic!("{items:?}") };
    assert!(open.second_opinion);
    let mut backup = site.backup("gone-for-good", &tree);
    backup.add_target("other");
    assert_eq!(backup.begin().await.unwrap().len(), 1);
    assert_eq!(kinds(&backup.problems), [ProblemKind::Unreadable]);
}

/// A snapshot of nothing was not asked for.
#[tokio::test]
async fn a_data_set_of_which_nothing_is_there_is_refused() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/");
    let site = Site::new().await;
    let refusal = refusal(site.backup("nothing", &tree).begin().await);
    assert!(refusal.target_root && refusal.seen.is_none(), "{refusal:?}");
}

#[tokio::test]
async fn a_scope_that_became_unreadable_is_refused_and_then_believed() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data/d");
    tree.file("/data/d/f", Content::seeded(1, 10));
    let site = Site::new().await;
    let mut backup = site.backup("denied", &tree);
    backup.begin().await.unwrap();
    let view = view_of(&backup.source.metadata(b"/data/d").unwrap());
    trouble(&tree, "/data", Trouble::Denied);
    let work = names_in(&backup, "/data/d", &["f"], Some(view));
    assert!(!refusal(backup.archive(work).await).target_root);
    let work = names_in(&backup, "/data/d", &["f"], None);
    let done = backup.archive(work).await.unwrap();
    assert!(done.archived.items.is_empty());
    assert_eq!(done.ledger.counts.unreadable, 1);
    assert_eq!(kinds(&backup.problems), [ProblemKind::Unreadable]);
}

/// The root task alone saw the data set: who should compare, if not itself?
#[tokio::test]
async fn a_data_set_that_is_unmounted_during_the_root_task_is_refused() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data");
    tree.mount("/data", 9);
    for number in 0..1_000 {
        tree.file(&format!("/data/{number:04}"), Content::seeded(number, 10));
    }
    tree.apply_at_read("/data/0003", 0, Change::Unmount("/data".to_owned()));
    let site = Site::new().await;
    let refusal = refusal(site.backup("unmounted", &tree).begin().await);
    assert!(refusal.target_root);
    assert!(refusal.targets_seen.is_empty(), "what is there now is not to be believed");
    assert!(refusal.message.contains("while it was read"), "{}", refusal.message);
}

/// Roots of file systems often have the same inode number, and so may what a mount point covers.
#[tokio::test]
async fn a_scope_on_a_file_system_that_is_not_mounted_here_is_refused() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data/mnt");
    let below = view_of(&sources::generated::GeneratedSource::new(tree.clone()).metadata(b"/data/mnt").unwrap());
    tree.mount("/data/mnt", 9);
    tree.edit("/data/mnt", |metadata| metadata.inode = below.inode);
    tree.file("/data/mnt/f", Content::seeded(1, 10));
    let site = Site::new().await;
    let mut backup = site.backup("mounted", &tree);
    backup.begin().await.unwrap();
    let work = names_in(&backup, "/data/mnt", &["f"], Some(below));
    assert_eq!(backup.archive(work.clone()).await.unwrap().ledger.counts.entries, 1);
    backup.source.unmount("/data/mnt");
    let refusal = refusal(backup.archive(work).await);
    assert_eq!((refusal.path, refusal.target_root), (name("/data/mnt"), false));
}

fn range(backup: &Backup<'_>, path: &str, start: u64) -> (RangeWork, FileIdentity) {
    let identity = identity_of(&backup.source.metadata(path.as_bytes()).unwrap());
    let (end, exact) = (identity.size, start == 0);
    (RangeWork { path: name(path), start, end, exact, identity, borrow: true }, identity)
}

#[tokio::test]
async fn a_range_that_cannot_be_read_is_no_failure_of_the_task() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data");
    tree.file("/data/f", Content::seeded(1, 3 << 20));
    let site = Site::new().await;
    let mut backup = site.backup("range", &tree);
    backup.begin().await.unwrap();
    let context = backup.context().await;
    let (work, identity) = range(&backup, "/data/f", 0);
    trouble(&tree, "/data/f", Trouble::Broken { offset: 2 << 20 });
    assert_eq!(refusal(store_range(&context, &work).await).path, name("/data/f"));
    tree.apply(Change::Trouble("/data/f".to_owned(), None));
    let done = store_range(&context, &work).await.unwrap().result;
    assert!(done.proven && done.identity_before == identity && done.identity_after == identity);
    tree.apply(Change::Rewrite("/data/f".to_owned(), Content::seeded(2, 3 << 20)));
    let changed = store_range(&context, &work).await.unwrap().result;
    assert_ne!(changed.identity_before, identity);
    tree.apply(Change::Rewrite("/data/f".to_owned(), Content::seeded(2, 1 << 20)));
    assert!(!store_range(&context, &work).await.unwrap().result.proven, "it became shorter");
    tree.apply(Change::Replace("/data/f".to_owned(), Content::seeded(1, 3 << 20)));
    assert!(refusal(store_range(&context, &work).await).seen.is_some());
}

/// Somebody removed a pack that this worker stored: doing the task again must not rely on it for ever.
#[tokio::test]
async fn blobs_of_a_removed_pack_are_stored_again() {
    let tree = Arc::new(GeneratedTree::new());
    tree.directory("/data");
    tree.file("/data/f", Content::seeded(1, 1000));
    let site = Site::new().await;
    let mut backup = site.backup("removed", &tree);
    let work = backup.work(Scope::Root { targets: backup.targets.clone() }, None, Vec::new());
    let context = backup.context().await;
    let mut packs = Vec::new();
    for _ in 0..2 {
        let at_work = context.packer.begin();
        let mut ledger = backup.archive(work.clone()).await.unwrap().ledger;
        let stored = context.packer.settle(&mut ledger, &context.own, at_work).await.unwrap();
        context.check_own_packs(&stored).await.unwrap();
        packs.push(stored);
    }
    assert_eq!(packs[0], packs[1], "nothing is stored twice");
    for pack in &packs[0] {
        site.repository.storage().delete(&FileKind::Pack.name(pack)).await.unwrap();
    }
    assert!(matches!(context.check_own_packs(&packs[0]).await, Err(WorkerError::PackLost(_))));
    let at_work = context.packer.begin();
    let mut ledger = backup.archive(work).await.unwrap().ledger;
    let stored = context.packer.settle(&mut ledger, &context.own, at_work).await.unwrap();
    assert!(stored.iter().all(|pack| !packs[0].contains(pack)));
    context.check_own_packs(&stored).await.unwrap();
}

#[tokio::test]
async fn a_report_that_is_too_long_for_a_message_becomes_an_object() {
    use fleet::objects::ObjectsExt;
    use fleet::state::{JobState, Position};
    let tree = Arc::new(GeneratedTree::new());
    let site = Site::new().await;
    let job = site.backup("long", &tree).job;
    let key = MessageKey::derive(b"key", &site.repository.id());
    let reporter = Reporter {
        job: job.clone(),
        repository: site.repository.id(),
        key: key.clone(),
        state: site.state.clone(),
        objects: site.objects.clone(),
        clock: site.clock.clone(),
    };
    site.state.open_job(&job, 1).await.unwrap();
    let problem = Problem { kind: ProblemKind::Unreadable, path: name(&"p".repeat(4000)), message: String::new() };
    let report = |problems: usize| ResultReport {
        task: proto::id::Id::of(b"task"),
        round: 0,
        worker: proto::id::WorkerId::new("w1").unwrap(),
        outcome: Outcome::Archived(Archived { items: Vec::new(), root: None, missing: Missing::default() }),
        packs: Vec::new(),
        borrowed: Payload::default(),
        counts: Default::default(),
        problems: vec![problem.clone(); problems],
        ended_at: UnixTime::default(),
    };
    for problems in [10, 200] {
        reporter.send_result(report(problems), std::future::ready(())).await.unwrap();
    }
    let wait = std::time::Duration::ZERO;
    let read = site.state.read_reports(&job, &Position::default(), 9, wait).await.unwrap();
    let mut sent = Vec::new();
    for (_, sealed) in read {
        let opened = Envelope::<Report>::open(&sealed, &key, &site.repository.id(), UnixTime::default()).unwrap();
        sent.push(opened.body);
    }
    assert!(matches!(&sent[0], Report::Result(sent) if **sent == report(10)));
    let Report::Long(payload) = &sent[1] else { panic!("{:?}", sent[1]) };
    let bytes = site.objects.load(&job, payload).await.unwrap();
    let Report::Result(long) = rmp_serde::from_slice(&bytes).unwrap() else { panic!("a result") };
    assert_eq!(*long, report(200));
}
