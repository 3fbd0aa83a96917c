//! Who sees what: refusals, and when they are believed.

use proto::report::NotMyView;

use super::*;

/// A refusal; with the root task's, what the targets look like.
pub(super) fn refusal(target_root: bool, targets: &[(&str, u64)]) -> NotMyView {
    NotMyView {
        path: name("/data"),
        target_root,
        seen: None,
        mount: false,
        outside: false,
        targets_seen: targets.iter().map(|(path, inode)| (name(path), Some(view(*inode)))).collect(),
        message: "it looks different".to_owned(),
    }
}

fn refuse(job: &mut Job, task: &Published, by: &str, refusal: NotMyView) -> Vec<Effect> {
    job.take(Job::report(task, by, Outcome::NotMyView(refusal)))
}

/// A job with these workers in a registry that is old enough, and a task for some entries of `/data`.
fn two_workers() -> (Job, Published) {
    let mut job = Job::split(vec![slice("a", "b")]);
    job.see(&["w1", "w2"]);
    job.later(30);
    job.see(&["w1", "w2"]);
    let task = job.last();
    (job, task)
}

fn expected_targets(task: &Published) -> Vec<(RawName, View)> {
    let Work::Archive(work) = &task.work else { panic!("an archive task") };
    work.expected_targets.clone()
}

#[test]
fn a_refused_task_goes_to_another_worker() {
    let (mut job, task) = two_workers();
    assert!(refuse(&mut job, &task, "w1", refusal(false, &[])).is_empty());
    let again = job.last();
    assert_eq!((again.task, again.round), (task.task, task.round));
    assert_eq!(again.refused_by, [worker("w1")]);
    let count = job.published.len();
    assert!(refuse(&mut job, &task, "w1", refusal(false, &[])).is_empty());
    assert_eq!(job.published.len(), count, "said twice is said once");
}

