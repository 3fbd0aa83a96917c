//! Publishing tasks, and finding lost ones by a probe (DESIGN 6).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::id::{Id, Round, WorkerId};
use proto::name::RawName;
use proto::task::{Task, Work};
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::state::{FactsStage, OpenTask, Phase, Place, State};
use super::views::Refusals;

/// No more than so many tasks are in the queue.
const IN_FLIGHT_MAX: usize = 1_000;
/// Without a report for so long, a probe looks for lost messages.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Published tasks are given out again this long after the probe's answer: two heartbeats of 5 s, and some.
const HEARD_OF_AFTER: Duration = Duration::from_secs(12);
/// A scope whose result was rejected so often is not tried again.
const ROUNDS_MAX: Round = 16;

/// Looks for messages that were lost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Probe {
    /// Numbers publications and probes.
    published: u64,
    last_progress: Duration,
    asked: Option<Id>,
    /// Tasks published before this are lost, unless a heartbeat names them; and since when that is known.
    answered: Option<(u64, Duration)>,
}

impl State {
    /// Adds a task; it is published when there is room. No two open tasks have one id.
    pub(super) fn open_task(&mut self, work: Work, mut round: Round, place: Place) -> Id {
        let mut id = Task::id_for(&self.settings.job, &work, round);
        while self.tasks.contains_key(&id) {
            round += 1;
            id = Task::id_for(&self.settings.job, &work, round);
        }
        let refusals = Refusals::default();
        self.tasks.insert(id, OpenTask { work, round, place, refusals, published: None, queued: true, dead: None });
        self.backlog.push_back(id);
        id
    }

    /// The task has its result, or is of no use any more.
    pub(super) fn remove_task(&mut self, id: Id) -> Option<OpenTask> {
        let task = self.tasks.remove(&id)?;
        self.in_flight -= usize::from(task.published.is_some());
        Some(task)
    }

    /// The task is in no queue any more.
    pub(super) fn withdraw(&mut self, id: Id) {
        if let Some(task) = self.tasks.get_mut(&id) {
            self.in_flight -= usize::from(task.published.take().is_some());
        }
    }

    /// The same task again, to another worker or after it was lost.
    pub(super) fn republish(&mut self, id: Id) {
        self.withdraw(id);
        if let Some(task) = self.tasks.get_mut(&id)
            && !task.queued
        {
            task.queued = true;
            self.backlog.push_back(id);
        }
    }

    /// The same scope in the next round: a result was rejected before it was accepted.
    pub(super) fn republish_round(&mut self, id: Id) {
        if let Some(mut task) = self.remove_task(id) {
            let Some(round) = self.next_round(task.round) else { return };
            match &mut task.work {
                Work::Archive(archive) => archive.borrow = false,
                Work::Range(range) => range.borrow = false,
                Work::Restore(_) | Work::Check(_) | Work::Probe(_) | Work::Unknown => {}
            }
            let new = self.open_task(task.work, round, task.place);
            if let Some(task_again) = self.tasks.get_mut(&new) {
                task_again.refusals = task.refusals;
            }
        }
    }

    /// The round after a rejection; the job fails when there were too many.
    pub(super) fn next_round(&mut self, round: Round) -> Option<Round> {
        if round >= ROUNDS_MAX {
            self.fail("packs that workers report are not in storage, again and again: who removes them?".into());
            return None;
        }
        Some(round + 1)
    }

    pub(super) fn publish_backlog(&mut self) {
        let room = (4 * self.workers.slots.max(1) as usize).min(IN_FLIGHT_MAX);
        while self.in_flight < room && matches!(self.facts, FactsStage::Root | FactsStage::Ready) {
            let Some(id) = self.backlog.pop_front() else { break };
            let Some(task) = self.tasks.get_mut(&id).filter(|task| task.queued) else { continue };
            self.probe.published += 1;
            (task.published, task.queued) = (Some(self.probe.published), false);
            let refused_by = task.refusals.by();
            let effect = Effect::Publish { task: id, round: task.round, work: task.work.clone(), refused_by };
            self.in_flight += 1;
            self.perform(effect);
        }
        if self.in_flight == 0 {
            self.note_progress();
        }
    }

