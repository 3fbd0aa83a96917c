//! What somebody sees who stands at every door: orders that must be kept, at the moment in which they are.
//!
//! What breaks an order need not harm anybody in the end: a result that is lost behind its acknowledgement is asked for
//! again, and a snapshot may be whole a second later. So the order is judged, not only what comes of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fleet::queue::{Address, Message};
use proto::auth::MessageKey;
use proto::envelope::Envelope;
use proto::handles::{Random, UnixTime};
use proto::id::{Id, JobId, Round};
use proto::names::{Record, job_record, stored};
use proto::report::Report;
use proto::task::Task;
use repository::repository::{FileKind, Repository};
use repository::storage::{Memory, Operation};

use super::locks::{Held, Holders};
use crate::actor::Actor;
use crate::dice::Dice;
use crate::oracle::Audit;
use crate::site::PASSWORD;

/// Stands at every door of one site.
#[derive(Debug)]
pub struct Witness {
    memory: Memory,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What opens the envelopes of this repository.
    key: Option<(MessageKey, Id)>,
    /// Results that a process was told are in the job state.
    reported: BTreeSet<(String, Id, Round)>,
    /// Processes with reports that are too long for an envelope: any task may be in them.
    said_much: BTreeSet<String>,
    /// Deliveries that a process published as a copy, by subject.
    handed_on: BTreeSet<(String, String)>,
    /// Jobs of which somebody was told that they are cancelled.
    cancelled: BTreeSet<JobId>,
    /// Acknowledgements that came too early.
    early: Option<String>,
    /// Snapshots that were there before what they name.
    hollow: Option<String>,
    /// Who holds and leads what.
    holders: Holders,
}

impl Witness {
    /// Sees everything that reaches `memory`.
    pub fn new(memory: Memory) -> Self {
        Self { memory, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it can read the messages of this repository.
    pub fn meet(&self, repository: &Repository) {
        let id = repository.id();
        self.seen().key = Some((MessageKey::derive(&*repository.master_key().material(), &id), id));
    }

    /// `who` was told that its report is in the job state.
    pub(super) fn sees_report(&self, who: &str, report: &Bytes, now: UnixTime) {
        let mut seen = self.seen();
        let Some((key, id)) = &seen.key else { return };
        let Ok(Envelope { body, .. }) = Envelope::<Report>::open(report, key, id, now) else { return };
        match body {
            Report::Result(result) => {
                seen.reported.insert((who.to_owned(), result.task, result.round));
            }
            Report::Long(_) => {
                seen.said_much.insert(who.to_owned());
            }
            Report::Pack(_) | Report::Dead(_) | Report::Unknown => {}
        }
    }

    /// `who` was told that its message is in a queue.
    pub(super) fn sees_publication(&self, who: &str, address: &Address, message: &Message) {
        if !matches!(address, Address::Tasks(_)) {
            self.seen().handed_on.insert((who.to_owned(), message.subject.clone()));
        }
    }

    /// Somebody was told that a job is cancelled.
    pub(super) fn sees_cancel(&self, job: &JobId) {
        self.seen().cancelled.insert(job.clone());
    }

    /// `who` is about to acknowledge a delivery: its result is reported, or nobody needs one.
    pub(super) fn sees_ack(&self, who: &str, message: &Message, now: UnixTime) {
        let mut seen = self.seen();
        let Some((key, id)) = &seen.key else { return };
        let Ok(Envelope { body: task, .. }) = Envelope::<Task>::open(&message.body, key, id, now) else { return };
        let who = who.to_owned();
        let has_ended = || self.memory.content().contains_key(&stored(&job_record(&task.job, Record::Result)));
        let is_right = seen.reported.contains(&(who.clone(), task.id, task.round))
            || seen.said_much.contains(&who)
            || seen.handed_on.contains(&(who.clone(), message.subject.clone()))
            || seen.cancelled.contains(&task.job)
            || has_ended();
        if !is_right {
            let early = format!("{who} acknowledges task {} before it reports a result", task.id.short());
            seen.early.get_or_insert(early);
        }
    }

    /// A snapshot came into being: everything that it names is there, and in an index.
    pub(super) async fn sees_snapshot(&self, name: &str) {
        let Some(id) = FileKind::Snapshot.id(name) else { return };
        let nonces: Arc<dyn Random> = Arc::new(Dice::new(0));
        let opened = Repository::open(Arc::new(self.memory.clone()), PASSWORD.as_bytes(), None, nonces).await;
        let looked = match opened {
            Ok(repository) => match Audit::begin(repository).await {
                Ok(mut audit) => audit.flatten(&id).await.map(|_| ()),
                Err(wrong) => Err(wrong),
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(wrong) = looked {
            self.seen().hollow.get_or_insert(format!("a snapshot was put before what it names: {wrong}"));
        }
    }

    /// `who` changed something in the storage.
    pub(super) fn sees_write(&self, who: &Arc<Actor>, operation: Operation, name: &str) {
        self.seen().holders.see(who, operation, name);
    }

    /// What was seen of a lock file.
    pub fn held(&self, name: &str) -> Option<Held> {
        self.seen().holders.held(name)
    }

    /// Who took the lead of a job last.
    pub fn leader(&self, job: &JobId) -> Option<Arc<Actor>> {
        self.seen().holders.leader(job.as_str())
    }

    /// What must not be; a hollow snapshot is excused where somebody prunes under a job's hands.
    ///
    /// # Errors
    /// The first thing that was seen.
    pub fn judge(&self, excuses_hollow: bool) -> Result<(), String> {
        let seen = self.seen();
        match (&seen.early, seen.hollow.as_ref().filter(|_| !excuses_hollow)) {
            (Some(wrong), _) | (None, Some(wrong)) => Err(wrong.clone()),
            (None, None) => Ok(()),
        }
    }
}
