//! Decisions of a restore: stages, lists, endings.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::handles::UnixTime;
use proto::id::{Id, JobId, WorkerId};
use proto::job::Budget;
use proto::name::RawName;
use proto::report::{Counts, DeadReport, NotMyView, Outcome, Payload, ResultReport};
use proto::restore::{
    FurtherName, LargeFile, LinkedFile, NamedNode, RestoreCounts, RestoreWork, Restored, STAGE_CLOSE, STAGE_CONTENT,
    STAGE_DIRECTORIES, STAGE_LINKS, STAGE_SCOPES, TreePart, decode_list,
};
use proto::task::Work;

use super::*;

/// A task as it was published.
#[derive(Clone, Debug)]
struct Published {
    id: Id,
    stage: u32,
    work: RestoreWork,
    refused_by: Vec<WorkerId>,
}

/// A job, what it published, and how it ended.
struct Job {
    state: State,
    published: Vec<Published>,
    ends: Vec<Effect>,
    now: Duration,
}

fn name(text: &str) -> RawName {
    text.as_bytes().into()
}

fn worker(text: &str) -> WorkerId {
    WorkerId::new(text).unwrap()
}

impl Job {
    fn start(whole: bool, embedded: bool, dry_run: bool) -> Self {
        let job = JobId::new("job").unwrap();
        let tree = Id::of(b"tree");
        let settings = JobSettings { job, tree, budget: Budget::default(), whole, dry_run, embedded };
        let mut job =
            Self { state: State::new(settings), published: Vec::new(), ends: Vec::new(), now: Duration::ZERO };
        job.workers(&["a", "b"], &[]);
        job.apply(Event::Started);
        job
    }

    fn apply(&mut self, event: Event) {
        for effect in self.state.apply(event, self.now) {
            match effect {
                Effect::Publish { task, stage, work: Work::Restore(work), refused_by, .. } => {
                    self.published.push(Published { id: task, stage, work, refused_by });
                }
                Effect::AdoptMarker(marker) => {
                    assert_eq!(marker, name("marker"));
                    self.apply(Event::MarkerAdopted);
                }
                effect => self.ends.push(effect),
            }
        }
    }

    fn workers(&mut self, live: &[&str], holds: &[Id]) {
        let live = live.iter().map(|text| worker(text)).collect();
        let holds = holds.iter().map(|id| (*id, 0)).collect::<BTreeSet<_>>();
        self.apply(Event::Workers { live, holds, slots: 4 });
    }

    /// The only task that is published and not yet taken from the list.
    fn take_one(&mut self) -> Published {
        assert_eq!(self.published.len(), 1, "{:?}", self.published);
        self.published.remove(0)
    }

    fn report(&mut self, task: &Published, outcome: Outcome) {
        self.report_with(task, outcome, Vec::new(), Vec::new());
    }

    fn report_with(
        &mut self,
        task: &Published,
        outcome: Outcome,
        directories: Vec<NamedNode>,
        linked: Vec<LinkedFile>,
    ) {
        let report = Box::new(ResultReport {
            task: task.id,
            round: 0,
            worker: worker("a"),
            outcome,
            packs: Vec::new(),
            borrowed: Payload::default(),
            counts: Counts::default(),
            problems: Vec::new(),
            ended_at: UnixTime::default(),
        });
        self.apply(Event::Result { report, directories, linked });
    }

    fn done(&mut self, task: &Published) {
        self.report(task, Outcome::Restored(Box::default()));
    }
}

fn first(restored: Restored) -> Outcome {
    Outcome::Restored(Box::new(Restored { marker: Some(name("marker")), ..restored }))
}

fn part(path: &str) -> TreePart {
    let tree = Id::of(path.as_bytes());
    TreePart { path: name(path), tree, after: None, until: None, selected: true, unmade: Vec::new() }
}

fn node(path: &str) -> NamedNode {
    NamedNode { path: name(path), node: b"{}".to_vec() }
}

fn linked(inode: u64, names: &[&str], node: &[u8]) -> LinkedFile {
    let names = names.iter().map(|text| name(text)).collect();
    LinkedFile { inode, device: 1, names, node: node.to_vec(), modified: (1, 2) }
}

fn inline<T: serde::de::DeserializeOwned>(payload: &Payload) -> Vec<T> {
    match payload {
        Payload::Inline(bytes) => decode_list(bytes).unwrap(),
        Payload::Object { .. } => panic!("decisions make no objects"),
    }
}

