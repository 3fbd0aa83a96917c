//! Large files in ranges: seams, replaced and changed files, lost packs.

use proto::report::{OpenFile, ProblemKind, RangeResult};
use proto::task::{FileIdentity, RangeWork};

use super::*;
use crate::job::Stitched;

const SIZE: u64 = 30;

fn identity(inode: u64, modified: i64) -> FileIdentity {
    FileIdentity { inode, size: SIZE, modified: (modified, 0), changed: (modified, 0) }
}

fn file(done_to: u64) -> Item {
    Item::File(OpenFile {
        is_in_parent: false,
        name: name("f"),
        path: name("/data/f"),
        node: b"f".to_vec(),
        identity: identity(3, 0),
        done: Payload::default(),
        done_to,
    })
}

/// A job with a file of three ranges of ten bytes.
fn three_ranges() -> (Job, Vec<Published>) {
    let mut job = Job::with(|settings| settings.budget.range_bytes = 10);
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    assert!(job.finish(&root, vec![dir("data", "/data", vec![file(0)])]).is_empty());
    let ranges = job.published.split_off(1);
    (job, ranges)
}

fn range_of(task: &Published) -> &RangeWork {
    let Work::Range(work) = &task.work else { panic!("no range: {task:?}") };
    work
}

fn stored(task: &Published, before: FileIdentity, after: FileIdentity) -> ResultReport {
    let work = range_of(task);
    let (chunks, proven) = (Payload::default(), true);
    let result = RangeResult {
        first_cut: work.start,
        chunks,
        end: work.end,
        proven,
        identity_after: after,
        identity_before: before,
    };
    Job::report(task, "w1", Outcome::Range(result))
}

fn good(task: &Published) -> ResultReport {
    stored(task, identity(3, 0), identity(3, 0))
}

#[track_caller]
fn file_of(effects: &[Effect]) -> u64 {
    match effects {
        [Effect::StitchFile { file, .. }] => *file,
        other => panic!("{other:?}"),
    }
}

fn whole() -> Box<Stitched> {
    Box::new(Stitched::Node { node: fragment("f", "f"), matched: 2, dropped: 1 })
}

