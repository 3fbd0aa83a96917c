//! What a result needs before it counts: packs in storage, borrowed blobs in an index.

use proto::report::{Problem, ProblemKind};

use super::*;

/// `/data` is left open: the coordinator counts it itself.
const DATA: u64 = 1;

/// A job with one task that is left; its report names these packs, and borrows if `borrows`.
fn one_left(packs: &[&str], borrows: bool) -> (Job, ResultReport) {
    let job = Job::split(vec![slice("a", "d")]);
    let mut report = Job::archived(&job.last(), vec![nodes("a", "b"), nodes("c", "d")]);
    report.packs = packs.iter().map(|text| pack(text)).collect();
    report.borrowed = Payload::Inline(if borrows { vec![1] } else { Vec::new() });
    report.counts.entries = 4;
    (job, report)
}

fn confirmed(text: &str, blobs: &[BlobKey]) -> Event {
    Event::PackConfirmed { pack: pack(text), blobs: blobs.to_vec() }
}

/// The names of fragments that are to be done again, as they are read.
#[track_caller]
fn names_read(effects: &[Effect]) -> Vec<Event> {
    let read = effects.iter().map(|effect| match effect {
        Effect::ReadNames { dir, fragment } => Event::NamesRead {
            dir: *dir,
            first: fragment.first.clone(),
            names: vec![fragment.first.clone(), fragment.last.clone()],
        },
        other => panic!("{other:?}"),
    });
    read.collect()
}

#[test]
fn a_result_counts_when_all_its_packs_are_seen() {
    let (mut job, report) = one_left(&["p", "q"], false);
    let effects = job.apply(Event::PackReported(pack_report("p")));
    assert!(matches!(&effects[..], [Effect::ConfirmPack(report)] if report.pack == pack("p")));
    assert!(job.apply(Event::PackReported(pack_report("p"))).is_empty(), "once");
    assert!(job.apply(confirmed("p", &[])).is_empty());
    assert!(matches!(&job.take(report)[..], [Effect::FindPack(found)] if *found == pack("q")));
    assert_eq!(job.state.counts().entries, DATA);
    let effects = job.apply(confirmed("q", &[]));
    assert_eq!(job.state.counts().entries, DATA + 4);
    assert_commits(&job.store_all(effects));
    assert_eq!(job.state.packs_written(), 2);
}

#[test]
fn a_pack_may_be_reported_later_than_the_result() {
    let mut job = Job::split(vec![slice("a", "y")]);
    // Another task is still open, so nobody looks for the pack.
    let mut report = Job::archived(&job.last(), vec![nodes("a", "b"), slice("x", "y")]);
    report.packs = vec![pack("p")];
    assert!(job.take(report).is_empty());
    assert!(matches!(&job.apply(Event::PackReported(pack_report("p")))[..], [Effect::ConfirmPack(_)]));
    assert!(job.apply(confirmed("p", &[])).is_empty());
    let last = job.last();
    let effects = job.finish(&last, vec![nodes("x", "y")]);
    assert_commits(&job.store_all(effects));
}

/// The job state was wiped between pack and result: nobody reports the pack again.
#[test]
fn a_pack_that_nobody_reports_is_looked_for() {
    for found in [true, false] {
        let (mut job, report) = one_left(&["p"], false);
        let effects = job.take(report);
        assert!(matches!(&effects[..], [Effect::FindPack(found)] if *found == pack("p")), "{effects:?}");
        if found {
            let effects = job.apply(confirmed("p", &[]));
            assert_commits(&job.store_all(effects));
        } else {
            let effects = job.apply(Event::PackMissing { pack: pack("p") });
            assert_eq!(names_read(&effects).len(), 2);
        }
    }
}

