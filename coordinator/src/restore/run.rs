//! Runs one restore: waits for one thing to happen, lets the pure code decide, does what it wants.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet::objects::ObjectsExt;
use fleet::queue::{Consumer, Delivery, Inbox, Route};
use fleet::state::Position;
use proto::auth::MessageKey;
use proto::envelope::Envelope;
use proto::id::{Id, JobId};
use proto::report::{DeadReport, Outcome, Payload, ResultReport};
use proto::restore::{RestoreFacts, RestoreWork, decode_list};
use proto::task::{Task, Work};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Settings;
use super::effect::Effect;
use super::event::Event;
use super::state::State;
use crate::Doors;
use crate::collect::Collector;
use crate::error::JobError;
use crate::heartbeat::of_pool;
use crate::job::{Event as JobEvent, Progress};
use crate::leadership::{Leadership, stopping};
use crate::metrics::JobFigures;
use crate::perform::decode_long_report;
use crate::publish::{Publisher, open_again, pass_on};
use crate::waiting::left;

/// How often the registry of workers is read.
const TICK: Duration = Duration::from_secs(1);

/// One restore while it runs.
pub(super) struct Runner {
    doors: Doors,
    job: JobId,
    publisher: Publisher,
    key: MessageKey,
    facts: RestoreFacts,
    facts_id: Id,
    collector: Collector,
    pub(super) state: State,
    generation: u64,
    wait_workers: Duration,
    /// Of a coordinator that leads several jobs: it reads the notices for all of them.
    leadership: Option<Leadership>,
    last_worker_seen_at: Duration,
    ended: Option<Result<(), JobError>>,
    shown: JobFigures,
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
        settings: &Settings,
    ) -> Self {
        let shown = JobFigures::new(&route.pool, &state.progress());
        let publisher = Publisher::new(&doors, &job, route, key.clone());
        let collector = Collector::new(doors.clone(), job.clone(), key.clone(), Position::default());
        let last_worker_seen_at = doors.clock.monotonic();
        Self {
            doors,
            job,
            publisher,
            key,
            facts,
            facts_id: Id::default(),
            collector,
            state,
            generation,
            wait_workers: settings.wait_workers,
            leadership: settings.leadership.clone(),
            last_worker_seen_at,
            ended: None,
            shown,
        }
    }

    /// Runs the job to its end.
    ///
    /// # Errors
    /// Why it ended early.
    pub(super) async fn run(&mut self, progress: &watch::Sender<Progress>) -> Result<(), JobError> {
        self.store_facts().await?;
        self.see_workers().await?;
        self.apply(Event::Started).await?;
        let (clock, leadership) = (self.doors.clock.clone(), self.leadership.clone());
        let mut notices: Option<Box<dyn Consumer>> = None;
        let mut tick = clock.sleep(TICK);
        loop {
            if let Some(ended) = self.ended.take() {
                return ended;
            }
            if notices.is_none() && leadership.is_none() {
                notices = self.doors.queue.consume(&Inbox::Notices).await.ok();
            }
            tokio::select! {
                biased;
                () = stopping(leadership.as_ref()) => return Err(left(&self.doors, &self.job).await),
                // Before the reports, of which there may always be more.
                () = &mut tick => {
                    self.tick().await?;
                    tick = clock.sleep(TICK);
                }
                events = self.collector.next() => self.take(events?).await?,
                notice = next_notice(&mut notices) => self.take_notice(notice).await?,
            }
            self.shown.show(&self.state.progress());
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
        self.publisher.publish(task).await
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
        self.collector.trim().await;
        if self.doors.state.cancel_requested(&self.job).await.unwrap_or(false) {
            self.apply(Event::CancelRequested).await?;
        }
        if let Some(generation) = open_again(&self.doors, &self.job, self.generation).await {
            self.generation = generation;
            self.collector.rewind();
            self.apply(Event::StateLost).await?;
        }
        self.see_workers().await?;
        self.apply(Event::Tick).await?;
        let alone = self.doors.clock.monotonic().saturating_sub(self.last_worker_seen_at);
        if alone > self.wait_workers {
            return Err(JobError::NoWorkers { pool: self.publisher.pool().to_owned() });
        }
        Ok(())
    }

    async fn see_workers(&mut self) -> Result<(), JobError> {
        let Ok(workers) = self.doors.state.workers().await else { return Ok(()) };
        let workers = of_pool(workers, &self.doors.repository.id(), self.publisher.pool());
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
                } else if let Err(error) = pass_on(&self.doors, &self.key, &task.job, dead).await {
                    tracing::warn!(%error, "a notice of another job was not passed on");
                    return Ok(()); // it comes again
                }
            }
            Err(error) => tracing::warn!(%error, reason, "a dead message of nobody"),
        }
        let _ = receipt.ack().await;
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
