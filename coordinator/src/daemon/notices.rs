//! Reads the notices of dead-lettered tasks, for all jobs of the repository, and passes each on to the reports of its job:
//! whoever leads that reads it there, and after a crash so does its successor.
//!
//! A notice is acknowledged once its job has it, or has ended, and kept until then. One that can never be passed on comes
//! again, until the broker leaves it to people.

use std::convert::Infallible;

use fleet::queue::{Consumer, Delivery, Inbox, NOTICES_AHEAD};
use fleet::state::StateError;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use proto::envelope::Envelope;
use proto::id::JobId;
use proto::report::DeadReport;
use proto::task::Task;

use super::{ASK_AGAIN_AFTER, Desk};
use crate::error::JobError;
use crate::publish::pass_on;
use crate::record::has_ended;

impl Desk {
    pub(super) async fn read_notices(&self) -> Infallible {
        let clock = &self.doors.clock;
        loop {
            match self.doors.queue.consume(&Inbox::Notices).await {
                Ok(mut notices) => self.take_notices(&mut *notices).await,
                Err(error) => tracing::warn!(%error, "no notices can be had"),
            }
            clock.sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// Takes notices until their stream ends. One whose job takes no reports now does not hold up those of others; what
    /// is not acknowledged by then comes again.
    async fn take_notices(&self, notices: &mut dyn Consumer) {
        let mut taking = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = taking.next(), if !taking.is_empty() => {}
                next = notices.next(), if taking.len() < usize::from(NOTICES_AHEAD) => match next {
                    Ok(Some(notice)) => taking.push(self.take_notice(notice)),
                    Ok(None) => return,
                    Err(error) => return tracing::warn!(%error, "the stream of notices broke"),
                },
            }
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
        while self.leadership.leads(job) || !has_ended(&self.doors.repository, job).await {
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
}