#[test]
fn a_missing_pack_is_done_again_in_the_next_round() {
    let (mut job, report) = one_left(&["p"], false);
    job.apply(Event::PackReported(pack_report("p")));
    assert!(job.take(report).is_empty());
    let effects = job.apply(Event::PackMissing { pack: pack("p") });
    let events = names_read(&effects);
    let count = job.published.len();
    for event in events {
        assert!(job.apply(event).is_empty());
    }
    let again = job.published.split_off(count);
    let names: Vec<RawName> = again.iter().flat_map(|task| names_of(&task.work)).collect();
    assert_eq!(names, ["a", "b", "c", "d"].map(name));
    for task in &again {
        assert_eq!(task.round, 1);
        assert!(matches!(&task.work, Work::Archive(work) if !work.borrow), "nothing is taken for stored unseen");
    }
    job.apply(Event::PackReported(pack_report("q")));
    for task in &again {
        let mut report = Job::archived(task, names_of(&task.work).into_iter().map(single).collect());
        report.packs = vec![pack("q")];
        assert!(job.take(report).is_empty());
    }
    let effects = job.apply(confirmed("q", &[]));
    assert_commits(&job.store_all(effects));
}

/// What is missing from a directory that was left open is not met again; all else is.
#[test]
fn the_figures_of_a_rejected_result_count_once() {
    let (mut job, mut report) = one_left(&["p"], false);
    report.counts.unreadable = 3;
    if let Outcome::Archived(archived) = &mut report.outcome {
        archived.missing.unreadable = 1;
    }
    job.apply(Event::PackReported(pack_report("p")));
    job.take(report);
    let before = job.state.counts().entries;
    job.apply(Event::PackMissing { pack: pack("p") });
    assert_eq!((job.state.counts().entries, job.state.counts().unreadable), (before, 1));
}

fn single(name: RawName) -> Item {
    Item::Nodes(Fragment { first: name.clone(), last: name, count: 1, nodes: Payload::default() })
}

#[test]
fn a_result_that_names_a_missing_pack_is_not_accepted() {
    let (mut job, mut report) = one_left(&["p"], false);
    job.apply(Event::PackReported(pack_report("p")));
    job.apply(Event::PackMissing { pack: pack("p") });
    for round in 1..=16 {
        assert!(job.take(report.clone()).is_empty());
        let again = job.last();
        assert_eq!(again.round, round);
        assert!(matches!(&again.work, Work::Archive(work) if !work.borrow));
        (report.task, report.round) = (again.task, again.round);
    }
    assert!(reason(&job.take(report)).contains("again and again"), "not for ever");
}