#[test]
fn ranges_are_put_together_when_all_are_there() {
    let (mut job, tasks) = three_ranges();
    let bounds: Vec<_> = tasks.iter().map(|task| (range_of(task).start, range_of(task).exact)).collect();
    assert_eq!(bounds, [(0, true), (10, false), (20, false)]);
    assert!(job.take(good(&tasks[2])).is_empty() && job.take(good(&tasks[0])).is_empty());
    assert!(job.take(good(&tasks[0])).is_empty(), "twice is once");
    let file = file_of(&job.take(good(&tasks[1])));
    let effects = job.apply(Event::FileStitched { file, outcome: whole() });
    let [Effect::AssembleDir { fragments, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(fragments, &[fragment("f", "f")]);
    assert_commits(&job.store_all(effects));
    assert_eq!(job.state.progress().seams_matched, 2);
}

#[test]
fn a_seam_without_a_shared_cut_is_done_again_from_the_proven_one() {
    let (mut job, tasks) = three_ranges();
    let mut effects = Vec::new();
    for task in &tasks {
        effects = job.take(stored(task, identity(3, 0), identity(3, 1)));
    }
    let file = file_of(&effects);
    let outcome = Box::new(Stitched::Again { start: 20, from: 23 });
    assert!(job.apply(Event::FileStitched { file, outcome }).is_empty());
    let again = job.last();
    assert_eq!((range_of(&again).start, range_of(&again).end, range_of(&again).exact), (23, 30, true));
    assert!(job.take(good(&tasks[2])).is_empty(), "the range as it was is of no use");
    let effects = job.take(good(&again));
    let [Effect::StitchFile { ranges, .. }] = &effects[..] else { panic!("{effects:?}") };
    let starts: Vec<u64> = ranges.iter().map(|range| range.start).collect();
    assert_eq!(starts, [0, 10, 23]);
    let effects = job.apply(Event::FileStitched { file, outcome: whole() });
    assert_commits(&job.store_all(effects));
    let progress = job.state.progress();
    assert_eq!((progress.seams_redone, progress.byte_range_partitions, progress.files_read_whole), (1, 4, 0));
    assert_eq!(progress.partitions_by_worker, [(worker("w1"), 4)].into(), "what was done again counts again");
    assert_eq!((job.state.counts().changed_while_read, job.state.problems().len()), (1, 1), "listed once");
    assert_eq!(job.state.problems()[0].kind, ProblemKind::ChangedWhileRead);
}

#[track_caller]
fn assert_read_whole(job: &mut Job) {
    assert_eq!(job.state.progress().files_read_whole, 1);
    let whole = job.last();
    assert_eq!(names_of(&whole.work), [name("f")]);
    assert!(matches!(&whole.work, Work::Archive(work) if work.budget.range_threshold_bytes == u64::MAX));
    let effects = job.finish(&whole, vec![nodes("f", "f")]);
    assert_commits(&job.store_all(effects));
}

#[test]
fn a_replaced_file_is_read_whole() {
    for (before, after) in [(4, 3), (3, 4)] {
        let (mut job, tasks) = three_ranges();
        job.take(good(&tasks[0]));
        job.take(stored(&tasks[1], identity(before, 0), identity(after, 0)));
        assert!(job.take(good(&tasks[2])).is_empty());
        assert!(job.state.problems().is_empty());
        assert_read_whole(&mut job);
    }
}

#[test]
fn ranges_that_do_not_tile_the_file_are_read_whole() {
    let (mut job, tasks) = three_ranges();
    let mut effects = Vec::new();
    for task in &tasks {
        effects = job.take(good(task));
    }
    let file = file_of(&effects);
    assert!(job.apply(Event::FileStitched { file, outcome: Box::new(Stitched::Untiled) }).is_empty());
    assert_read_whole(&mut job);
}

#[test]
fn a_file_that_no_worker_sees_any_more_is_read_whole() {
    let (mut job, tasks) = three_ranges();
    job.later(30);
    job.see(&["w1"]);
    let refusal = super::views::refusal(false, &[]);
    let report = Job::report(&tasks[1], "w1", Outcome::NotMyView(refusal));
    assert!(job.take(report).is_empty());
    assert!(job.take(good(&tasks[0])).is_empty(), "its ranges are of no use any more");
    assert_read_whole(&mut job);
}

#[test]
fn a_lost_pack_costs_one_range() {
    let (mut job, tasks) = three_ranges();
    let mut lost = good(&tasks[1]);
    lost.packs = vec![pack("p")];
    job.apply(Event::PackReported(pack_report("p")));
    for report in [good(&tasks[0]), lost, good(&tasks[2])] {
        assert!(job.take(report).is_empty());
    }
    assert!(job.apply(Event::PackMissing { pack: pack("p") }).is_empty());
    let again = job.last();
    assert_eq!((range_of(&again).start, range_of(&again).borrow, again.round), (10, false, 1));
    let file = file_of(&job.take(good(&again)));
    let effects = job.apply(Event::FileStitched { file, outcome: whole() });
    assert_commits(&job.store_all(effects));
}

/// The splitter read the first part itself: those chunks are as unproven as its report.
#[test]
fn chunks_before_the_first_range_wait_for_their_pack() {
    for missing in [false, true] {
        let mut job = Job::split(vec![slice("f", "f")]);
        let task = job.last();
        let mut report = Job::archived(&task, vec![file(10)]);
        report.packs = vec![pack("p")];
        assert!(job.take(report).is_empty());
        job.apply(Event::PackReported(pack_report("p")));
        let range = job.last();
        assert_eq!((range_of(&range).start, range_of(&range).exact), (10, true));
        assert!(job.take(good(&range)).is_empty());
        if missing {
            assert!(job.apply(Event::PackMissing { pack: pack("p") }).is_empty());
            assert_read_whole(&mut job);
        } else {
            let file = file_of(&job.apply(Event::PackConfirmed { pack: pack("p"), blobs: Vec::new() }));
            let effects = job.apply(Event::FileStitched { file, outcome: whole() });
            assert_commits(&job.store_all(effects));
        }
    }
}

/// A large file that is a target has no directory of the source that it could be named in.
#[test]
fn a_target_that_is_a_replaced_file_is_read_as_a_target() {
    let mut job = Job::with(|settings| settings.targets = vec![target("f")]);
    job.see(&["w1"]);
    job.apply(Event::Started);
    let root = job.last();
    assert!(job.finish(&root, vec![file(0)]).is_empty());
    let range = job.last();
    assert!(job.take(stored(&range, identity(4, 0), identity(4, 0))).is_empty());
    let Work::Archive(work) = &job.last().work else { panic!("{:?}", job.last()) };
    assert!(matches!(&work.scope, Scope::Root { targets } if targets.len() == 1), "{:?}", work.scope);
    assert_read_whole(&mut job);
}
