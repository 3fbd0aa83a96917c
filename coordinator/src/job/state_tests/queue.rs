//! Messages: lost, late, twice; the probe; the dead letters.

use proto::report::DeadReport;

use super::*;

fn is_probe(task: &Published) -> bool {
    matches!(task.work, Work::Probe(_))
}

fn answer(job: &mut Job, probe: &Published) {
    assert!(is_probe(probe));
    let report = Job::report(probe, "w1", Outcome::Probed);
    assert!(job.take(report).is_empty());
}

#[test]
fn tasks_that_were_lost_are_found_by_a_probe() {
    let mut job = Job::split(vec![slice("a", "b"), slice("c", "d")]);
    let (lost, held) = (job.published[1].clone(), job.published[2].clone());
    job.later(59);
    job.apply(Event::Tick);
    assert_eq!(job.published.len(), 3);
    job.later(1);
    job.apply(Event::Tick);
    let probe = job.last();
    answer(&mut job, &probe);
    let holds = BTreeSet::from([(held.task, held.round)]);
    for _ in 0..11 {
        job.later(1);
        job.see_holding(&["w1"], holds.clone());
    }
    assert_eq!(job.published.len(), 4, "a worker says what it holds every 5 s");
    job.later(1);
    job.see_holding(&["w1"], holds);
    assert_eq!(job.published.len(), 5);
    assert_eq!(job.last().task, lost.task);
}

#[test]
fn results_are_progress() {
    let mut job = Job::split(vec![slice("a", "b"), slice("c", "d")]);
    let task = job.published[1].clone();
    job.later(59);
    job.finish(&task, Vec::new());
    job.later(59);
    job.apply(Event::Tick);
    assert!(!is_probe(&job.last()));
    job.later(1);
    job.apply(Event::Tick);
    assert!(is_probe(&job.last()));
}

#[test]
fn a_lost_probe_is_followed_by_another_and_counts_no_more() {
    let mut job = Job::split(vec![slice("a", "b")]);
    job.apply(Event::StateLost);
    let lost = job.last();
    job.later(60);
    job.apply(Event::Tick);
    let second = job.last();
    assert!(is_probe(&second) && second.task != lost.task);
    answer(&mut job, &lost);
    job.later(20);
    job.see(&["w1"]);
    assert_eq!(job.last().task, second.task, "the lost one's answer tells nothing");
    answer(&mut job, &second);
    job.later(20);
    job.see(&["w1"]);
    assert_eq!(names_of(&job.last().work), Vec::<RawName>::new());
    assert!(!is_probe(&job.last()));
}

#[test]
fn what_was_published_after_the_probe_is_not_lost() {
    let mut job = Job::split(vec![slice("a", "b")]);
    let task = job.last();
    job.apply(Event::StateLost);
    let probe = job.last();
    job.finish(&task, vec![slice("b", "b")]);
    let count = job.published.len();
    answer(&mut job, &probe);
    job.later(20);
    job.see(&["w1"]);
    assert_eq!(job.published.len(), count);
}

#[test]
fn a_job_ends_with_an_open_probe() {
    let mut job = Job::split(vec![slice("a", "b")]);
    let task = job.last();
    job.apply(Event::StateLost);
    let probe = job.last();
    let effects = job.finish(&task, vec![nodes("a", "b")]);
    assert!(job.store(effects).is_empty(), "its answer may tell of lost tasks");
    let report = Job::report(&probe, "w1", Outcome::Probed);
    let effects = job.take(report);
    let effects = job.store(effects);
    assert_commits(&effects);
}

fn dead(task: &Published) -> Event {
    let (reason, message) = ("starts".to_owned(), "after 3 attempts".to_owned());
    Event::Dead(DeadReport { task: task.task, round: task.round, reason, message })
}

#[test]
fn a_task_that_was_given_up_ends_the_job() {
    let mut job = Job::split(vec![slice("a", "b")]);
    let task = job.last();
    job.apply(dead(&task));
    job.later(12);
    assert!(reason(&job.see(&["w1"])).contains("given up (starts)"));
}

#[test]
fn a_notice_about_a_task_that_another_worker_has_is_ignored() {
    let mut job = Job::split(vec![slice("a", "b")]);
    let task = job.last();
    job.apply(dead(&task));
    job.later(3);
    assert!(job.see_holding(&["w1"], BTreeSet::from([(task.task, task.round)])).is_empty());
    job.later(60);
    assert!(job.see(&["w1"]).is_empty(), "the notice was of another delivery");
    job.apply(dead(&task));
    job.later(3);
    assert!(!job.finish(&task, vec![nodes("a", "b")]).is_empty(), "its result was under way");
    job.later(60);
    assert!(job.see(&["w1"]).is_empty());
    let mut stale = task;
    stale.round += 1;
    job.apply(dead(&stale));
    assert!(!job.state.has_ended());
}

#[test]
fn no_more_tasks_are_published_than_workers_can_soon_do() {
    let names: Vec<String> = (0..40).map(|number| format!("{number:03}")).collect();
    let mut job = Job::split(names.iter().map(|text| slice(text, text)).collect());
    assert_eq!(job.published.len(), 1 + 8, "4 for each slot");
    let task = job.last();
    job.finish(&task, Vec::new());
    assert_eq!(job.published.len(), 1 + 9);
    job.see(&["w1", "w2"]);
    assert_eq!(job.published.len(), 1 + 1 + 16);
    let mut done = 1;
    while done < job.published.len() {
        let task = job.published[done].clone();
        job.finish(&task, Vec::new());
        done += 1;
    }
    assert_eq!(done, 1 + 40);
}