#[test]
fn borrowed_blobs_may_be_found_in_a_pack_that_comes_later() {
    let (mut job, report) = one_left(&[], true);
    let effects = job.take(report);
    let [Effect::CheckBorrowed { report: key, .. }] = &effects[..] else { panic!("{effects:?}") };
    let missing = vec![blob("x"), blob("y")];
    let effects = job.apply(Event::BorrowedChecked { report: *key, missing });
    let [Effect::ListIndex { wanted }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(wanted.len(), 2);
    job.apply(Event::PackReported(pack_report("p")));
    assert!(job.apply(confirmed("p", &[blob("x")])).is_empty());
    let effects = job.apply(Event::IndexListed { found: vec![blob("y")] });
    assert_commits(&job.store_all(effects));
    assert_eq!(job.state.counts().entries, DATA + 4);
}

#[test]
fn borrowed_blobs_that_no_index_has_are_done_again_without_borrowing() {
    let (mut job, mut report) = one_left(&[], true);
    report.counts.unreadable = 1;
    if let Outcome::Archived(archived) = &mut report.outcome {
        archived.missing.unreadable = 1;
    }
    let problem = Problem { kind: ProblemKind::Unreadable, path: name("/data/bb"), message: String::new() };
    report.problems = vec![problem];
    let effects = job.take(report);
    let [Effect::CheckBorrowed { report: key, .. }] = &effects[..] else { panic!("{effects:?}") };
    let effects = job.apply(Event::BorrowedChecked { report: *key, missing: vec![blob("x"), blob("y")] });
    assert!(matches!(&effects[..], [Effect::ListIndex { .. }]));
    let effects = job.apply(Event::IndexListed { found: vec![blob("y")] });
    let events = names_read(&effects);
    let count = job.published.len();
    for event in events {
        job.apply(event);
    }
    let again = job.published.split_off(count);
    assert!(again.iter().all(|task| matches!(&task.work, Work::Archive(work) if !work.borrow)));
    assert_eq!(job.state.counts().entries, DATA, "the rejected report does not count");
    assert_eq!(job.state.counts().unreadable, 1, "what could not be read is not among the names: it stays known");
    assert_eq!(job.state.problems().len(), 1);
    let mut effects = Vec::new();
    for task in &again {
        effects = job.finish(task, names_of(&task.work).into_iter().map(single).collect());
    }
    assert_commits(&job.store_all(effects));
}

#[test]
fn the_index_is_listed_again_for_what_is_borrowed_after_a_listing() {
    let (mut job, report) = one_left(&[], true);
    let effects = job.take(report);
    let [Effect::CheckBorrowed { report: key, .. }] = &effects[..] else { panic!("{effects:?}") };
    job.apply(Event::BorrowedChecked { report: *key, missing: vec![blob("x")] });
    let effects = job.apply(Event::IndexListed { found: Vec::new() });
    let events = names_read(&effects);
    for event in events {
        job.apply(event);
    }
    let open: Vec<Published> = job.published[2..].to_vec();
    let mut listings = 0;
    for task in &open {
        // Against what it was told, it borrows once more.
        let mut report = Job::archived(task, names_of(&task.work).into_iter().map(single).collect());
        report.borrowed = Payload::Inline(vec![1]);
        for effect in job.take(report) {
            let Effect::CheckBorrowed { report, .. } = effect else { panic!("{effect:?}") };
            let effects = job.apply(Event::BorrowedChecked { report, missing: vec![blob("z")] });
            listings += effects.iter().filter(|effect| matches!(effect, Effect::ListIndex { .. })).count();
        }
    }
    assert_eq!(listings, 1);
    let effects = job.apply(Event::IndexListed { found: vec![blob("z")] });
    assert_commits(&job.store_all(effects));
}

#[test]
fn what_a_rejected_split_left_open_goes_on() {
    let mut job = Job::split(vec![slice("a", "z")]);
    let mut report = Job::archived(&job.last(), vec![nodes("a", "b"), slice("c", "z")]);
    report.packs = vec![pack("p")];
    assert!(job.take(report).is_empty());
    let rest = job.last();
    job.apply(Event::PackReported(pack_report("p")));
    let effects = job.apply(Event::PackMissing { pack: pack("p") });
    assert_eq!(names_read(&effects).len(), 1, "only the finished entries are done again");
    assert!(job.finish(&rest, vec![nodes("c", "z")]).is_empty());
    for event in names_read(&effects) {
        job.apply(event);
    }
    let mut effects = Vec::new();
    for task in job.published.split_off(3) {
        effects = job.finish(&task, names_of(&task.work).into_iter().map(single).collect());
    }
    assert_commits(&job.store_all(effects));
}

#[test]
fn index_files_are_written_for_50000_blobs_or_after_a_minute() {
    let blobs = |count: usize| vec![blob("x"); count];
    let mut job = Job::split(vec![slice("a", "b")]);
    for text in ["p", "q", "r"] {
        job.apply(Event::PackReported(pack_report(text)));
    }
    assert!(job.apply(Event::PackConfirmed { pack: pack("p"), blobs: blobs(49_999) }).is_empty());
    let effects = job.apply(Event::PackConfirmed { pack: pack("q"), blobs: blobs(1) });
    assert!(matches!(&effects[..], [Effect::WriteIndex { packs }] if *packs == [pack("p"), pack("q")]));
    job.apply(Event::IndexWritten { packs: vec![pack("p"), pack("q")] });
    assert!(job.apply(Event::PackConfirmed { pack: pack("r"), blobs: blobs(1) }).is_empty());
    job.later(59);
    assert!(job.apply(Event::Tick).is_empty());
    job.later(1);
    let effects = job.apply(Event::Tick);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::WriteIndex { packs } if *packs == [pack("r")])));
    assert_eq!(job.state.packs_written(), 3);
}

#[test]
fn a_late_duplicate_of_a_pack_report_is_not_confirmed_twice() {
    let (mut job, report) = one_left(&["p"], false);
    job.apply(Event::PackReported(pack_report("p")));
    job.apply(confirmed("p", &[]));
    assert!(job.apply(Event::PackReported(pack_report("p"))).is_empty());
    let effects = job.take(report);
    assert_commits(&job.store_all(effects));
}