    pub(super) fn note_progress(&mut self) {
        self.probe.last_progress = self.now;
    }

    pub(super) fn note_published(&mut self, _task: Id) {
        self.answered();
        self.note_progress();
    }

    pub(super) fn facts_ready(&mut self, devices: BTreeMap<RawName, u64>) {
        self.answered();
        if self.facts == FactsStage::Adopting {
            for (path, number) in devices {
                self.devices.entry(path).or_insert(number);
            }
        }
        self.facts = FactsStage::Ready;
        if std::mem::take(&mut self.facts_changed) {
            self.change_facts();
        }
    }

    /// Puts the changed facts in force: one change after the other, so that none is overwritten by an older one.
    pub(super) fn change_facts(&mut self) {
        if self.facts != FactsStage::Ready {
            self.facts_changed = true;
            return;
        }
        self.facts = FactsStage::Pending;
        self.perform(Effect::SetDevices {
            devices: self.devices.clone(),
            mounted: self.mounted.clone(),
            unmounted: self.unmounted.clone(),
        });
    }

    /// The registry of workers was lost with the rest: who lives is known when all had time to say so.
    pub(super) fn state_lost(&mut self) {
        self.workers.first_seen = None;
        self.probe_now();
    }

    pub(super) fn see_workers(&mut self, live: BTreeSet<WorkerId>, holds: &BTreeSet<(Id, Round)>, slots: u32) {
        self.workers.first_seen = (!live.is_empty()).then(|| self.workers.first_seen.unwrap_or(self.now));
        self.workers.live = live;
        self.workers.slots = slots;
        self.decide_refused();
        self.bury_dead(holds);
        if let Some((before, since)) = self.probe.answered {
            if self.now.saturating_sub(since) < HEARD_OF_AFTER {
                return;
            }
            self.probe.answered = None;
            let lost = |(id, task): (&Id, &OpenTask)| {
                let is_lost = task.published.is_some_and(|at| at < before) && !holds.contains(&(*id, task.round));
                is_lost.then_some(*id)
            };
            let lost: Vec<Id> = self.tasks.iter().filter_map(lost).collect();
            for id in lost {
                self.republish(id);
            }
        }
    }

    /// What was given up ends the job, unless another worker has it.
    fn bury_dead(&mut self, holds: &BTreeSet<(Id, Round)>) {
        let now = self.now;
        let mut given_up = None;
        for (id, task) in &mut self.tasks {
            match &task.dead {
                Some(_) if holds.contains(&(*id, task.round)) => task.dead = None,
                Some((since, reason)) if now.saturating_sub(*since) >= HEARD_OF_AFTER => {
                    given_up = Some(reason.clone());
                }
                _ => {}
            }
        }
        if let Some(reason) = given_up {
            self.fail(reason);
        }
    }

    pub(super) fn probe_if_stalled(&mut self) {
        if self.phase == Phase::Archiving
            && self.in_flight > 0
            && self.now.saturating_sub(self.probe.last_progress) >= STALLED_AFTER
        {
            self.probe_now();
        }
    }

    /// Publishes a probe behind everything else. A lost probe is followed by another when progress stalls again.
    pub(super) fn probe_now(&mut self) {
        if let Some(asked) = self.probe.asked.take() {
            self.remove_task(asked);
        }
        self.note_progress();
        self.probe.published += 1;
        let number = self.probe.published;
        let work = Work::Probe(number);
        let id = Task::id_for(&self.settings.job, &work, 0);
        let place = Place::Probe;
        let (refusals, published) = (Refusals::default(), Some(number));
        let task = OpenTask { work: work.clone(), round: 0, place, refusals, published, queued: false, dead: None };
        self.tasks.insert(id, task);
        self.in_flight += 1;
        self.probe.asked = Some(id);
        self.perform(Effect::Publish { task: id, round: 0, work, refused_by: Vec::new() });
    }

    pub(super) fn probe_answered(&mut self, id: Id) {
        if let Some(OpenTask { published: Some(number), .. }) = self.remove_task(id)
            && self.probe.asked.take() == Some(id)
        {
            self.probe.answered = Some((number, self.now));
        }
    }
}
