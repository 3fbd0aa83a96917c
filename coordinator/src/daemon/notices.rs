//! Reads the notices of dead-lettered tasks, for all jobs of the repository, and passes each on to the reports of its job:
//! whoever leads that reads it there, and after a crash so does its successor.
//!
//! A notice is acknowledged once its job has it, or has ended, and kept until then. One that can never be passed on comes
//! again, until the broker leaves it to people.

use std::convert::Infallible;

use fleet::queue::{Delivery, Inbox};
use fleet::state::StateError;
use proto::envelope::Envelope;
use proto::id::JobId;
use proto::names::{Record, job_record, stored};
use proto::report::DeadReport;
use proto::task::Task;

use super::{ASK_AGAIN_AFTER, Desk};
use crate::error::JobError;
use crate::publish::pass_on;

impl Desk {
    pub(super) async fn read_notices(&self) -> Infallible {
        let clock = &self.doors.clock;
        loop {
            match self.doors.queue.consume(&Inbox::Notices).await {
                Ok(mut notices) => loop {
                    match notices.next().await {
                        Ok(Some(notice)) => self.take_notice(notice).await,
                        Ok(None) => break,
                        Err(error) => {
                            tracing::warn!(%error, "the stream of notices broke");
                            break;
                        }
                    }
                },
                Err(error) => tracing::warn!(%error, "no notices can be had"),
            }
            clock.sleep(ASK_AGAIN_AFTER).await;
        }
    }

    async fn take_notice(&self, notice: Delivery) {
        let Delivery { message, receipt, .. } = notice;
        let reason = message.last_error.clone().unwrap_or_default();
        let (repository, now) = (self.doors.repository.id(), self.doors.clock.now());
        match Envelope::<Task>::open(&message.body, &self.key, &repository, now) {
            Ok(Envelope { body: task, .. }) => {
                let text = format!("after {} attempts", message.attempt);
                let dead = DeadReport { task: task.id, round: task.round, reason, message: text };
                if !self.pass_on(&task.job, dead).await {
                    self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, reason, "a dead message of nobody"),
        }
        let _ = receipt.ack().await; // read twice it says the same again
    }

    /// Whether the job has it, or needs it no more.
    async fn pass_on(&self, job: &JobId, dead: DeadReport) -> bool {
        while self.leadership.leads(job) || !self.has_ended(job).await {
            match pass_on(&self.doors, &self.key, job, dead.clone()).await {
                Ok(()) => return true,
                Err(JobError::State(
                    StateError::Unavailable { .. } | StateError::Full { .. } | StateError::Denied { .. },
                )) => self.doors.clock.sleep(ASK_AGAIN_AFTER).await,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "a notice was not passed on");
                    return false;
                }
            }
        }
        true
    }

    /// Whether the job's record says so.
    pub(super) async fn has_ended(&self, job: &JobId) -> bool {
        let name = stored(&job_record(job, Record::Result));
        self.doors.repository.storage().size(&name).await.is_ok()
    }
}
