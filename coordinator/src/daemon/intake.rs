//! Takes submissions from the queue: refused, attached to what is there, or begun.

use std::convert::Infallible;

use fleet::metrics::JobKind;
use fleet::queue::{Address, Consumer, Delivery, Inbox, Message, Receipt};
use proto::envelope::MESSAGE_BYTES_MAX;
use proto::follow::JobDocument;
use proto::job::{JobOutcome, Submission};
use proto::names::Record;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::accept::{Refusal, judge};
use super::document::{of_result, refused};
use super::work::Assignment;
use super::{ASK_AGAIN_AFTER, Desk, HANDED_OVER};
use crate::abandoned::Abandoned;
use crate::error::JobError;
use crate::found_record::FoundRecord;
use crate::record::{ResultRecord, note_submitted};

/// So much is kept of a submission that is too long.
const KEPT_OF_LONG_BYTES: usize = 4096;

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
                if !self.bury(&message, refusal).await {
                    return; // it comes again
                }
            }
        }
        acknowledge(receipt).await;
    }

    /// Dead-letters a submission, and tells its submitter if that can be done.
    async fn bury(&self, message: &Message, refusal: Refusal) -> bool {
        let Refusal { reason, why, submission } = refusal;
        tracing::warn!(reason, why, subject = message.subject, "a submission was refused");
        if let Some(submission) = submission {
            self.put_first_document(&refused(&submission, why, self.doors.clock.now())).await;
        }
        // What is too long for a message is cut: its beginning tells people what it was.
        let body = match message.body.len() > MESSAGE_BYTES_MAX {
            true => message.body.slice(..KEPT_OF_LONG_BYTES),
            false => message.body.clone(),
        };
        let copy = Message { body, last_error: Some(reason.to_owned()), ..message.clone() };
        match self.doors.queue.publish(&Address::DeadJobs, copy).await {
            Ok(()) => true,
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

    /// Whether it was told of the pool, or a worker of it lives.
    async fn knows_pool(&self, pool: &str) -> Result<bool, JobError> {
        if self.leadership.pools().iter().any(|known| known == pool) {
            return Ok(true);
        }
        let (workers, repository) = (self.doors.state.workers().await?, self.doors.repository.id());
        Ok(workers.iter().any(|worker| worker.pool == pool && worker.repository == repository))
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