#[test]
fn a_whole_restore_is_one_task_and_the_marker_goes_last() {
    let mut job = Job::start(true, true, false);
    let scope = job.take_one();
    assert_eq!(scope.stage, STAGE_SCOPES);
    let counts = RestoreCounts { bytes_written: 7, ..RestoreCounts::default() };
    job.report(&scope, first(Restored { counts, ..Restored::default() }));
    let close = job.take_one();
    assert_eq!((close.stage, &close.work), (STAGE_CLOSE, &RestoreWork::Close));
    assert!(job.ends.is_empty());
    job.done(&close);
    assert_eq!(job.ends, [Effect::Finish]);
    assert_eq!(job.state.counts().bytes_written, 7);
    assert!(job.state.has_ended());
}

#[test]
fn a_dry_run_has_no_marker() {
    let mut job = Job::start(true, true, true);
    let scope = job.take_one();
    job.done(&scope);
    assert_eq!(job.ends, [Effect::Finish]);
}

#[test]
fn every_stage_waits_for_the_one_before() {
    let mut job = Job::start(false, true, false);
    let root = job.take_one();
    let open = vec![part("a"), part("b")];
    job.report_with(&root, first(Restored { open, ..Restored::default() }), vec![node("a"), node("a/x")], vec![]);
    let parts = std::mem::take(&mut job.published);
    assert_eq!(parts.iter().map(|task| task.stage).collect::<Vec<_>>(), [STAGE_SCOPES; 2]);
    let large = LargeFile {
        path: name("a/large"),
        node: b"{}".to_vec(),
        content: Payload::Inline(vec![0; 96]),
        ranges: vec![(0, 0), (100, 2)],
        was_there: true,
    };
    let outcome = first(Restored { large_files: vec![large], ..Restored::default() });
    job.report_with(&parts[0], outcome, vec![node("a")], vec![linked(5, &["a/l", "a/m"], b"{5}")]);
    assert!(job.published.is_empty());
    job.report_with(&parts[1], first(Restored::default()), vec![], vec![linked(5, &["b/l"], b"{5}")]);

    let content = std::mem::take(&mut job.published);
    assert!(content.iter().all(|task| task.stage == STAGE_CONTENT));
    let [first_range, second_range, files] = &content[..] else { panic!("{content:?}") };
    let RestoreWork::Range(range) = &first_range.work else { panic!("{first_range:?}") };
    assert_eq!((range.offset, range.from, range.to), (0, 0, 2));
    let RestoreWork::Range(range) = &second_range.work else { panic!("{second_range:?}") };
    assert_eq!((range.offset, range.from, range.to), (100, 2, 3));
    let RestoreWork::Files(list) = &files.work else { panic!("{files:?}") };
    assert_eq!(inline::<NamedNode>(list), [NamedNode { path: name("a/l"), node: b"{5}".to_vec() }]);
    let counts = RestoreCounts { bytes_written: 1, ..RestoreCounts::default() };
    job.report(second_range, Outcome::Restored(Box::new(Restored { counts, ..Restored::default() })));
    job.done(first_range);
    assert!(job.published.is_empty());
    job.done(files);

    let links = std::mem::take(&mut job.published);
    assert!(links.iter().all(|task| task.stage == STAGE_LINKS));
    let [names, metadata] = &links[..] else { panic!("{links:?}") };
    let RestoreWork::Links(list) = &names.work else { panic!("{names:?}") };
    let further = |path| FurtherName { existing: name("a/l"), path: name(path), modified: (1, 2) };
    assert_eq!(inline::<FurtherName>(list), [further("a/m"), further("b/l")]);
    let RestoreWork::Metadata(list) = &metadata.work else { panic!("{metadata:?}") };
    assert_eq!(inline::<NamedNode>(list), [node("a/large")]);
    job.done(names);
    job.done(metadata);

    let directories = job.take_one();
    assert_eq!(directories.stage, STAGE_DIRECTORIES);
    let RestoreWork::Metadata(list) = &directories.work else { panic!("{directories:?}") };
    assert_eq!(inline::<NamedNode>(list), [node("a/x"), node("a")], "those below come first");
    job.done(&directories);
    let close = job.take_one();
    job.done(&close);
    assert_eq!(job.ends, [Effect::Finish]);
    assert_eq!(job.state.counts().files_restored, 1, "a range of the large file was written");
}

#[test]
fn a_fleet_begins_a_stage_only_once_nobody_holds_a_task_of_the_one_before() {
    let mut job = Job::start(false, false, false);
    let root = job.take_one();
    job.report_with(&root, first(Restored::default()), vec![node("a")], vec![]);
    assert!(job.published.is_empty());
    job.workers(&["a", "b"], &[root.id]);
    assert!(job.published.is_empty(), "a copy of the task may still be under way");
    job.workers(&["a", "b"], &[]);
    assert_eq!(job.take_one().stage, STAGE_DIRECTORIES);
}

