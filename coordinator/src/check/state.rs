//! Which tasks of a check are open, and when they are published again.
//!
//! A task reads and changes nothing: done twice it costs time, so a lost message needs no probe. What nobody holds after a
//! while without any result is published again, each time after a longer while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::id::{Id, Round};

/// No more than so many tasks are in the queue.
const IN_FLIGHT_MAX: usize = 1_000;
/// Without a result for so long, what nobody holds is published again.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// That while gets no longer than this.
const STALLED_AFTER_MAX: Duration = Duration::from_secs(30 * 60);

/// What one task reads: so many of the packs that are read, from the first on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Counts the job's tasks.
    pub(super) number: u64,
    /// Its first pack, among all that are read.
    pub(super) first: usize,
    /// How many.
    pub(super) count: usize,
}

/// The tasks of a check between start and end.
#[derive(Debug)]
pub(super) struct Tasks {
    waiting: Vec<(Id, Batch)>,
    published: BTreeMap<Id, Batch>,
    done: u64,
    slots: u32,
    last_progress: Duration,
    patience: Duration,
}

impl Tasks {
    /// All of them, in the order in which they are to be done.
    pub(super) fn new(tasks: Vec<(Id, Batch)>, now: Duration) -> Self {
        let waiting = tasks.into_iter().rev().collect();
        let published = BTreeMap::new();
        Self { waiting, published, done: 0, slots: 1, last_progress: now, patience: STALLED_AFTER }
    }

    /// Whether all are done.
    pub(super) fn are_done(&self) -> bool {
        self.waiting.is_empty() && self.published.is_empty()
    }

    /// Tasks that are done, and that are not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.done, (self.waiting.len() + self.published.len()) as u64)
    }

    /// Takes a result; whether it is the first one of an open task.
    pub(super) fn take_result(&mut self, task: &Id, now: Duration) -> bool {
        let is_first = self.published.remove(task).is_some();
        if is_first {
            self.done += 1;
            (self.last_progress, self.patience) = (now, STALLED_AFTER);
        }
        is_first
    }

    /// The tasks that are to be published next.
    pub(super) fn next(&mut self) -> Vec<(Id, Batch)> {
        let room = (4 * self.slots.max(1) as usize).min(IN_FLIGHT_MAX);
        let count = room.saturating_sub(self.published.len()).min(self.waiting.len());
        let next: Vec<(Id, Batch)> = self.waiting.drain(self.waiting.len() - count..).rev().collect();
        self.published.extend(next.iter().copied());
        next
    }

    /// Sees who works and what they hold; returns what is to be published again.
    pub(super) fn see_workers(&mut self, holds: &BTreeSet<(Id, Round)>, slots: u32, now: Duration) -> Vec<(Id, Batch)> {
        self.slots = slots;
        if self.published.is_empty() || now.saturating_sub(self.last_progress) < self.patience {
            return Vec::new();
        }
        self.last_progress = now;
        self.patience = (2 * self.patience).min(STALLED_AFTER_MAX);
        let is_lost = |(id, _): &(&Id, &Batch)| !holds.contains(&(**id, 0));
        self.published.iter().filter(is_lost).map(|(id, batch)| (*id, *batch)).collect()
    }

    /// The job state was lost: results may be, too.
    pub(super) fn doubt(&mut self) {
        (self.last_progress, self.patience) = (Duration::ZERO, STALLED_AFTER);
    }

    /// Whether the task is open.
    pub(super) fn is_open(&self, task: &Id) -> bool {
        self.published.contains_key(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(count: u64) -> Tasks {
        let task = |number: u64| (Id::of(&number.to_le_bytes()), Batch { number, first: 0, count: 1 });
        Tasks::new((0..count).map(task).collect(), Duration::ZERO)
    }

    fn numbers(tasks: &[(Id, Batch)]) -> Vec<u64> {
        tasks.iter().map(|(_, batch)| batch.number).collect()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn as_many_are_published_as_there_is_room_for() {
        let mut tasks = tasks(10);
        let first = tasks.next();
        assert_eq!(numbers(&first), [0, 1, 2, 3]);
        assert!(tasks.next().is_empty());
        assert!(tasks.take_result(&first[1].0, at(1)));
        assert!(!tasks.take_result(&first[1].0, at(1)), "a second report of a finished task");
        assert_eq!(numbers(&tasks.next()), [4]);
        tasks.see_workers(&BTreeSet::new(), 2, at(2));
        assert_eq!(numbers(&tasks.next()), [5, 6, 7, 8]);
        assert_eq!(tasks.counts(), (1, 9));
        assert!(!tasks.are_done());
    }

    #[test]
    fn what_nobody_holds_is_published_again_ever_more_rarely() {
        let mut tasks = tasks(3);
        let first = tasks.next();
        let held = BTreeSet::from([(first[0].0, 0)]);
        assert!(tasks.see_workers(&held, 1, at(59)).is_empty());
        let mut again = numbers(&tasks.see_workers(&held, 1, at(60)));
        again.sort_unstable();
        assert_eq!(again, [1, 2]);
        assert!(tasks.see_workers(&held, 1, at(120)).is_empty());
        assert_eq!(tasks.see_workers(&held, 1, at(180)).len(), 2);
        assert!(tasks.take_result(&first[1].0, at(181)));
        assert_eq!(tasks.see_workers(&held, 1, at(241)).len(), 1);
        tasks.doubt();
        assert_eq!(tasks.see_workers(&BTreeSet::new(), 1, at(242)).len(), 2);
    }
}
