//! Splits: what they leave open tiles their scope, in order; what is above the targets is looked for as targets.

use super::*;

#[test]
fn a_scope_without_a_split_is_the_snapshot() {
    let mut job = Job::started();
    let root = job.last();
    let effects = job.finish(&root, vec![nodes("data", "data")]);
    let effects = job.store(effects);
    assert_commits(&effects);
    assert!(job.apply(Event::Committed { snapshot: Id::of(b"snapshot") }).is_empty());
    assert!(job.state.has_ended());
}

#[test]
fn entries_out_of_order_or_bounds_are_refused() {
    for items in [
        vec![nodes("d", "e"), nodes("b", "c")],
        vec![nodes("b", "d"), nodes("d", "e")],
        vec![nodes("d", "b")],
        vec![nodes("a", "c")],
        vec![nodes("b", "z")],
        vec![open(&["b", "c"]), dir("c", "/data/c", Vec::new())],
        vec![dir("c", "/data/c", vec![nodes("d", "e"), nodes("b", "c")])],
    ] {
        let mut job = Job::split(vec![slice("b", "e")]);
        let task = job.last();
        let effects = job.finish(&task, items);
        assert!(reason(&effects).contains("out of order or outside"), "{effects:?}");
        assert!(job.state.has_ended());
    }
}

#[test]
fn open_names_that_are_not_within_their_bounds_are_refused() {
    for names in [&["b", "e", "d"][..], &["c", "d"], &["b", "c"], &["b", "b", "d"], &[]] {
        let mut job = Job::split(vec![slice("b", "d")]);
        let task = job.last();
        let listed = Names::Listed(names.iter().map(|text| name(text)).collect());
        let bounds = (name("b"), name("d"));
        let item = Item::Open(OpenNames { names: listed, count: 3, bounds, second_opinion: false });
        let effects = job.finish(&task, vec![item]);
        assert!(reason(&effects).contains("leaves names open"), "{names:?}: {effects:?}");
    }
}

