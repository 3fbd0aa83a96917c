//! The state of a restore job, and how events change it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proto::id::{Id, JobId, Round, WorkerId};
use proto::job::Budget;
use proto::name::RawName;
use proto::report::{Outcome, Problem, ResultReport};
use proto::restore::{
    LinkedFile, NamedNode, RestoreCounts, RestoreScope, RestoreWork, Restored, STAGE_SCOPES, TreePart,
};
use proto::task::{Task, Work};

use super::effect::Effect;
use super::event::Event;
use super::lists::Lists;
use crate::job::Progress;

/// More problems are counted, not kept.
const PROBLEMS_KEPT_MAX: usize = 10_000;
/// No more than so many tasks are in the queue.
const IN_FLIGHT_MAX: usize = 1_000;
/// Without a report for so long, a probe looks for lost messages.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Published tasks are given out again this long after the probe's answer: one heartbeat, and some.
const HEARTBEATS_AFTER_PROBE: u32 = 2;
/// Before the registry of workers is so old, nobody knows who lives.
const REGISTRY_COMPLETE_AFTER: Duration = Duration::from_secs(30);

/// What a restore is told at its start.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// The job.
    pub job: JobId,
    /// The tree to restore.
    pub tree: Id,
    /// How much one task may do.
    pub budget: Budget,
    /// One task does all.
    pub whole: bool,
    /// Nothing is written, so there is no marker.
    pub dry_run: bool,
    /// The registry of workers is complete, and no task is delivered twice.
    pub embedded: bool,
}

/// A restore between start and end.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) settings: JobSettings,
    pub(super) now: Duration,
    pub(super) stage: u32,
    pub(super) tasks: BTreeMap<Id, OpenTask>,
    backlog: VecDeque<Id>,
    pub(super) lists: Lists,
    pub(super) counts: RestoreCounts,
    problems: Vec<Problem>,
    progress: Progress,
    marker: MarkerStage,
    workers: Workers,
    probe: Probe,
    pub(super) ending: Option<Ending>,
    /// No heartbeat since the last result names a task of this job.
    pub(super) is_quiet: bool,
    /// Every task that ever was: one that has a result may still be held by another worker.
    known: BTreeSet<Id>,
    pub(super) has_ended: bool,
    pub(super) effects: Vec<Effect>,
}

/// A task without an accepted result.
#[derive(Clone, Debug)]
pub(super) struct OpenTask {
    pub(super) work: Work,
    stage: u32,
    refused_by: BTreeSet<WorkerId>,
    refusal: String,
    /// Numbers publications, so that a probe knows what came before it.
    published: Option<u64>,
}

/// Whether later tasks can name the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MarkerStage {
    /// The first task is not reported.
    Unknown,
    Pending,
    Adopted,
}

#[derive(Clone, Debug, Default)]
struct Workers {
    live: BTreeSet<WorkerId>,
    slots: u32,
    first_seen: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
struct Probe {
    published: u64,
    last_progress: Duration,
    asked: Option<Id>,
    /// Tasks published before this are lost, unless a heartbeat names them; and how many heartbeats to await.
    answered: Option<(u64, u32)>,
}

/// Why a job ends before all is done; what it left in the target is removed first.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    /// None: cancelled.
    pub(super) reason: Option<String>,
    pub(super) since: Duration,
}

impl State {
    /// A job that has not begun.
    pub fn new(settings: JobSettings) -> Self {
        Self {
            settings,
            now: Duration::ZERO,
            stage: 0, // before the first
            tasks: BTreeMap::new(),
            backlog: VecDeque::new(),
            lists: Lists::default(),
            counts: RestoreCounts::default(),
            problems: Vec::new(),
            progress: Progress::default(),
            marker: MarkerStage::Unknown,
            workers: Workers::default(),
            probe: Probe::default(),
            ending: None,
            is_quiet: false,
            known: BTreeSet::new(),
            has_ended: false,
            effects: Vec::new(),
        }
    }

