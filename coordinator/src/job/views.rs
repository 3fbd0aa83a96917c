//! The same view for every worker (DESIGN 3.3): who refused a task, and when that is believed.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::id::{Id, WorkerId};
use proto::job::TargetNode;
use proto::name::RawName;
use proto::report::{NotMyView, Problem, ProblemKind};
use proto::task::{View, Work};
use serde::{Deserialize, Serialize};

use super::state::{OpenTask, Place, State};

/// Before the registry of workers is so old, nobody knows who lives.
const REGISTRY_COMPLETE_AFTER: Duration = Duration::from_secs(30);

/// A target that nobody can have: makes the first worker say what it sees.
const NOBODY_SAW: View = View { inode: 0, file_type: 0 };

/// Who refused a task, and what they saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Refusals {
    refused: Vec<(WorkerId, NotMyView)>,
    /// Workers that shall not do it though they did not refuse it.
    avoided: Vec<WorkerId>,
}

impl Refusals {
    pub(super) fn by(&self) -> Vec<WorkerId> {
        self.refused.iter().map(|(worker, _)| worker.clone()).chain(self.avoided.iter().cloned()).collect()
    }

    pub(super) fn avoid(&mut self, worker: WorkerId) {
        self.avoided.push(worker);
    }
}

/// Whether the root task expects just that already.
fn is_expected(work: &Work, seen: &[(RawName, Option<View>)]) -> bool {
    let Work::Archive(archive) = work else { return false };
    let seen = seen.iter().filter_map(|(place, view)| view.map(|view| (place.clone(), view)));
    seen.eq(archive.expected_targets.iter().cloned())
}

/// Whether a worker saw no target at all. What moved while it was read says nothing.
fn sees_nothing(seen: &[(RawName, Option<View>)]) -> bool {
    !seen.is_empty() && seen.iter().all(|(_, view)| view.is_none())
}

impl State {
    /// What the root task expects of the targets: the parent's inodes, else that two workers agree.
    pub(super) fn first_expectation(&self) -> Vec<(RawName, View)> {
        if !self.settings.expected_targets.is_empty() || self.is_one_view() {
            return self.settings.expected_targets.clone();
        }
        let mut targets = Vec::new();
        TargetNode::targets(&self.settings.targets, &mut targets);
        targets.into_iter().map(|(_, source)| (source.clone(), NOBODY_SAW)).collect()
    }

    /// Whether there is nobody whose eyes may see something else.
    pub(super) fn is_one_view(&self) -> bool {
        self.settings.one_view || self.workers.live.len() < 2
    }

    /// Whether somebody may see something else than those who refused.
    fn is_other_than(&self, by: &[WorkerId]) -> bool {
        let all_refused = self.settings.one_view && !by.is_empty();
        !all_refused && self.workers.live.iter().any(|worker| !by.contains(worker))
    }