#[test]
fn a_split_is_assembled_from_the_bottom_when_all_its_pieces_are_there() {
    let mut job = Job::split(vec![nodes("a", "b"), dir("c", "/data/c", vec![slice("x", "z")]), slice("d", "f")]);
    let below = job.published[1].clone();
    assert!(matches!(&below.work, Work::Archive(work) if work.view == Some(view(7))));
    let effects = job.finish(&below, vec![nodes("x", "y")]);
    let [Effect::AssembleDir { fragments, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(fragments, &[fragment("x", "y")]);
    let Effect::AssembleDir { dir: below, .. } = effects[0] else { unreachable!("matched above") };
    assert!(job.apply(Event::DirAssembled { dir: below, node: fragment("c", "c") }).is_empty());
    let task = job.published[2].clone();
    let effects = job.finish(&task, vec![nodes("d", "d"), nodes("e", "f")]);
    let [Effect::AssembleDir { fragments, node, .. }] = &effects[..] else { panic!("{effects:?}") };
    let expected = [fragment("a", "b"), fragment("c", "c"), fragment("d", "d"), fragment("e", "f")];
    assert_eq!((fragments.as_slice(), node.as_slice()), (&expected[..], &b"data"[..]));
    let effects = job.store(effects);
    assert_commits(&effects);
}

#[test]
fn duplicates_and_stale_rounds_change_nothing() {
    let mut job = Job::split(vec![slice("a", "b"), slice("c", "d")]);
    let [_, task, other] = &job.published[..] else { panic!("three tasks") };
    let (task, other) = (task.clone(), other.clone());
    let mut report = Job::archived(&task, vec![nodes("a", "b")]);
    report.counts.entries = 2;
    assert!(job.take(report.clone()).is_empty());
    report.outcome =
        Outcome::Archived(Archived { items: vec![nodes("x", "z")], root: None, missing: Missing::default() });
    assert!(job.take(report).is_empty(), "the first one counts, not a wrong second one");
    let mut stale = Job::archived(&other, vec![nodes("c", "d")]);
    stale.round += 1;
    assert!(job.take(stale).is_empty());
    assert_eq!(job.state.counts().entries, 3, "and the open directory itself");
    let effects = job.finish(&other, Vec::new());
    let effects = job.store(effects);
    assert_commits(&effects);
}

/// A target that cannot be read, or whose pack is lost, has no directory in the source that the root's entries are in.
#[test]
fn entries_above_the_targets_are_done_again_as_targets() {
    let above = |items| dir("srv", "/srv", items);
    let mut job = Job::with(|settings| {
        let place = TargetPlace::Above(vec![target("a"), target("b")]);
        settings.targets = vec![target("etc"), TargetNode { name: name("srv"), source: name("/srv"), place }];
    });
    job.see(&["w1", "w2"]);
    job.apply(Event::Started);
    let mut root = job.last();
    let refusal = |by| Job::report(&root, by, Outcome::NotMyView(views::refusal(true, &[("/etc", 1)])));
    let (one, other) = (refusal("w1"), refusal("w2"));
    assert!(job.take(one).is_empty() && job.take(other).is_empty());
    root = job.last();
    assert!(
        job.finish(&root, vec![second_opinion("etc"), above(vec![second_opinion("a"), nodes("b", "b")])]).is_empty()
    );
    for wanted in ["etc", "a"] {
        let task = job.task_of(wanted);
        assert_ne!(task.task, root.task);
        let Work::Archive(work) = &task.work else { panic!("an archive task") };
        let Scope::Root { targets } = &work.scope else { panic!("{:?}", work.scope) };
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].name, name(wanted));
        assert!(work.last_word && work.expected_targets.is_empty());
        assert_eq!(task.refused_by, [worker("w1")]);
    }
    let task = job.task_of("a");
    let effects = job.finish(&task, vec![nodes("a", "a")]);
    let [Effect::AssembleDir { fragments, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(fragments, &[fragment("a", "a"), fragment("b", "b")]);
    job.store(effects);
    let task = job.task_of("etc");
    let effects = job.finish(&task, vec![nodes("etc", "etc")]);
    let effects = job.store(effects);
    assert_commits(&effects);
}

#[test]
fn names_that_have_no_room_in_a_message_become_several_tasks() {
    let names: Vec<RawName> = (0..10_000).map(|number| name(&format!("{number:0200}"))).collect();
    let (first, last) = (names[0].clone(), names[9_999].clone());
    let mut job = Job::started();
    let root = job.last();
    let all = Item::Nodes(Fragment { first: first.clone(), last, count: 10_000, nodes: Payload::default() });
    let mut report = Job::archived(&root, vec![dir("data", "/data", vec![all, slice("z", "z")])]);
    report.packs = vec![pack("p")];
    assert!(job.take(report).is_empty());
    job.apply(Event::PackReported(pack_report("p")));
    let effects = job.apply(Event::PackMissing { pack: pack("p") });
    let [Effect::ReadNames { dir, .. }] = &effects[..] else { panic!("{effects:?}") };
    let dir = *dir;
    job.published.clear();
    assert!(job.apply(Event::NamesRead { dir, first, names: names.clone() }).is_empty());
    let mut again = Vec::new();
    while again.len() < names.len() {
        let task = job.published.remove(0);
        let of_task = names_of(&task.work);
        assert!(task.round == 1 && rmp_serde::to_vec_named(&task.work).unwrap().len() < 100_000);
        job.finish(&task, Vec::new());
        again.extend(of_task);
    }
    assert_eq!(again, names);
}

#[test]
fn after_a_failure_nothing_more_is_wanted() {
    let mut job = Job::split(vec![slice("b", "d"), slice("e", "f")]);
    let task = job.published[1].clone();
    let last = job.published[2].clone();
    assert!(job.finish(&last, Vec::new()).is_empty());
    let effects = job.finish(&task, vec![dir("b", "/data/b", Vec::new()), nodes("a", "a")]);
    assert!(!reason(&effects).is_empty());
    assert!(job.apply(Event::CancelRequested).is_empty());
}

#[test]
fn two_open_tasks_never_have_one_id() {
    let mut job = Job::split(vec![second_opinion("a")]);
    let mut tasks = BTreeSet::new();
    for _ in 0..3 {
        let task = job.last();
        assert!(tasks.insert(task.task), "a report that came twice would be taken for the next task's");
        assert!(job.finish(&task, vec![second_opinion("a")]).is_empty());
    }
}
