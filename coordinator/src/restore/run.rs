//! Runs one restore: waits for one thing to happen, lets the pure code decide, does what it wants.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleet::objects::ObjectsExt;
use fleet::queue::{Address, Consumer, Delivery, Inbox, Message, QueueError, Route};
use fleet::state::{Heartbeat, Position};
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::handles::RandomExt;
use proto::id::{Id, JobId};
use proto::report::{DeadReport, Outcome, Payload, Report, ResultReport};
use proto::restore::{RestoreFacts, RestoreWork, decode_list};
use proto::task::{Task, Work};
use repository::locks::RepositoryLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::effect::Effect;
use super::event::Event;
use super::state::State;
use crate::Doors;
use crate::collect::Collector;
use crate::error::JobError;
use crate::job::{Event as JobEvent, Progress};
use crate::perform::decode_long_report;

/// How often the registry of workers is read.
const TICK: Duration = Duration::from_secs(1);
/// Tasks that nobody began by then are of no use.
const TASK_EXPIRES_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long to wait before a queue that failed is asked again.
const PUBLISH_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One restore while it runs.
pub(super) struct Runner {
    doors: Doors,
    job: JobId,
    route: Route,
    key: MessageKey,
    facts: RestoreFacts,
    facts_id: Id,
    collector: Collector,
    pub(super) state: State,
    generation: u64,
    wait_workers: Duration,
    last_worker_seen_at: Duration,
    ended: Option<Result<(), JobError>>,
}

impl Runner {
    #[expect(clippy::too_many_arguments, reason = "the parts of one job, put together in one place")]
    pub(super) fn new(
        doors: Doors,
        job: JobId,
        route: Route,
        key: MessageKey,
        facts: RestoreFacts,
        state: State,
        generation: u64,
        wait_workers: Duration,
    ) -> Self {
        let collector = Collector::new(doors.clone(), job.clone(), key.clone(), Position::default());
        let last_worker_seen_at = doors.clock.monotonic();
        Self {
            doors,
            job,
            route,
            key,
            facts,
            facts_id: Id::default(),
            collector,
            state,
            generation,
            wait_workers,
            last_worker_seen_at,
            ended: None,
        }
    }

    /// Runs the job to its end.
    ///
    /// # Errors
    /// Why it ended early.
    pub(super) async fn run(
        &mut self,
        lock: Option<Arc<RepositoryLock>>,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), JobError> {
        let mut lost = Box::pin(async move {
            match lock {
                Some(lock) => lock.keep().await,
                None => std::future::pending().await,
            }
        });
        self.store_facts().await?;
        self.see_workers().await?;
        self.apply(Event::Started).await?;
        let clock = self.doors.clock.clone();
        let mut notices: Option<Box<dyn Consumer>> = None;
        let mut tick = clock.sleep(TICK);
        loop {
            if let Some(ended) = self.ended.take() {
                return ended;
            }
            if notices.is_none() {
                notices = self.doors.queue.consume(&Inbox::Notices).await.ok();
            }
            tokio::select! {
                biased;
                lost = &mut lost => return Err(JobError::LockLost(lost)),
                events = self.collector.next() => self.take(events?).await?,
                notice = next_notice(&mut notices) => self.take_notice(notice).await?,
                () = &mut tick => {
                    self.tick().await?;
                    tick = clock.sleep(TICK);
                }
            }
            progress.send_replace(self.state.progress());
        }
    }

    async fn take(&mut self, events: Vec<JobEvent>) -> Result<(), JobError> {
        for event in events {
            match event {
                JobEvent::Result(report) => {
                    let event = self.read_lists(report).await?;
                    self.apply(event).await?;
                }
                JobEvent::LongReport(payload) => {
                    let report = decode_long_report(&self.doors.objects.load(&self.job, &payload).await?)?;
                    let event = self.read_lists(report).await?;
                    self.apply(event).await?;
                }
                JobEvent::Dead(dead) => self.apply(Event::Dead(dead)).await?,
                _ => {} // a restore stores no packs
            }
        }
        Ok(())
    }

    async fn read_lists(&self, report: Box<ResultReport>) -> Result<Event, JobError> {
        let (directories, linked) = match &report.outcome {
            Outcome::Restored(restored) => {
                (self.list(&restored.directories).await?, self.list(&restored.linked).await?)
            }
            _ => (Vec::new(), Vec::new()),
        };
        Ok(Event::Result { report, directories, linked })
    }

    async fn list<T: DeserializeOwned>(&self, payload: &Payload) -> Result<Vec<T>, JobError> {
        let bytes = self.doors.objects.load(&self.job, payload).await?;
        decode_list(&bytes).map_err(|error| JobError::internal("a list of a report", &error))
    }

