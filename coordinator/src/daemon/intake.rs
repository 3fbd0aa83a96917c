//! Takes submissions from the queue: refused, attached to what is there, or begun.

use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;

use fleet::metrics::{JobKind, count_refused_submission};
use fleet::queue::{Address, Consumer, Delivery, Inbox, Message, Receipt};
use proto::envelope::MESSAGE_BYTES_MAX;
use proto::follow::JobDocument;
use proto::job::{JobOutcome, Submission};
use proto::names::Record;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::accept::{Refusal, judge, named_in};
use super::document::{of_result, refused, refused_unread};
use super::work::Assignment;
use super::{ASK_AGAIN_AFTER, Desk, HANDED_OVER};
use crate::abandoned::Abandoned;
use crate::error::JobError;
use crate::found_record::FoundRecord;
use crate::heartbeat::{HEARTBEAT_EVERY, of_pool};
use crate::record::{ResultRecord, note_submitted};

/// So much is kept of a submission that is too long.
const KEPT_OF_LONG_BYTES: usize = 4096;

/// Workers have said again that they live by then: two heartbeats.
const SAID_AGAIN_WITHIN: Duration = HEARTBEAT_EVERY.saturating_mul(2);
/// How long a pool that nobody knew is refused at once.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What becomes of a submission.
enum Verdict {
    /// It is begun here.
    Begin(Box<Assignment>),
    /// The job is there already, whoever leads it.
    Attached,
    /// Nobody will carry it out.
    Refused(Refusal),
}

