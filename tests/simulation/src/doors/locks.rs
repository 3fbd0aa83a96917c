//! Who holds which lock, and who leads which job, as somebody sees it who stands at the storage's door.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::names::stored;
use repository::repository::FileKind;
use repository::storage::Operation;

use crate::actor::Actor;

/// What was seen of locks and of the records of jobs.
#[derive(Debug, Default)]
pub(super) struct Holders {
    locks: BTreeMap<String, Held>,
    /// Who created the highest epoch of a job.
    leaders: BTreeMap<String, Arc<Actor>>,
}

/// A lock file.
#[derive(Clone, Debug)]
pub struct Held {
    /// Who put it.
    pub holder: Arc<Actor>,
    /// Somebody removed it through the door.
    is_removed: bool,
    /// It was put, late, after that: nobody knows of it.
    pub came_back: bool,
}

impl Holders {
    /// `who` has done this.
    pub(super) fn see(&mut self, who: &Arc<Actor>, operation: Operation, name: &str) {
        match operation {
            Operation::Put if name.starts_with(FileKind::Lock.prefix()) => self.see_lock(who, name),
            Operation::Put => self.see_record(who, name),
            Operation::Delete => {
                if let Some(held) = self.locks.get_mut(name) {
                    held.is_removed = true;
                }
            }
            _ => {}
        }
    }

    fn see_lock(&mut self, who: &Arc<Actor>, name: &str) {
        let new = || Held { holder: who.clone(), is_removed: false, came_back: false };
        let held = self.locks.entry(name.to_owned()).or_insert_with(new);
        held.came_back |= held.is_removed;
    }

    /// Epochs are created in their order.
    fn see_record(&mut self, who: &Arc<Actor>, name: &str) {
        let of_job = name.strip_prefix(&stored("jobs/")).and_then(|name| name.split_once('/'));
        if let Some((job, record)) = of_job
            && record.starts_with("epoch-")
        {
            self.leaders.insert(job.to_owned(), who.clone());
        }
    }

    pub(super) fn held(&self, name: &str) -> Option<Held> {
        self.locks.get(name).cloned()
    }

    pub(super) fn leader(&self, job: &str) -> Option<Arc<Actor>> {
        self.leaders.get(job).cloned()
    }
}