#[test]
fn a_scope_that_all_see_otherwise_is_believed() {
    let (mut job, task) = two_workers();
    refuse(&mut job, &task, "w1", refusal(false, &[]));
    let effects = refuse(&mut job, &task, "w2", refusal(false, &[]));
    let [Effect::SetDevices { devices, unmounted, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(unmounted.contains(&name("/data")), "no worker may ask for the mount point again");
    let count = job.published.len();
    let devices = devices.clone();
    job.apply(Event::FactsReady { devices });
    assert_eq!(job.published.len(), count + 1, "only with the new facts in force");
    let again = job.last();
    assert!(again.refused_by.is_empty());
    assert!(matches!(&again.work, Work::Archive(work) if work.view.is_none()));
}

/// Many scopes may lie on one file system that went away.
#[test]
fn a_file_system_that_went_away_is_missing_once() {
    let mut job = Job::with(|settings| settings.registry_complete = true);
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    job.finish(&root, vec![dir("data", "/data", vec![slice("a", "b"), slice("c", "d")])]);
    let tasks = job.published.split_off(1);
    let gone = NotMyView { path: name("/data/mnt"), mount: true, ..refusal(false, &[]) };
    for task in &tasks {
        refuse(&mut job, task, "w1", gone.clone());
    }
    assert_eq!((tasks.len(), job.state.counts().unreadable), (2, 1));
}

/// In one process nobody sees anything else than the first one.
#[test]
fn of_workers_in_one_process_one_is_asked() {
    let one_process = |settings: &mut Settings| (settings.registry_complete, settings.one_view) = (true, true);
    let mut job = Job::with(one_process);
    job.see(&["w1", "w2"]);
    job.apply(Event::Started);
    let root = job.last();
    assert!(matches!(&root.work, Work::Archive(work) if work.expected_targets.is_empty() && work.last_word));
    job.finish(&root, vec![dir("data", "/data", vec![slice("a", "b")])]);
    let task = job.last();
    let effects = refuse(&mut job, &task, "w1", refusal(false, &[]));
    assert!(matches!(&effects[..], [Effect::SetDevices { unmounted, .. }] if unmounted.contains(&name("/data"))));

    let mut job = Job::with(one_process);
    job.see(&["w1", "w2"]);
    job.apply(Event::Started);
    let root = job.last();
    let effects = refuse(&mut job, &root, "w2", NotMyView { outside: true, ..refusal(true, &[]) });
    assert!(reason(&effects).contains("no worker may read"));
}

#[test]
fn a_data_set_that_all_see_otherwise_ends_the_job() {
    let (mut job, task) = two_workers();
    refuse(&mut job, &task, "w1", refusal(true, &[]));
    let effects = refuse(&mut job, &task, "w2", refusal(true, &[]));
    assert!(reason(&effects).contains("no worker sees the data set"));
}

#[test]
fn nobody_is_everybody_only_when_the_registry_is_complete() {
    let mut job = Job::split(vec![slice("a", "b")]);
    let task = job.last();
    refuse(&mut job, &task, "w1", refusal(true, &[]));
    job.later(29);
    assert!(job.see(&["w1"]).is_empty());
    job.later(1);
    assert!(reason(&job.see(&["w1"])).contains("no worker sees"));
}

/// A wiped registry names nobody: an unmounted data set must not be believed for that.
#[test]
fn a_lost_registry_believes_nothing() {
    for target_root in [false, true] {
        let (mut job, task) = two_workers();
        refuse(&mut job, &task, "w1", refusal(target_root, &[]));
        assert!(job.see(&[]).is_empty(), "nobody is there to ask");
        job.later(60);
        assert!(job.see(&["w1"]).is_empty(), "w2 had no time yet to say that it lives");
        job.later(10);
        assert!(job.see(&["w1", "w2"]).is_empty());
        job.apply(Event::StateLost);
        job.later(29);
        assert!(job.see(&["w1"]).is_empty());
        job.later(1);
        assert!(job.see(&["w1"]).is_empty());
        assert!(!job.state.has_ended());
        job.later(30);
        assert!(!job.see(&["w1"]).is_empty(), "w2 is gone for good");
    }
}

#[test]
fn without_a_parent_two_workers_must_agree() {
    let mut job = Job::with(|_| {});
    job.see(&["w1", "w2", "w3"]);
    job.apply(Event::Started);
    let root = job.last();
    assert_eq!(expected_targets(&root), [(name("/data"), View { inode: 0, file_type: 0 })]);
    refuse(&mut job, &root, "w1", refusal(true, &[("/data", 1)]));
    refuse(&mut job, &root, "w2", refusal(true, &[("/data", 2)]));
    assert_eq!(job.last().refused_by, [worker("w1"), worker("w2")]);
    refuse(&mut job, &root, "w3", refusal(true, &[("/data", 1)]));
    assert_eq!(expected_targets(&job.last()), [(name("/data"), view(1))]);
    assert!(job.last().refused_by.is_empty());
}

/// Who has fewer file systems mounted than another does not see all of the data set.
#[test]
fn every_file_system_that_anybody_has_is_asked_for() {
    let mut job = Job::with(|_| {});
    job.see(&["w1", "w2"]);
    job.apply(Event::Started);
    let first = [("/data", 1), ("/data/one", 2)];
    let second = [("/data", 1), ("/data/two", 3)];
    let root = job.last();
    refuse(&mut job, &root, "w1", refusal(true, &first));
    refuse(&mut job, &root, "w2", refusal(true, &second));
    job.later(30);
    job.see(&["w1", "w2"]);
    let all = [(name("/data"), view(1)), (name("/data/one"), view(2)), (name("/data/two"), view(3))];
    assert_eq!(expected_targets(&job.last()), all);
    let root = job.last();
    refuse(&mut job, &root, "w1", refusal(true, &first));
    let effects = refuse(&mut job, &root, "w2", refusal(true, &second));
    assert!(reason(&effects).contains("different data"), "once is enough");
}

/// An acknowledgement that was lost brings the old publication again, and with it the old expectation.
#[test]
fn a_refusal_of_what_was_expected_before_is_no_refusal() {
    let mut job = Job::with(|settings| {
        (settings.registry_complete, settings.expected_targets) = (true, vec![(name("/data"), view(9))]);
    });
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    refuse(&mut job, &root, "w1", refusal(true, &[("/data", 1)]));
    let count = job.published.len();
    assert!(refuse(&mut job, &root, "w1", refusal(true, &[("/data", 1)])).is_empty());
    assert_eq!(job.published.len(), count, "what is expected now is in the queue");
    let again = job.last();
    job.finish(&again, vec![dir("data", "/data", vec![open(&["a"])])]);
    assert!(!job.state.has_ended());
}

#[test]
fn a_file_system_that_only_the_parent_has_is_given_up_when_nobody_has_it() {
    let mut job = Job::with(|settings| settings.registry_complete = true);
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    let seen = NotMyView { path: name("/data/mnt"), seen: Some(view(4)), mount: true, ..refusal(false, &[]) };
    refuse(&mut job, &root, "w1", seen);
    let root = job.last();
    assert_eq!(expected_targets(&root), [(name("/data/mnt"), view(4))]);
    let effects = job.finish(&root, vec![dir("data", "/data", vec![open(&["a"])])]);
    let [Effect::SetDevices { unmounted, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert!(unmounted.contains(&name("/data/mnt")), "other tasks shall not ask for it either");
    assert_eq!(job.state.counts().unreadable, 1, "and people hear of it");
}

#[test]
fn workers_that_all_see_something_else_end_the_job() {
    let mut job = Job::with(|_| {});
    job.see(&["w1", "w2"]);
    job.apply(Event::Started);
    let root = job.last();
    refuse(&mut job, &root, "w1", refusal(true, &[("/data", 1)]));
    assert!(refuse(&mut job, &root, "w2", refusal(true, &[("/data", 2)])).is_empty(), "a third may come");
    job.later(30);
    assert!(reason(&job.see(&["w1", "w2"])).contains("different data"));
}

#[test]
fn the_parents_inode_is_asked_for_and_a_second_worker_overrules_it() {
    let mut job = Job::with(|settings| settings.expected_targets = vec![(name("/data"), view(9))]);
    job.see(&["w1", "w2"]);
    job.apply(Event::Started);
    let root = job.last();
    assert_eq!(expected_targets(&root), [(name("/data"), view(9))]);
    refuse(&mut job, &root, "w1", refusal(true, &[("/data", 1)]));
    assert_eq!(job.last().refused_by, [worker("w1")]);
    refuse(&mut job, &root, "w2", refusal(true, &[("/data", 1)]));
    assert_eq!(expected_targets(&job.last()), [(name("/data"), view(1))]);
}

#[test]
fn the_only_worker_overrules_the_parent_when_no_other_can_be() {
    let mut job = Job::with(|settings| settings.expected_targets = vec![(name("/data"), view(9))]);
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    assert!(refuse(&mut job, &root, "w1", refusal(true, &[("/data", 1)])).is_empty());
    assert_eq!(job.published.len(), 1, "another worker may not have been heard of");
    job.later(30);
    job.see(&["w1"]);
    assert_eq!(expected_targets(&job.last()), [(name("/data"), view(1))]);
}

#[test]
fn an_embedded_worker_is_believed_at_once() {
    let mut job = Job::with(|settings| {
        (settings.registry_complete, settings.expected_targets) = (true, vec![(name("/data"), view(9))]);
    });
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    refuse(&mut job, &root, "w1", refusal(true, &[("/data", 1)]));
    assert_eq!(expected_targets(&job.last()), [(name("/data"), view(1))]);
}

/// What was there at first is not there any more: the data set may have been unmounted.
#[test]
fn a_data_set_that_moved_while_it_was_read_is_not_believed() {
    let mut job = Job::with(|settings| settings.registry_complete = true);
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    assert!(reason(&refuse(&mut job, &root, "w1", refusal(true, &[]))).contains("it looks different"));
}

#[test]
fn a_data_set_that_moved_for_one_worker_is_left_to_the_other() {
    let expected = vec![(name("/data"), view(9))];
    let mut job = Job::with(|settings| (settings.registry_complete, settings.expected_targets) = (true, expected));
    job.see(&["w1", "w2"]);
    job.apply(Event::Started);
    let root = job.last();
    assert!(refuse(&mut job, &root, "w1", refusal(true, &[])).is_empty());
    assert_eq!((job.last().task, job.last().refused_by), (root.task, vec![worker("w1")]));
    assert!(
        reason(&refuse(&mut job, &root, "w2", refusal(true, &[]))).contains("it looks different"),
        "never agreed on"
    );
}

/// Who could not read it may still be the only one who has the file system mounted.
#[test]
fn who_asked_for_a_second_opinion_is_asked_again_before_a_refusal_is_believed() {
    let (mut job, task) = two_workers();
    job.finish(&task, vec![second_opinion("a")]);
    let asked = job.last();
    let gone = NotMyView { path: name("/data/mnt"), mount: true, ..refusal(false, &[]) };
    refuse(&mut job, &asked, "w2", gone.clone());
    assert_eq!((job.last().task, job.last().refused_by), (asked.task, vec![worker("w2")]));
    assert_eq!(job.state.counts().unreadable, 0);
    refuse(&mut job, &asked, "w1", gone);
    assert_eq!(job.state.counts().unreadable, 1, "now both have said so");
}

#[test]
fn a_second_opinion_is_asked_of_another_worker_while_there_is_one() {
    let (mut job, task) = two_workers();
    assert!(job.finish(&task, vec![second_opinion("a")]).is_empty());
    let asked = job.last();
    assert_eq!((asked.refused_by.clone(), asked.round), (vec![worker("w1")], 1));
    assert!(matches!(&asked.work, Work::Archive(work) if work.last_word));
    let count = job.published.len();
    job.see(&["w1"]);
    assert_eq!(job.published.len(), count + 1, "the other one is gone: what is in the queue still excludes w1");
    assert_eq!((job.last().task, job.last().refused_by), (asked.task, Vec::new()));
}

#[test]
fn unknown_file_systems_are_numbered_one_change_after_the_other() {
    let mut job = Job::started();
    job.devices.insert(name("/data"), 5);
    let root = job.last();
    let two = vec![dir("data", "/data", vec![slice("a", "b"), slice("c", "d")])];
    assert!(job.finish(&root, two).is_empty());
    let device = |text: &str, parent| {
        let path = name(&format!("/data/{text}"));
        Item::Device(proto::report::NewDevice { name: name(text), path, device: 5, parent_device: parent })
    };
    let (one, other) = (job.published[1].clone(), job.published[2].clone());
    let effects = job.finish(&one, vec![device("a", Some(5)), device("b", Some(8))]);
    let [Effect::SetDevices { devices: first, mounted, .. }] = &effects[..] else {
        panic!("one at a time: {effects:?}")
    };
    assert!(mounted.contains(&name("/data/a")), "who has nothing mounted there does not see the data set");
    assert_eq!(first[&name("/data/a")], 1, "5 is taken");
    assert!(job.finish(&other, vec![device("c", None)]).is_empty(), "waits for the first change");
    let count = job.published.len();
    let first = first.clone();
    let effects = job.apply(Event::FactsReady { devices: first });
    let [Effect::SetDevices { devices: all, .. }] = &effects[..] else { panic!("{effects:?}") };
    let numbers: Vec<u64> = all.values().copied().collect();
    assert_eq!(numbers, [5, 1, 8, 2], "never the same number for two");
    assert_eq!(job.published.len(), count, "a task without these facts would find the file systems unknown again");
    let all = all.clone();
    job.apply(Event::FactsReady { devices: all });
    assert_eq!(job.published.len(), count + 3);
}