    /// Lets the job decide, and does what it wants done.
    async fn apply(&mut self, event: Event) -> Result<(), JobError> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now = self.doors.clock.monotonic();
            for effect in self.state.apply(event, now) {
                match effect {
                    Effect::Publish { .. } => {
                        self.publish(effect).await?;
                        events.push(Event::Published);
                    }
                    Effect::AdoptMarker(marker) => {
                        self.facts.marker = Some(marker);
                        self.store_facts().await?;
                        events.push(Event::MarkerAdopted);
                    }
                    Effect::Finish => self.ended = Some(Ok(())),
                    Effect::Fail { reason } => self.ended = Some(Err(JobError::Failed { reason })),
                    Effect::Cancel => self.ended = Some(Err(JobError::Cancelled)),
                }
            }
        }
        Ok(())
    }

    async fn store_facts(&mut self) -> Result<(), JobError> {
        let json = serde_json::to_vec(&self.facts).map_err(|error| JobError::internal("the job's facts", &error))?;
        self.facts_id = self.doors.objects.put(&self.job, json.into()).await?;
        Ok(())
    }

    async fn publish(&self, effect: Effect) -> Result<(), JobError> {
        let Effect::Publish { task: id, round, stage, work, refused_by } = effect else { return Ok(()) };
        let work = self.without_long_lists(work).await?;
        let task = Task { id, job: self.job.clone(), round, stage, facts: self.facts_id, refused_by, work };
        let envelope = Envelope {
            minor: SCHEMA_MINOR,
            repository: self.doors.repository.id(),
            job: self.job.clone(),
            expires_at: self.doors.clock.now().plus(TASK_EXPIRES_AFTER),
            body: task,
        };
        let body = envelope.seal(&self.key).map_err(|error| JobError::internal("a task", &error))?;
        let message = Message { body: body.into(), attempt: 1, last_error: None, subject: id.to_string() };
        let address = Address::Tasks(self.route.clone());
        loop {
            match self.doors.queue.publish(&address, message.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ QueueError::Unavailable { .. }) => {
                    // Publishing twice is harmless: every task may be done twice.
                    tracing::warn!(%error, "a task is published again");
                    self.doors.clock.sleep(PUBLISH_AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts lists that are too long for a message into an object.
    async fn without_long_lists(&self, work: Work) -> Result<Work, JobError> {
        let Work::Restore(mut work) = work else { return Ok(work) };
        let list = match &mut work {
            RestoreWork::Files(list) | RestoreWork::Metadata(list) | RestoreWork::Links(list) => list,
            RestoreWork::Range(range) => &mut range.content,
            RestoreWork::Scope(_) | RestoreWork::Close => return Ok(Work::Restore(work)),
        };
        if let Payload::Inline(bytes) = list {
            *list = self.doors.objects.payload(&self.job, std::mem::take(bytes)).await?;
        }
        Ok(Work::Restore(work))
    }

    async fn tick(&mut self) -> Result<(), JobError> {
        if self.doors.state.cancel_requested(&self.job).await.unwrap_or(false) {
            self.apply(Event::CancelRequested).await?;
        }
        match self.doors.state.generation(&self.job).await {
            Ok(Some(generation)) if generation == self.generation => {}
            Ok(_) => {
                tracing::warn!("the job state was lost; what is not reported is looked for");
                let wanted = u64::from_le_bytes(self.doors.repository.random().bytes());
                if let Ok(generation) = self.doors.state.open_job(&self.job, wanted).await {
                    self.generation = generation;
                }
                self.collector.rewind();
                self.apply(Event::StateLost).await?;
            }
            Err(_) => {} // heard of again with the next tick
        }
        self.see_workers().await?;
        self.apply(Event::Tick).await?;
        let alone = self.doors.clock.monotonic().saturating_sub(self.last_worker_seen_at);
        if alone > self.wait_workers {
            return Err(JobError::NoWorkers { pool: self.route.pool.clone() });
        }
        Ok(())
    }

    async fn see_workers(&mut self) -> Result<(), JobError> {
        let Ok(workers) = self.doors.state.workers().await else { return Ok(()) };
        let workers: Vec<Heartbeat> = workers.into_iter().filter(|worker| worker.pool == self.route.pool).collect();
        if !workers.is_empty() {
            self.last_worker_seen_at = self.doors.clock.monotonic();
        }
        let slots = workers.iter().map(|worker| worker.slots).sum();
        let holds = workers.iter().flat_map(|worker| worker.holds.iter().copied()).collect();
        let live: BTreeSet<_> = workers.into_iter().map(|worker| worker.worker).collect();
        self.apply(Event::Workers { live, holds, slots }).await
    }

    /// A notice of another job is left to that job's coordinator, through its reports.
    async fn take_notice(&mut self, notice: Option<Delivery>) -> Result<(), JobError> {
        let Some(Delivery { message, receipt, .. }) = notice else { return Ok(()) };
        let reason = message.last_error.clone().unwrap_or_default();
        let (repository, now) = (self.doors.repository.id(), self.doors.clock.now());
        match Envelope::<Task>::open(&message.body, &self.key, &repository, now) {
            Ok(Envelope { body: task, .. }) => {
                let text = format!("after {} attempts", message.attempt);
                let dead = DeadReport { task: task.id, round: task.round, reason, message: text };
                if task.job == self.job {
                    self.apply(Event::Dead(dead)).await?;
                } else {
                    self.forward_dead(&task.job, dead).await?;
                }
            }
            Err(error) => tracing::warn!(%error, reason, "a dead message of nobody"),
        }
        let _ = receipt.ack().await;
        Ok(())
    }

    async fn forward_dead(&self, job: &JobId, dead: DeadReport) -> Result<(), JobError> {
        let envelope = Envelope {
            minor: SCHEMA_MINOR,
            repository: self.doors.repository.id(),
            job: job.clone(),
            expires_at: self.doors.clock.now().plus(TASK_EXPIRES_AFTER),
            body: Report::Dead(dead),
        };
        let report = envelope.seal(&self.key).map_err(|error| JobError::internal("a notice", &error))?;
        if let Err(error) = self.doors.state.append_report(job, report.into()).await {
            tracing::warn!(%error, "a notice of another job was not passed on");
        }
        Ok(())
    }
}

async fn next_notice(notices: &mut Option<Box<dyn Consumer>>) -> Option<Delivery> {
    let Some(consumer) = notices else { return std::future::pending().await };
    match consumer.next().await {
        Ok(Some(delivery)) => Some(delivery),
        Ok(None) | Err(_) => {
            *notices = None;
            None
        }
    }
}
