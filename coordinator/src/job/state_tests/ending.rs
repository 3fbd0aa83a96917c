//! The end: in order, or without a snapshot.

use super::*;

/// The root is stored; `own` is a pack that the coordinator wrote for it.
fn with_own_pack() -> (Job, Vec<Effect>) {
    let mut job = Job::started();
    let root = job.last();
    let effects = job.finish(&root, vec![nodes("data", "data")]);
    assert!(matches!(&effects[..], [Effect::AssembleRoot { .. }]));
    let effects = job.apply(Event::RootAssembled { tree: Id::of(b"tree") });
    assert!(matches!(&effects[..], [Effect::FlushPacks]), "{effects:?}");
    let own = PackReport { worker: worker("job"), ..pack_report("own") };
    let effects = job.apply(Event::PackReported(own));
    assert!(matches!(&effects[..], [Effect::ConfirmPack(_)]));
    assert!(job.apply(Event::PacksFlushed).is_empty(), "the pack is not confirmed");
    let effects = job.apply(Event::PackConfirmed { pack: pack("own"), blobs: vec![blob("tree")] });
    (job, effects)
}

#[test]
fn root_then_flush_then_index_then_snapshot() {
    let (mut job, effects) = with_own_pack();
    assert!(matches!(&effects[..], [Effect::WriteIndex { packs }] if *packs == [pack("own")]), "{effects:?}");
    let effects = job.apply(Event::IndexWritten { packs: vec![pack("own")] });
    assert_commits(&effects);
    assert!(job.apply(Event::CancelRequested).is_empty(), "too late");
    assert!(!job.state.has_ended());
    job.apply(Event::Committed { snapshot: Id::of(b"snapshot") });
    assert!(job.state.has_ended());
    assert_eq!(job.state.tree(), Some(Id::of(b"tree")));
}

/// No report can be done again for a tree of the coordinator: a snapshot must not be put over it.
#[test]
fn an_own_pack_that_is_not_in_storage_ends_the_job() {
    let mut job = Job::started();
    let root = job.last();
    job.finish(&root, vec![nodes("data", "data")]);
    job.apply(Event::RootAssembled { tree: Id::of(b"tree") });
    job.apply(Event::PackReported(PackReport { worker: worker("job"), ..pack_report("own") }));
    job.apply(Event::PacksFlushed);
    assert!(reason(&job.apply(Event::PackMissing { pack: pack("own") })).contains("is not in storage any more"));
}

#[test]
fn packs_that_no_accepted_result_needs_are_indexed_too() {
    let mut job = Job::split(vec![slice("a", "b")]);
    job.apply(Event::PackReported(pack_report("twice")));
    let task = job.last();
    assert!(job.finish(&task, vec![nodes("a", "b")]).len() == 1);
    job.apply(Event::PackConfirmed { pack: pack("twice"), blobs: vec![blob("x")] });
    let dir = 2;
    let effects = job.apply(Event::DirAssembled { dir, node: fragment("data", "data") });
    assert!(matches!(&effects[..], [Effect::AssembleRoot { .. }]), "{effects:?}");
    job.apply(Event::RootAssembled { tree: Id::of(b"tree") });
    let effects = job.apply(Event::PacksFlushed);
    assert!(matches!(&effects[..], [Effect::WriteIndex { packs }] if *packs == [pack("twice")]));
}

fn empty(change: impl FnOnce(&mut Settings)) -> Vec<Effect> {
    let mut job = Job::with(change);
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    let mut report = Job::archived(&root, vec![nodes("data", "data")]);
    report.counts.entries = 1; // the target itself
    let effects = job.take(report);
    job.store(effects)
}

#[test]
fn a_data_set_that_became_empty_is_a_failure_unless_it_is_allowed() {
    assert!(reason(&empty(|settings| settings.parent_has_content = true)).contains("is it mounted?"));
    assert_commits(&empty(|settings| (settings.parent_has_content, settings.allow_empty) = (true, true)));
    assert_commits(&empty(|_| {}));
}

#[test]
fn a_data_set_without_any_entry_is_a_failure() {
    let mut job = Job::started();
    let root = job.last();
    assert!(reason(&job.finish(&root, Vec::new())).contains("would be empty"));
}

#[test]
fn a_cancelled_job_wants_nothing_but_its_end() {
    let mut job = Job::split(vec![slice("a", "b")]);
    let task = job.last();
    assert!(matches!(&job.apply(Event::CancelRequested)[..], [Effect::Cancel]));
    assert!(job.state.has_ended());
    assert!(job.finish(&task, vec![nodes("a", "b")]).is_empty());
    assert!(job.apply(Event::Tick).is_empty());
}

#[test]
fn a_worker_that_cannot_and_an_effect_that_failed_end_the_job() {
    let mut job = Job::split(vec![slice("a", "b")]);
    let report = Job::report(&job.last(), "w1", Outcome::Failed { reason: "why".to_owned() });
    assert_eq!(reason(&job.take(report)), "why");
    let mut job = Job::split(vec![slice("a", "b")]);
    assert_eq!(reason(&job.apply(Event::EffectFailed { reason: "storage".to_owned() })), "storage");
    let mut job = Job::split(vec![slice("a", "b")]);
    let report = Job::report(&job.last(), "w1", Outcome::Unknown);
    assert!(reason(&job.take(report)).contains("newer release"));
}

/// A checkpoint comes at any time: what is being stored must be in it.
#[test]
fn a_checkpoint_has_all_that_is_finished() {
    let mut job = Job::split(vec![nodes("a", "b"), dir("c", "/data/c", vec![nodes("x", "y"), slice("z", "z")])]);
    let shape = |job: &Job| {
        let encoded = rmp_serde::to_vec_named(&job.state).unwrap();
        let state: State = rmp_serde::from_slice(&encoded).unwrap();
        let root = state.partial_tree();
        let [crate::job::PartialChild::Dir(data)] = &root.children[..] else { panic!("{root:?}") };
        assert_eq!(data.node, b"data");
        let [crate::job::PartialChild::Nodes(_), below] = &data.children[..] else { panic!("{data:?}") };
        match below {
            crate::job::PartialChild::Dir(below) => (below.node.clone(), below.children.len()),
            crate::job::PartialChild::Nodes(_) => (Vec::new(), 0),
        }
    };
    assert_eq!(shape(&job), (b"c".to_vec(), 1));
    let task = job.last();
    let effects = job.finish(&task, vec![nodes("z", "z")]);
    let [Effect::AssembleDir { dir, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(shape(&job), (b"c".to_vec(), 2), "while it is assembled");
    let effects = job.apply(Event::DirAssembled { dir: *dir, node: fragment("c", "c") });
    assert!(matches!(&effects[..], [Effect::AssembleDir { .. }]));
    assert_eq!(shape(&job), (Vec::new(), 0));
    let [Effect::AssembleDir { dir, .. }] = &effects[..] else { unreachable!("matched above") };
    let effects = job.apply(Event::DirAssembled { dir: *dir, node: fragment("data", "data") });
    assert!(matches!(&effects[..], [Effect::AssembleRoot { .. }]));
    assert_eq!(job.state.partial_tree().children.len(), 1, "while the root is assembled, and after");
    job.apply(Event::RootAssembled { tree: Id::of(b"tree") });
    assert_eq!(job.state.partial_tree().children.len(), 1);
}