impl Desk {
    /// Takes one submission after the other, as long as there is room.
    pub(super) async fn take_submissions(&self, begin: &mpsc::Sender<Assignment>) -> Infallible {
        loop {
            match self.doors.queue.consume(&Inbox::Jobs).await {
                Ok(mut submissions) => self.take_some(&mut *submissions, begin).await,
                Err(error) => tracing::warn!(%error, "no submissions can be had"),
            }
            self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// Takes submissions until their stream ends.
    async fn take_some(&self, submissions: &mut dyn Consumer, begin: &mpsc::Sender<Assignment>) {
        // Without room none is taken: another coordinator may have some. The semaphore is never closed.
        while let Ok(room) = self.room.clone().acquire_owned().await {
            match submissions.next().await {
                Ok(Some(delivery)) => self.take_submission(delivery, room, begin).await,
                Ok(None) => return,
                Err(error) => return tracing::warn!(%error, "the stream of submissions broke"),
            }
        }
    }

    async fn take_submission(&self, delivery: Delivery, room: OwnedSemaphorePermit, begin: &mpsc::Sender<Assignment>) {
        let Delivery { message, receipt, .. } = delivery;
        let verdict = loop {
            match self.receive(&message).await {
                Ok(verdict) => break verdict,
                // The record of its job cannot be understood: that is for people.
                Err(error) if error.is_final() => break Verdict::Refused(Refusal::unread("record", error.chain())),
                Err(error) => {
                    // Kept until it is decided: given back again and again it would be dead-lettered.
                    tracing::warn!(error = error.chain(), "a submission waits for the services");
                    self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
                }
            }
        };
        match verdict {
            Verdict::Begin(assignment) => {
                // The receiver lives as long as this.
                let _ = begin.send(Assignment { room: Some(room), ..*assignment }).await;
            }
            Verdict::Attached => {}
            Verdict::Refused(refusal) => {
                self.tell_submitter(&message, &refusal).await;
                // Kept until it is buried: given back it would come again at once.
                while !self.bury(&message, &refusal).await {
                    if !receipt.is_held() {
                        return; // it comes again
                    }
                }
            }
        }
        acknowledge(receipt).await;
    }

    /// Tells whoever follows a submission that it was refused, if it can be read so far.
    async fn tell_submitter(&self, message: &Message, refusal: &Refusal) {
        let Refusal { reason, why, submission } = refusal;
        tracing::warn!(reason, why, subject = message.subject, "a submission was refused");
        let now = self.doors.clock.now();
        let document = match submission {
            Some(submission) => Some(refused(submission, why.clone(), now)),
            None => named_in(&message.body).map(|job| refused_unread(job, why.clone(), now)),
        };
        if let Some(document) = document {
            self.put_first_document(&document).await;
        }
    }

    /// Dead-letters a submission.
    async fn bury(&self, message: &Message, refusal: &Refusal) -> bool {
        // What is too long for a message is cut: its beginning tells people what it was.
        let body = match message.body.len() > MESSAGE_BYTES_MAX {
            true => message.body.slice(..KEPT_OF_LONG_BYTES),
            false => message.body.clone(),
        };
        let copy = Message { body, last_error: Some(refusal.reason.to_owned()), ..message.clone() };
        match self.doors.queue.publish(&Address::DeadJobs, copy).await {
            Ok(()) => {
                count_refused_submission(refusal.reason);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a submission cannot be dead-lettered");
                self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
                false
            }
        }
    }

    /// Decides. When a new job is to be begun, its `submitted` is durable.
    ///
    /// # Errors
    /// A service that must be asked does not answer.
    async fn receive(&self, message: &Message) -> Result<Verdict, JobError> {
        let repository = &self.doors.repository;
        let asked_for = serde_json::from_slice::<Submission>(&message.body).ok().map(|submission| submission.job);
        let submission = match judge(&message.body, &repository.id()) {
            Ok(submission) => submission,
            Err(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let record = FoundRecord::read(repository, &submission.job).await?;
        if let Some(other) = asked_for.filter(|job| *job != submission.job) {
            // Who follows the id that it chose is led to the job of its key.
            let document =
                JobDocument::queued(&Submission { job: other, ..submission.clone() }, self.doors.clock.now());
            let by = ResultRecord::bare(JobOutcome::Superseded { by: submission.job.clone() });
            self.put_first_document(&of_result(document, by)).await;
        }
        if let Some(result) = record.result().await? {
            let document = JobDocument::queued(&submission, self.doors.clock.now());
            self.put_document(&of_result(document, result)).await;
            self.note_job(&submission.job).await;
            return Ok(Verdict::Attached);
        }
        if self.leadership.leads(&submission.job) {
            return Ok(Verdict::Attached);
        }
        if record.has(Record::Submitted) {
            return self.attach(message, &record, &submission).await;
        }
        if !self.knows_pool(&submission.pool).await? {
            let why = format!("nobody knows a pool {}", submission.pool);
            return Ok(Verdict::Refused(Refusal::of(submission, "pool", why)));
        }
        let Some(leading) = self.leadership.lead(&submission.job) else { return Ok(Verdict::Attached) };
        self.leadership.beat(&self.doors).await;
        if note_submitted(repository, &submission).await? {
            return Ok(Verdict::Attached); // another coordinator was first, or our own answer was lost
        }
        self.note_job(&submission.job).await;
        JobKind::of(&submission.request).submitted();
        Ok(Verdict::Begin(Box::new(Assignment::new(submission, leading))))
    }

    /// A job that was submitted before and has not ended. If its coordinator left it, it is gone on with at once; else
    /// somebody leads it, or will be found to have fallen silent.
    async fn attach(
        &self,
        message: &Message,
        record: &FoundRecord<'_>,
        submission: &Submission,
    ) -> Result<Verdict, JobError> {
        let job = &submission.job;
        self.note_job(job).await;
        if message.last_error.as_deref() != Some(HANDED_OVER) {
            return Ok(Verdict::Attached);
        }
        let coordinators = self.doors.state.coordinators().await?;
        if coordinators.iter().any(|coordinator| coordinator.leads.contains(job)) {
            return Ok(Verdict::Attached);
        }
        let abandoned = Abandoned { job: job.clone(), epoch: record.epoch() };
        Ok(match self.assign_abandoned(&abandoned).await? {
            Some(assignment) => Verdict::Begin(Box::new(assignment)),
            None => Verdict::Attached,
        })
    }

    /// Whether it was told of the pool, or a worker of it lives. A job state that was just emptied knows nobody: each worker
    /// has time to say again that it lives.
    async fn knows_pool(&self, pool: &str) -> Result<bool, JobError> {
        let clock = &self.doors.clock;
        let give_up_at = clock.monotonic() + SAID_AGAIN_WITHIN;
        while !self.knows_pool_now(pool).await? {
            let now = clock.monotonic();
            // One that nobody knew a moment ago is not waited for again: others wait behind it.
            if self.was_just_refused(pool, now) {
                return Ok(false);
            }
            if now >= give_up_at {
                *self.refused_pool.lock().unwrap_or_else(PoisonError::into_inner) = Some((pool.to_owned(), now));
                return Ok(false);
            }
            clock.sleep(ASK_AGAIN_AFTER).await;
        }
        Ok(true)
    }

    fn was_just_refused(&self, pool: &str, now: Duration) -> bool {
        let refused = self.refused_pool.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().is_some_and(|(name, at)| name == pool && now < *at + REFUSED_FOR)
    }

    async fn knows_pool_now(&self, pool: &str) -> Result<bool, JobError> {
        if self.leadership.pools().iter().any(|known| known == pool) {
            return Ok(true);
        }
        Ok(!of_pool(self.doors.state.workers().await?, &self.doors.repository.id(), pool).is_empty())
    }
}

/// What was not acknowledged comes again, and is attached.
async fn acknowledge(receipt: Box<dyn Receipt>) {
    match receipt.ack().await {
        Ok(true) => {}
        Ok(false) => tracing::debug!("the submission was not ours any more: it will come again"),
        Err(error) => tracing::debug!(%error, "nobody knows whether the submission was acknowledged"),
    }
}