    /// Takes one event at monotonic time `now`; returns what is to be done.
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        if self.has_ended {
            return Vec::new();
        }
        self.take(event);
        self.advance();
        self.publish_backlog();
        std::mem::take(&mut self.effects)
    }

    /// Whether the job has ended, one way or the other.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Figures of the accepted reports.
    pub fn counts(&self) -> &RestoreCounts {
        &self.counts
    }

    /// What could not be restored, or not entirely.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let counts = &self.counts;
        let files = counts.files_restored + counts.files_unchanged + counts.files_skipped;
        Progress {
            tasks_open: self.tasks.len() as u64,
            entries: files + counts.directories + counts.others,
            bytes_done: counts.bytes_written + counts.bytes_unchanged,
            bytes_read: counts.bytes_fetched,
            ..self.progress.clone()
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Started => self.start(),
            Event::Tick => self.tick(),
            Event::Workers { live, holds, slots } => self.see_workers(live, &holds, slots),
            Event::Result { report, directories, linked } => self.take_result(*report, directories, linked),
            Event::Dead(dead) => {
                if self.tasks.contains_key(&dead.task) {
                    self.end(Some(format!(
                        "task {} was given up ({}): {}",
                        dead.task.short(),
                        dead.reason,
                        dead.message
                    )));
                }
            }
            Event::Published => self.probe.last_progress = self.now,
            Event::MarkerAdopted => self.marker = MarkerStage::Adopted,
            Event::CancelRequested => self.end(None),
            Event::StateLost => self.probe_now(),
        }
    }

    fn start(&mut self) {
        self.stage = STAGE_SCOPES;
        let path = RawName::default();
        let tree = self.settings.tree;
        self.open_scope(TreePart { path, tree, after: None, until: None, selected: false, unmade: Vec::new() });
    }

    fn open_scope(&mut self, part: TreePart) {
        let (budget, whole) = (self.settings.budget.clone(), self.settings.whole);
        self.open_task(RestoreWork::Scope(Box::new(RestoreScope { part, budget, whole })), STAGE_SCOPES);
    }

    pub(super) fn open_task(&mut self, work: RestoreWork, stage: u32) {
        let work = Work::Restore(work);
        let id = Task::id_for(&self.settings.job, &work, 0);
        let task = OpenTask { work, stage, refused_by: BTreeSet::new(), refusal: String::new(), published: None };
        self.tasks.insert(id, task);
        self.known.insert(id);
        self.backlog.push_back(id);
        self.is_quiet = false;
    }

    fn take_result(&mut self, report: ResultReport, directories: Vec<NamedNode>, linked: Vec<LinkedFile>) {
        if !self.tasks.contains_key(&report.task) {
            return; // a second report of a finished task
        }
        self.probe.last_progress = self.now;
        match report.outcome {
            Outcome::Restored(restored) => {
                self.problems.extend(report.problems);
                self.problems.truncate(PROBLEMS_KEPT_MAX);
                self.accept(report.task, *restored, directories, linked);
            }
            Outcome::NotMyView(refusal) => self.refuse(report.task, report.worker, refusal.message),
            Outcome::Failed { reason } => {
                self.tasks.remove(&report.task);
                self.end(Some(reason));
            }
            Outcome::Probed => self.probe_answered(report.task),
            Outcome::Archived(_) | Outcome::Range(_) | Outcome::Checked(_) | Outcome::Unknown => {
                let reason = "a worker of another release reports what this coordinator cannot read";
                self.end(Some(reason.to_owned()));
            }
        }
    }

    fn accept(&mut self, id: Id, restored: Restored, directories: Vec<NamedNode>, linked: Vec<LinkedFile>) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.progress.tasks_done += 1;
        self.is_quiet = false;
        self.counts.add(&restored.counts);
        match &task.work {
            Work::Restore(RestoreWork::Range(range)) => {
                self.progress.byte_range_partitions += 1;
                if restored.counts.bytes_written > 0 {
                    self.lists.note_written(&range.path);
                }
            }
            Work::Restore(RestoreWork::Scope(_)) => self.progress.name_range_partitions += 1,
            _ => {}
        }
        if let Some(marker) = restored.marker.filter(|_| self.marker == MarkerStage::Unknown) {
            self.marker = MarkerStage::Pending;
            self.effects.push(Effect::AdoptMarker(marker));
        } else if self.settings.dry_run {
            self.marker = MarkerStage::Adopted;
        }
        if self.ending.is_some() {
            return;
        }
        self.lists.add_directories(directories);
        restored.large_files.into_iter().for_each(|file| self.lists.add_large(file));
        linked.into_iter().for_each(|file| self.lists.add_linked(file));
        // What is split off an only task is done by several.
        self.settings.whole &= restored.open.is_empty();
        restored.open.into_iter().for_each(|part| self.open_scope(part));
    }

    fn refuse(&mut self, id: Id, worker: WorkerId, message: String) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.refused_by.insert(worker);
        task.refusal = message;
        self.progress.refusals += 1;
        self.republish(id);
        self.decide_refused();
    }

    /// A task that every live worker refused cannot be done.
    fn decide_refused(&mut self) {
        let known_since = self.workers.first_seen.unwrap_or(self.now);
        let is_complete = self.settings.embedded || self.now.saturating_sub(known_since) >= REGISTRY_COMPLETE_AFTER;
        if !is_complete || self.workers.live.is_empty() || self.ending.is_some() {
            return;
        }
        let is_refused =
            |task: &&OpenTask| !task.refused_by.is_empty() && self.workers.live.is_subset(&task.refused_by);
        if let Some(task) = self.tasks.values().find(is_refused) {
            let reason = format!("no worker can restore there: {}", task.refusal);
            self.end(Some(reason));
        }
    }

    fn republish(&mut self, id: Id) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.published = None;
            if !self.backlog.contains(&id) {
                self.backlog.push_back(id);
            }
        }
    }

    fn publish_backlog(&mut self) {
        if self.marker == MarkerStage::Pending || self.has_ended {
            return;
        }
        let room = (4 * self.workers.slots.max(1) as usize).min(IN_FLIGHT_MAX);
        let mut in_flight = self.tasks.values().filter(|task| task.published.is_some()).count();
        while in_flight < room
            && let Some(id) = self.backlog.pop_front()
        {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            self.probe.published += 1;
            task.published = Some(self.probe.published);
            let refused_by = task.refused_by.iter().cloned().collect();
            let effect = Effect::Publish { task: id, round: 0, stage: task.stage, work: task.work.clone(), refused_by };
            self.effects.push(effect);
            in_flight += 1;
        }
    }

    fn see_workers(&mut self, live: BTreeSet<WorkerId>, holds: &BTreeSet<(Id, Round)>, slots: u32) {
        self.workers.first_seen.get_or_insert(self.now);
        (self.workers.live, self.workers.slots) = (live, slots);
        let is_held = holds.iter().any(|(id, _)| self.known.contains(id));
        self.is_quiet = !is_held || self.settings.embedded;
        self.decide_refused();
        let Some((before, heartbeats)) = self.probe.answered else { return };
        if heartbeats > 0 {
            self.probe.answered = Some((before, heartbeats - 1));
            return;
        }
        self.probe.answered = None;
        let is_lost = |(id, task): (&Id, &OpenTask)| {
            (task.published.is_some_and(|at| at < before) && !holds.contains(&(*id, 0))).then_some(*id)
        };
        let lost: Vec<Id> = self.tasks.iter().filter_map(is_lost).collect();
        lost.into_iter().for_each(|id| self.republish(id));
    }

    fn tick(&mut self) {
        self.decide_refused();
        let waits = self.tasks.values().any(|task| task.published.is_some());
        if waits && self.now.saturating_sub(self.probe.last_progress) >= STALLED_AFTER {
            self.probe_now();
        }
    }

    /// Publishes a probe behind everything else. A lost probe is followed by another when progress stalls again.
    fn probe_now(&mut self) {
        if let Some(asked) = self.probe.asked.take() {
            self.tasks.remove(&asked);
        }
        self.probe.last_progress = self.now;
        self.probe.published += 1;
        let number = self.probe.published;
        let work = Work::Probe(number);
        let id = Task::id_for(&self.settings.job, &work, 0);
        let task = OpenTask {
            work: work.clone(),
            stage: self.stage,
            refused_by: BTreeSet::new(),
            refusal: String::new(),
            published: Some(number),
        };
        self.tasks.insert(id, task);
        self.probe.asked = Some(id);
        self.effects.push(Effect::Publish { task: id, round: 0, stage: self.stage, work, refused_by: Vec::new() });
    }

    fn probe_answered(&mut self, id: Id) {
        if let Some(OpenTask { published: Some(number), .. }) = self.tasks.remove(&id)
            && self.probe.asked.take() == Some(id)
        {
            self.probe.answered = Some((number, HEARTBEATS_AFTER_PROBE));
        }
    }

    /// Whether a task other than a probe is open.
    pub(super) fn is_busy(&self) -> bool {
        self.tasks.values().any(|task| !matches!(task.work, Work::Probe(_)))
    }

    /// Forgets all tasks.
    pub(super) fn drop_tasks(&mut self) {
        self.tasks.clear();
        self.backlog.clear();
    }
}
