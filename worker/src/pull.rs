//! One slot: delivery -> admitted task -> work -> report -> ack, in this order (FLEET 4).
//!
//! # Retries
//! A transient error gives back a fresh copy with a higher attempt to a delay tier, then acknowledges. What cannot be
//! helped is dead-lettered with a reason. A worker that is drained ends its tasks by a split, and hands a fresh copy back
//! of one that does not end in time. A crash does nothing: the delivery comes again. What cannot be published now is tried
//! again, and its delivery kept, as long as its connection lives.
//!
//! # Order
//! Packs durable, pack reports, known blobs, result report, ack. Each step may be repeated.

use std::sync::Arc;
use std::time::Duration;

use fleet::metrics::AttemptEnd;
use fleet::queue::{Address, Delay, Delivery, Message, QueueError, Receipt, Route};
use futures::FutureExt;
use futures::future::{join3, ready};
use proto::auth::MessageKey;
use proto::envelope::{Envelope, EnvelopeError, MESSAGE_BYTES_MAX};
use proto::id::{Id, JobId};
use proto::names::{Record, job_record, stored};
use proto::report::{Outcome, PROBLEMS_MAX, Payload, ResultReport};
use proto::task::{Task, Work};
use repository::format::pack::BlobType;
use tracing::Instrument;

use crate::dedupe::Ledger;
use crate::error::WorkerError;
use crate::job::JobContext;
use crate::meter::Meter;
use crate::metrics;
use crate::pipeline::archive;
use crate::range::store_range;
use crate::stop::Stop;
use crate::worker::{Doors, Shared};

/// Attempts before a task is dead-lettered.
const ATTEMPTS_MAX: u32 = 6;
/// A (task, round) that so many workers began and did not live to end is dead-lettered.
const LOST_STARTS_MAX: usize = 3;
/// So much is kept of a message that is too long.
const KEPT_OF_LONG_BYTES: usize = 4096;
/// How long a slot waits before it asks a queue again that failed.
const CONSUME_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a slot waits before it tries again to hand a task back; twice as long after each further failure.
const HAND_ON_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// And no longer than this.
const HAND_ON_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A worker that is to leave tries no more often.
const TRIES_TO_LEAVE_MAX: u32 = 1;

/// A worker that has not the data set lets others take the next tasks for so long: it would refuse them faster than
/// others do them.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// One of a worker's slots.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    key: MessageKey,
}

/// What becomes of a delivery.
enum Verdict {
    /// Its result was reported, or it is of no use.
    Ack(AttemptEnd<'static>),
    /// The same, but the data set is not here, or not all of it.
    AckAndPause,
    /// A fresh copy is published to this address first.
    Instead(Address, Message),
}

impl Verdict {
    fn end(&self) -> AttemptEnd<'_> {
        match self {
            Self::Ack(end) => *end,
            Self::AckAndPause => AttemptEnd::NotMyView,
            Self::Instead(address, message) => {
                let reason = message.last_error.as_deref().unwrap_or_default();
                match address {
                    Address::DeadTasks => AttemptEnd::Dead(reason),
                    Address::Later(..) => AttemptEnd::Later(reason),
                    _ => AttemptEnd::HandedBack,
                }
            }
        }
    }
}