    pub(super) fn refuse(&mut self, id: Id, worker: WorkerId, refusal: NotMyView) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.refusals.refused.iter().any(|(other, _)| *other == worker) {
            return;
        }
        // The same publication may be delivered twice: then this is said of what was expected before.
        let sees_any = refusal.targets_seen.iter().any(|(_, view)| view.is_some());
        if sees_any
            && task.place == Place::Root
            && refusal.target_root
            && is_expected(&task.work, &refusal.targets_seen)
        {
            return;
        }
        task.refusals.refused.push((worker, refusal));
        self.progress.refusals += 1;
        self.withdraw(id);
        self.decide_task(id);
    }

    /// Looks at refused tasks again: workers may have come or gone.
    pub(super) fn decide_refused(&mut self) {
        let live = &self.workers.live;
        // One that is in the queue for a worker that has gone since is of no use there.
        let is_stuck = |task: &OpenTask| {
            let by = task.refusals.by();
            task.published.is_none() || live.iter().all(|worker| by.contains(worker))
        };
        let refused = self.tasks.iter().filter(|(_, task)| !task.refusals.refused.is_empty() && is_stuck(task));
        let refused: Vec<Id> = refused.map(|(id, _)| *id).collect();
        for id in refused {
            self.decide_task(id);
        }
        self.forgive_avoided();
    }

    fn decide_task(&mut self, id: Id) {
        let Some(task) = self.tasks.get(&id) else { return };
        let is_root = task.place == Place::Root;
        if task.refusals.refused.iter().any(|(_, refusal)| refusal.outside) {
            return self.decide_outside(id);
        }
        if is_root && task.refusals.refused.iter().any(|(_, refusal)| refusal.target_root) {
            return self.decide_root(id);
        }
        let by = task.refusals.by();
        if self.is_other_than(&by) || task.refusals.refused.is_empty() {
            return self.republish(id);
        }
        if !self.registry_is_complete() {
            return; // decided when the next heartbeats are in
        }
        if self.forgive(id) {
            return self.republish(id);
        }
        let Some((_, refusal)) = self.tasks.get(&id).and_then(|task| task.refusals.refused.last()).cloned() else {
            return;
        };
        if is_root {
            return self.believe_root_without(id, refusal);
        }
        if refusal.target_root {
            return self.fail(format!(
                "no worker sees the data set as the first one did: {} ({}). Mount it on every worker and run again",
                refusal.path, refusal.message
            ));
        }
        self.believe_what_is_there(id, &refusal);
    }

    /// Some workers may not read there, which says nothing of what is there: those who may are asked until all have
    /// refused.
    fn decide_outside(&mut self, id: Id) {
        let Some(task) = self.tasks.get(&id) else { return };
        if self.is_other_than(&task.refusals.by()) {
            return self.republish(id);
        }
        if !self.registry_is_complete() {
            return; // decided when the next heartbeats are in
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let refused = std::mem::take(&mut task.refusals.refused);
        let (outside, seen): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(_, refusal)| refusal.outside);
        let is_outside = |worker: &WorkerId| outside.iter().any(|(other, _)| other == worker);
        if (self.settings.one_view || self.workers.live.iter().all(is_outside))
            && let Some((_, refusal)) = outside.first()
        {
            return self.fail(format!("no worker may read {}: {}", refusal.path, refusal.message));
        }
        // Those who may read there see something else than was expected: they alone decide.
        task.refusals.refused = seen;
        outside.into_iter().for_each(|(worker, _)| task.refusals.avoid(worker));
        self.decide_task(id);
    }

    /// Every worker sees something else in the scope than the splitter: what is there now is believed.
    fn believe_what_is_there(&mut self, id: Id, refusal: &NotMyView) {
        if let Some(OpenTask { place: Place::Range(file, _), .. }) = self.tasks.get(&id) {
            let file = *file;
            return self.read_whole(file);
        }
        self.believe_unmounted(refusal);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.refusals = Refusals::default();
        if let Work::Archive(archive) = &mut task.work {
            archive.view = None;
        }
        self.republish(id);
    }

    /// A file system that nobody has mounted any more: nobody is asked for it again.
    fn believe_unmounted(&mut self, refusal: &NotMyView) {
        let path = &refusal.path;
        let was_mounted = self.devices.remove(path).is_some() || refusal.mount;
        self.mounted.remove(path);
        if !self.unmounted.insert(path.clone()) {
            return; // several tasks may be refused for one file system: it is missing once
        }
        if was_mounted {
            let message =
                "what was mounted here is mounted on no worker any more: what is there now is backed up".to_owned();
            self.counts.unreadable += 1;
            self.note_problems(vec![Problem { kind: ProblemKind::Unreadable, path: path.clone(), message }]);
        }
        self.change_facts();
    }

    /// The targets look different from the parent's, or nobody has seen them yet: two that agree are believed,
    /// or one if there is no other.
    fn decide_root(&mut self, id: Id) {
        let Some(task) = self.tasks.get(&id) else { return };
        let refused: Vec<(WorkerId, NotMyView)> =
            task.refusals.refused.iter().filter(|(_, refusal)| refusal.target_root).cloned().collect();
        let agreed = refused.iter().enumerate().find_map(|(at, (_, refusal))| {
            let again = refused[..at].iter().any(|(_, other)| other.targets_seen == refusal.targets_seen);
            (again && !refusal.targets_seen.is_empty()).then(|| refusal.targets_seen.clone())
        });
        // What moved while it was read is not believed: the data set may have been unmounted.
        let moved = refused.iter().find(|(_, refusal)| refusal.targets_seen.is_empty());
        let others = self.is_other_than(&task.refusals.by());
        let nothing = refused.iter().all(|(_, refusal)| sees_nothing(&refusal.targets_seen));
        let believed = match agreed {
            Some(seen) if !sees_nothing(&seen) => seen,
            _ if others => return self.republish(id),
            _ if !self.registry_is_complete() => return,
            _ if nothing => {
                return self.fail("none of the paths to back up is there on any worker".to_owned());
            }
            None if moved.is_some() => {
                let message = moved.map(|(_, refusal)| refusal.message.clone()).unwrap_or_default();
                return self.fail(format!("no worker sees the data set to its end: {message}. Mount it and run again"));
            }
            _ => match self.joined_view(&refused) {
                Some(seen) if !is_expected(&task.work, &seen) => seen,
                _ => {
                    let seen: Vec<String> =
                        refused.iter().map(|(worker, refusal)| format!("{worker}: {}", refusal.message)).collect();
                    return self.fail(format!("the workers see different data: {}", seen.join("; ")));
                }
            },
        };
        self.believe_targets(id, believed);
    }

    /// Nobody has the file system mounted that the parent snapshot has below a target.
    fn believe_root_without(&mut self, id: Id, refusal: NotMyView) {
        self.believe_unmounted(&refusal);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.refusals = Refusals::default();
            if let (Work::Archive(archive), Some(seen)) = (&mut task.work, refusal.seen) {
                archive.expected_targets.push((refusal.path, seen));
            }
        }
        self.republish(id);
    }

    /// The targets, if all see the same ones, with every file system that anybody has mounted below.
    fn joined_view(&self, refused: &[(WorkerId, NotMyView)]) -> Option<Vec<(RawName, Option<View>)>> {
        let mut targets = Vec::new();
        TargetNode::targets(&self.settings.targets, &mut targets);
        let is_target = |place: &RawName| targets.iter().any(|(_, source)| *source == place);
        let mut joined: BTreeMap<RawName, Option<View>> = BTreeMap::new();
        for (place, view) in refused.iter().flat_map(|(_, refusal)| &refusal.targets_seen) {
            match joined.get(place) {
                Some(other) if other == view => {}
                Some(Some(_)) if view.is_none() && !is_target(place) => {}
                Some(_) => return None,
                None => drop(joined.insert(place.clone(), *view)),
            }
        }
        Some(joined.into_iter().collect())
    }

    fn believe_targets(&mut self, id: Id, seen: Vec<(RawName, Option<View>)>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.refusals = Refusals::default();
            if let Work::Archive(archive) = &mut task.work {
                archive.expected_targets =
                    seen.into_iter().filter_map(|(target, view)| view.map(|view| (target, view))).collect();
            }
        }
        self.republish(id);
    }

    /// Lets those do a task who shall leave it to others and did not refuse it: of them one may see what all others do
    /// not. Whether there are any.
    fn forgive(&mut self, id: Id) -> bool {
        let Some(task) = self.tasks.get_mut(&id) else { return false };
        let avoided = std::mem::take(&mut task.refusals.avoided);
        let refused = &task.refusals.refused;
        let may = |worker: &WorkerId| !refused.iter().any(|(other, _)| other == worker);
        avoided.iter().any(|worker| self.workers.live.contains(worker) && may(worker))
    }

    /// Tasks that only one worker could not do go back to it when no other lives.
    fn forgive_avoided(&mut self) {
        let live = &self.workers.live;
        let alone = |task: &OpenTask| {
            let by = &task.refusals.avoided;
            !live.is_empty() && !by.is_empty() && live.iter().all(|worker| by.contains(worker))
        };
        let forgiven: Vec<Id> = self.tasks.iter().filter(|(_, task)| alone(task)).map(|(id, _)| *id).collect();
        for id in forgiven {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.refusals.avoided.clear();
            }
            self.republish(id); // what is in the queue still names those who shall not do it
        }
    }

    /// Whether who is not in the registry does not live. Nobody lives in an empty one that was just lost.
    fn registry_is_complete(&self) -> bool {
        !self.workers.live.is_empty() && self.settings.registry_complete
            || self.workers.first_seen.is_some_and(|at| self.now.saturating_sub(at) >= REGISTRY_COMPLETE_AFTER)
    }
}