#[test]
fn a_second_report_of_a_task_changes_nothing() {
    let mut job = Job::start(false, true, false);
    let root = job.take_one();
    let restored = Restored {
        open: vec![part("a")],
        counts: RestoreCounts { bytes_written: 1, ..RestoreCounts::default() },
        ..Restored::default()
    };
    job.report(&root, first(restored.clone()));
    job.take_one();
    job.report(&root, first(restored));
    assert!(job.published.is_empty());
    assert_eq!(job.state.counts().bytes_written, 1);
}

#[test]
fn a_name_that_was_restored_early_is_the_first() {
    let mut job = Job::start(false, true, false);
    let root = job.take_one();
    let outcome = first(Restored { open: vec![part("a")], ..Restored::default() });
    job.report_with(&root, outcome, vec![], vec![linked(5, &["z"], b"{5}")]);
    let task = job.take_one();
    job.report_with(&task, first(Restored::default()), vec![], vec![linked(5, &["done"], b"")]);
    let links = job.take_one();
    let RestoreWork::Links(list) = &links.work else { panic!("{links:?}") };
    let further = FurtherName { existing: name("done"), path: name("z"), modified: (1, 2) };
    let modified = inline::<FurtherName>(list).into_iter().map(|link| FurtherName { modified: (1, 2), ..link });
    assert_eq!(modified.collect::<Vec<_>>(), [further]);
}

#[test]
fn what_every_worker_refuses_ends_the_job_and_the_marker_is_removed() {
    let mut job = Job::start(false, true, false);
    let refuse = |job: &mut Job, task: &Published, by: &str| {
        let refusal = NotMyView {
            path: name("/t"),
            target_root: true,
            seen: None,
            mount: false,
            outside: false,
            targets_seen: Vec::new(),
            message: "not there".to_owned(),
        };
        let report = Box::new(ResultReport {
            task: task.id,
            round: 0,
            worker: worker(by),
            outcome: Outcome::NotMyView(refusal),
            packs: Vec::new(),
            borrowed: Payload::default(),
            counts: Counts::default(),
            problems: Vec::new(),
            ended_at: UnixTime::default(),
        });
        job.apply(Event::Result { report, directories: Vec::new(), linked: Vec::new() });
    };
    let root = job.take_one();
    refuse(&mut job, &root, "a");
    let again = job.take_one();
    assert_eq!(again.refused_by, [worker("a")]);
    refuse(&mut job, &again, "b");
    let close = job.take_one();
    assert_eq!(close.work, RestoreWork::Close);
    job.done(&close);
    assert_eq!(job.ends, [Effect::Fail { reason: "no worker can restore there: not there".to_owned() }]);
}

#[test]
fn a_failure_drops_all_tasks_and_does_not_wait_forever_for_the_marker() {
    let mut job = Job::start(false, true, false);
    let root = job.take_one();
    job.report(&root, first(Restored { open: vec![part("a"), part("b")], ..Restored::default() }));
    let parts = std::mem::take(&mut job.published);
    job.report(&parts[0], Outcome::Failed { reason: "no space".to_owned() });
    assert_eq!(job.take_one().work, RestoreWork::Close);
    job.report(&parts[1], first(Restored { open: vec![part("c")], ..Restored::default() }));
    assert!(job.published.is_empty(), "nothing new is begun");
    job.now = Duration::from_secs(31);
    job.apply(Event::Tick);
    assert_eq!(job.ends, [Effect::Fail { reason: "no space".to_owned() }]);
}

#[test]
fn cancelling_and_dead_tasks_end_the_job() {
    let mut job = Job::start(false, true, false);
    job.take_one();
    job.apply(Event::CancelRequested);
    let close = job.take_one();
    job.done(&close);
    assert_eq!(job.ends, [Effect::Cancel]);

    let mut job = Job::start(false, true, false);
    let root = job.take_one();
    let dead = DeadReport { task: root.id, round: 0, reason: "starts".to_owned(), message: "after 3".to_owned() };
    job.apply(Event::Dead(dead));
    let close = job.take_one();
    job.report(&close, Outcome::Failed { reason: "cannot".to_owned() });
    assert!(matches!(&job.ends[..], [Effect::Fail { reason }] if reason.contains("starts")), "{:?}", job.ends);
}

#[test]
fn a_lost_message_is_published_again() {
    let mut job = Job::start(false, false, false);
    let root = job.take_one();
    job.now = Duration::from_secs(61);
    let effects = job.state.apply(Event::Tick, job.now);
    let [Effect::Publish { task: probe, work: Work::Probe(_), .. }] = &effects[..] else { panic!("{effects:?}") };
    let probe = Published { id: *probe, stage: 0, work: RestoreWork::Close, refused_by: Vec::new() };
    job.report(&probe, Outcome::Probed);
    for _ in 0..2 {
        job.workers(&["a"], &[]);
        assert!(job.published.is_empty(), "a heartbeat may be older than the delivery");
    }
    job.workers(&["a"], &[]);
    assert_eq!(job.take_one().id, root.id);
}