impl Slot {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let repository = &shared.doors.repository;
        let key = MessageKey::derive(&*repository.master_key().material(), &repository.id());
        Self { shared, key }
    }

    /// Pulls and does tasks until the worker is drained.
    pub(crate) async fn run(self, route: &Route) -> Result<(), QueueError> {
        let (queue, clock, drain) = (&self.shared.doors.queue, &self.shared.doors.clock, &self.shared.drain);
        while !drain.has_begun() {
            let mut consumer = match queue.consume(&fleet::queue::Inbox::Tasks(route.clone())).await {
                Ok(consumer) => consumer,
                Err(error @ QueueError::Denied { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "no tasks can be had");
                    clock.sleep(CONSUME_AGAIN_AFTER).await;
                    continue;
                }
            };
            loop {
                let next = tokio::select! {
                    biased;
                    () = drain.begun() => return Ok(()),
                    next = consumer.next() => next,
                };
                match next {
                    Ok(Some(delivery)) => self.settle(route, delivery).await,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the stream of tasks broke");
                        clock.sleep(CONSUME_AGAIN_AFTER).await;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Does one delivery to its end. A failure to publish or acknowledge leaves it to come again.
    async fn settle(&self, route: &Route, delivery: Delivery) {
        metrics::count_delivery(route, &delivery, self.shared.doors.clock.now());
        let Delivery { message, receipt, .. } = delivery;
        let verdict = self.judge(route, &message).await;
        metrics::count_end(route, verdict.end());
        if let Verdict::Instead(address, copy) = &verdict
            && !self.hand_on(address, copy, &*receipt).await
        {
            return;
        }
        if matches!(verdict, Verdict::AckAndPause) {
            // Before the delivery is acknowledged: else the queue had given us the next one already.
            tokio::select! {
                biased;
                () = self.shared.drain.begun() => {}
                () = self.shared.doors.clock.sleep(REFUSED_PAUSE) => {}
            }
        }
        match receipt.ack().await {
            Ok(true) => {}
            Ok(false) => tracing::debug!("the delivery was not ours any more: it will come again"),
            Err(error) => tracing::debug!(%error, "nobody knows whether the delivery was acknowledged"),
        }
    }

    /// Publishes what stands in for a delivery, which is kept meanwhile: dropped it would come again at once, and ten times
    /// are enough for the broker to give it up. Whether that was done.
    async fn hand_on(&self, address: &Address, copy: &Message, receipt: &dyn Receipt) -> bool {
        let Doors { queue, clock, .. } = &self.shared.doors;
        let drain = &self.shared.drain;
        let (mut pause, mut tries_to_leave) = (HAND_ON_AGAIN_AFTER, 0);
        loop {
            let Err(error) = queue.publish(address, copy.clone()).await else { return true };
            let may_pass = matches!(error, QueueError::Unavailable { .. } | QueueError::Denied { .. });
            tries_to_leave += u32::from(drain.has_begun());
            if !may_pass || !receipt.is_held() || tries_to_leave > TRIES_TO_LEAVE_MAX {
                tracing::warn!(%error, "a task cannot be handed back; its delivery will come again");
                return false;
            }
            tracing::warn!(%error, ?pause, "a task cannot be handed back now");
            let had_begun = drain.has_begun();
            tokio::select! {
                biased;
                () = drain.begun(), if !had_begun => {}
                () = clock.sleep(pause) => {}
            }
            pause = if drain.has_begun() { HAND_ON_AGAIN_AFTER } else { (2 * pause).min(HAND_ON_PAUSE_MAX) };
        }
    }

    async fn judge(&self, route: &Route, message: &Message) -> Verdict {
        let doors = &self.shared.doors;
        let now = doors.clock.now();
        let opened = Envelope::<Task>::open(&message.body, &self.key, &doors.repository.id(), now);
        let task = match opened {
            Ok(envelope) => envelope.body,
            Err(error @ EnvelopeError::Schema { .. }) if message.attempt < ATTEMPTS_MAX => {
                // A newer worker may understand it.
                return self.later(route, message, &error.to_string(), error.reason());
            }
            Err(error) => return dead(message, error.reason()),
        };
        if let Some(refusal) = self.refusal(route, message, &task).await {
            return refusal;
        }
        let hold = self.shared.hold(task.id, task.round);
        let began = doors.clock.monotonic();
        let span = tracing::error_span!("task", job = %task.job, task = %task.id.short());
        let done = tokio::select! {
            biased;
            done = self.work(&task).instrument(span) => Some(done),
            () = self.shared.must_hand_back() => None,
        };
        metrics::count_work(route, doors.clock.monotonic().saturating_sub(began));
        drop(hold);
        if !matches!(done, Some(Ok(_))) {
            self.take_back_start(&task).await;
        }
        let Some(done) = done else {
            tracing::warn!(task = %task.id, "a task is handed back: it does not end within the time to leave");
            return Verdict::Instead(Address::Tasks(route.clone()), message.clone());
        };
        match done {
            Ok(verdict) => {
                Meter::add(&self.shared.meter.tasks_done, 1);
                verdict
            }
            Err(error) if error.is_transient() && message.attempt < ATTEMPTS_MAX => {
                self.later(route, message, &error.chain(), "transient")
            }
            Err(error) if error.is_transient() => dead(message, "attempts"),
            Err(error) => self.give_up(&task, message, &error).await,
        }
    }

    /// What becomes of a task that is not begun. If it is begun, its start stands in the job state.
    async fn refusal(&self, route: &Route, message: &Message, task: &Task) -> Option<Verdict> {
        // Asked in one go: nearly always every answer is needed.
        let cancelled = self.shared.doors.state.cancel_requested(&task.job);
        let (cancelled, ended, is_poison) = join3(cancelled, self.has_ended(&task.job), self.is_poison(task)).await;
        // A cancelled restore still takes away what it left in the target.
        let is_last = matches!(task.work, Work::Restore(proto::restore::RestoreWork::Close));
        let refusal = match ended {
            _ if !is_last && cancelled.unwrap_or(false) => Verdict::Ack(AttemptEnd::Cancelled),
            Ok(true) => Verdict::Ack(AttemptEnd::JobEnded),
            Err(error) => self.later(route, message, &error.chain(), "storage"),
            // Not before it is known that the job still runs: else it would come back for ever.
            Ok(false) if task.refused_by.contains(&self.shared.settings.worker) => {
                let copy = Message { last_error: Some("refused".to_owned()), ..message.clone() };
                Verdict::Instead(Address::Later(route.clone(), Delay::S5), copy)
            }
            Ok(false) if is_poison => return Some(dead(message, "starts")),
            Ok(false) => return None,
        };
        self.take_back_start(task).await;
        Some(refusal)
    }

    /// Whether that was done is not known: a start too many is noted for a while.
    async fn take_back_start(&self, task: &Task) {
        let (state, worker) = (&self.shared.doors.state, &self.shared.settings.worker);
        let _ = state.take_back_start(&task.job, &task.id, task.round, worker).await;
    }

    /// An error that trying again will not mend ends the job: its coordinator is told why.
    async fn give_up(&self, task: &Task, message: &Message, error: &WorkerError) -> Verdict {
        let reason = error.chain();
        tracing::debug!(task = %task.id, reason, "a task was given up");
        let result = self.result(task, Outcome::Failed { reason });
        match self.shared.jobs.reporter(&task.job, &self.key).send_result(result, ready(())).await {
            Ok(()) => Verdict::Ack(AttemptEnd::Failed),
            Err(_) => dead(message, "failed"),
        }
    }

    /// Whether the job's record says that it has ended.
    async fn has_ended(&self, job: &JobId) -> Result<bool, WorkerError> {
        let Doors { repository, clock, .. } = &self.shared.doors;
        let asked_at = clock.monotonic();
        if self.shared.running.ran(job, asked_at) {
            return Ok(false);
        }
        let name = stored(&job_record(job, Record::Result));
        match repository.storage().size(&name).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == repository::storage::StorageErrorKind::NotFound => {
                self.shared.running.saw(job, asked_at);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the task killed too many workers already.
    async fn is_poison(&self, task: &Task) -> bool {
        let (state, worker) = (&self.shared.doors.state, &self.shared.settings.worker);
        let Ok(starts) = state.note_start(&task.job, &task.id, task.round, worker).await else { return false };
        if starts.len() < LOST_STARTS_MAX {
            return false;
        }
        let Ok(live) = state.workers().await else { return false };
        starts.iter().filter(|start| !live.iter().any(|other| other.worker == **start)).count() >= LOST_STARTS_MAX
    }

    fn later(&self, route: &Route, message: &Message, error: &str, code: &str) -> Verdict {
        let attempt = message.attempt + 1;
        tracing::warn!(error, attempt, "a task is tried again later");
        let copy = Message { attempt, last_error: Some(code.to_owned()), ..message.clone() };
        Verdict::Instead(Address::Later(route.clone(), Delay::for_attempt(attempt)), copy)
    }

    /// Does the task and reports its result.
    async fn work(&self, task: &Task) -> Result<Verdict, WorkerError> {
        let reporter = self.shared.jobs.reporter(&task.job, &self.key);
        // Boxed: the future of a whole archive task is large.
        let (result, verdict) = match self.perform(task).boxed().await {
            Ok(result) => (result, Verdict::Ack(AttemptEnd::Done)),
            Err(WorkerError::NotMyView(refusal)) => {
                (self.result(task, Outcome::NotMyView(*refusal)), Verdict::Ack(AttemptEnd::NotMyView))
            }
            Err(WorkerError::NotMounted(refusal)) => {
                (self.result(task, Outcome::NotMyView(*refusal)), Verdict::AckAndPause)
            }
            Err(error) => return Err(error),
        };
        // A crash between the two counts as one in the work, or as none.
        reporter.send_result(result, self.take_back_start(task)).await?;
        Ok(verdict)
    }

    async fn perform(&self, task: &Task) -> Result<ResultReport, WorkerError> {
        match &task.work {
            Work::Probe(_) => Ok(self.result(task, Outcome::Probed)),
            Work::Restore(work) => {
                let (outcome, problems) = self.shared.restores.perform(&self.shared, task, work).await?;
                if let Outcome::Restored(restored) = &outcome {
                    Meter::add(&self.shared.meter.bytes_restored, restored.counts.bytes_written);
                }
                Ok(ResultReport { problems, ..self.result(task, outcome) })
            }
            Work::Check(work) => {
                let checked = self.shared.checks.perform(&self.shared, task, work).await?;
                Ok(self.result(task, Outcome::Checked(checked)))
            }
            Work::Unknown => Err(WorkerError::Malformed { what: "a kind of work of a newer release".to_owned() }),
            Work::Archive(work) => {
                let context = self.shared.jobs.context(&task.job, &task.facts).await?;
                let at_work = context.packer.begin();
                let deadline = Duration::from_secs(work.budget.soft_deadline_seconds);
                let stop = Stop::new(self.shared.drain.clone(), context.clock.clone(), deadline);
                let done = archive(&context, work, &stop).await?;
                let mut result = self.result(task, Outcome::Archived(done.archived));
                result.problems = done.problems;
                result.problems.truncate(PROBLEMS_MAX);
                self.complete(&context, at_work, done.ledger, result, work.borrow).await
            }
            Work::Range(work) => {
                let context = self.shared.jobs.context(&task.job, &task.facts).await?;
                let at_work = context.packer.begin();
                let done = store_range(&context, work).await?;
                let result = self.result(task, Outcome::Range(done.result));
                self.complete(&context, at_work, done.ledger, result, work.borrow).await
            }
        }
    }

    /// Waits until everything that the result refers to is durable, and writes that into the result.
    async fn complete(
        &self,
        context: &JobContext,
        at_work: crate::pack::AtWork,
        mut ledger: Ledger,
        mut result: ResultReport,
        borrow: bool,
    ) -> Result<ResultReport, WorkerError> {
        result.packs = context.packer.settle(&mut ledger, &context.own, at_work).await?;
        if !borrow {
            context.check_own_packs(&result.packs).await?;
        }
        let mut borrowed = Vec::with_capacity(ledger.borrowed.len() * 33);
        for (kind, id) in &ledger.borrowed {
            borrowed.push(u8::from(*kind == BlobType::Tree));
            borrowed.extend_from_slice(id.as_bytes());
        }
        result.borrowed = Payload::Inline(borrowed);
        result.counts = ledger.counts;
        Ok(result)
    }

    fn result(&self, task: &Task, outcome: Outcome) -> ResultReport {
        ResultReport {
            task: task.id,
            round: task.round,
            worker: self.shared.settings.worker.clone(),
            outcome,
            packs: Vec::<Id>::new(),
            borrowed: Payload::default(),
            counts: proto::report::Counts::default(),
            problems: Vec::new(),
            ended_at: self.shared.doors.clock.now(),
        }
    }
}

/// What is too long for a message is cut: its beginning tells people what it was.
fn dead(message: &Message, reason: &str) -> Verdict {
    let body = match message.body.len() > MESSAGE_BYTES_MAX {
        true => message.body.slice(..KEPT_OF_LONG_BYTES),
        false => message.body.clone(),
    };
    Verdict::Instead(Address::DeadTasks, Message { body, last_error: Some(reason.to_owned()), ..message.clone() })
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
