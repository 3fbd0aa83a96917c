//! Publishing tasks, and finding lost ones by a probe (DESIGN 6).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::id::{Id, Round, WorkerId};
use proto::name::RawName;
use proto::task::{Task, Work};
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::state::{FactsStage, OpenTask, Place, State};
use super::views::Refusals;

/// No more than so many tasks are in the queue.
const IN_FLIGHT_MAX: usize = 1_000;
/// Without a report for so long, a probe looks for lost messages.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Published tasks are given out again this long after the probe's answer: one heartbeat, and some.
const HEARTBEATS_AFTER_PROBE: u32 = 2;

/// Looks for messages that were lost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Probe {
    /// Numbers publications and probes.
    published: u64,
    last_progress: Duration,
    asked: Option<Id>,
    /// Tasks published before this are lost, unless a heartbeat names them; and how many heartbeats to await.
    answered: Option<(u64, u32)>,
}

impl State {
    /// Adds a task; it is published when there is room.
    pub(super) fn open_task(&mut self, work: Work, round: Round, place: Place) -> Id {
        let id = Task::id_for(&self.settings.job, &work, round);
        let task = OpenTask { work, round, place, refusals: Refusals::default(), published: None };
        self.tasks.insert(id, task);
        self.backlog.push_back(id);
        id
    }

    /// The same task again, to another worker or after it was lost.
    pub(super) fn republish(&mut self, id: Id) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.published = None;
            if !self.backlog.contains(&id) {
                self.backlog.push_back(id);
            }
        }
    }

    /// The same scope in the next round: a result was rejected before it was accepted.
    pub(super) fn republish_round(&mut self, id: Id) {
        if let Some(task) = self.tasks.remove(&id) {
            self.backlog.retain(|other| *other != id);
            let new = self.open_task(task.work, task.round + 1, task.place);
            if let Some(task_again) = self.tasks.get_mut(&new) {
                task_again.refusals = task.refusals;
            }
        }
    }

    pub(super) fn publish_backlog(&mut self) {
        let room = (4 * self.workers.slots.max(1) as usize).min(IN_FLIGHT_MAX);
        let mut in_flight = self.tasks.values().filter(|task| task.published.is_some()).count();
        while in_flight < room {
            let Some(id) = self.backlog.front().copied() else { break };
            let Some(task) = self.tasks.get_mut(&id) else {
                self.backlog.pop_front();
                continue;
            };
            if self.facts == FactsStage::Pending {
                break;
            }
            self.backlog.pop_front();
            self.probe.published += 1;
            task.published = Some(self.probe.published);
            let refused_by = task.refusals.by();
            let effect = Effect::Publish { task: id, round: task.round, work: task.work.clone(), refused_by };
            self.perform(effect);
            in_flight += 1;
        }
        self.probe.last_progress = self.probe.last_progress.max(if in_flight == 0 { self.now } else { Duration::ZERO });
    }

    pub(super) fn note_published(&mut self, _task: Id) {
        self.answered();
        self.probe.last_progress = self.now;
    }

    pub(super) fn facts_ready(&mut self, devices: BTreeMap<RawName, u64>) {
        self.answered();
        for (path, number) in devices {
            self.devices.entry(path).or_insert(number);
        }
        self.facts = FactsStage::Ready;
    }

    pub(super) fn see_workers(&mut self, live: BTreeSet<WorkerId>, holds: &BTreeSet<(Id, Round)>, slots: u32) {
        self.workers.first_seen.get_or_insert(self.now);
        self.workers.live = live;
        self.workers.slots = slots;
        self.decide_refused();
        if let Some((before, heartbeats)) = self.probe.answered {
            if heartbeats > 0 {
                self.probe.answered = Some((before, heartbeats - 1));
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

    pub(super) fn probe_if_stalled(&mut self) {
        let waits = self.tasks.values().any(|task| task.published.is_some());
        if waits && self.now.saturating_sub(self.probe.last_progress) >= STALLED_AFTER {
            self.probe_now();
        }
    }

    /// Publishes a probe behind everything else. A lost probe is followed by another when progress stalls again.
    pub(super) fn probe_now(&mut self) {
        if let Some(asked) = self.probe.asked.take() {
            self.tasks.remove(&asked);
        }
        self.probe.last_progress = self.now;
        self.probe.published += 1;
        let number = self.probe.published;
        let work = Work::Probe(number);
        let id = Task::id_for(&self.settings.job, &work, 0);
        let place = Place::Probe;
        let task =
            OpenTask { work: work.clone(), round: 0, place, refusals: Refusals::default(), published: Some(number) };
        self.tasks.insert(id, task);
        self.probe.asked = Some(id);
        self.perform(Effect::Publish { task: id, round: 0, work, refused_by: Vec::new() });
    }

    pub(super) fn probe_answered(&mut self, id: Id) {
        if let Some(OpenTask { published: Some(number), .. }) = self.tasks.remove(&id)
            && self.probe.asked.take() == Some(id)
        {
            self.probe.answered = Some((number, HEARTBEATS_AFTER_PROBE));
        }
    }
}
