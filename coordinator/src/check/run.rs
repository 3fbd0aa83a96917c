//! Runs the reading part of a check.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet::objects::ObjectsExt;
use fleet::queue::Route;
use fleet::state::Position;
use proto::auth::MessageKey;
use proto::id::{Id, JobId};
use proto::report::{Checked, DeadReport, Outcome, ResultReport};
use proto::task::{CheckWork, Task, Work};
use repository::format::index::encode_index;
use repository::maintenance::check::{Finding, Structure};
use tokio::sync::watch;

use super::state::{Batch, Tasks};
use crate::Doors;
use crate::collect::Collector;
use crate::error::JobError;
use crate::heartbeat::of_pool;
use crate::job::{Event, Progress};
use crate::metrics::JobFigures;
use crate::perform::decode_long_report;
use crate::publish::{Publisher, open_again};

/// How often the registry of workers is read.
const TICK: Duration = Duration::from_secs(1);

/// A check whose structure is known.
pub(super) struct Runner<'a> {
    doors: &'a Doors,
    job: &'a JobId,
    publisher: Publisher,
    collector: Collector,
    tasks: Tasks,
    generation: u64,
    wait_workers: Duration,
    last_worker_seen_at: Duration,
    bytes_total: u64,
}

impl<'a> Runner<'a> {
    #[expect(clippy::too_many_arguments, reason = "the parts of one job, put together in one place")]
    pub(super) fn new(
        doors: &'a Doors,
        job: &'a JobId,
        route: Route,
        key: MessageKey,
        tasks: Tasks,
        generation: u64,
        wait_workers: Duration,
        bytes_total: u64,
    ) -> Self {
        let collector = Collector::new(doors.clone(), job.clone(), key.clone(), Position::default());
        let publisher = Publisher::new(doors, job, route, key);
        let last_worker_seen_at = doors.clock.monotonic();
        Self { doors, job, publisher, collector, tasks, generation, wait_workers, last_worker_seen_at, bytes_total }
    }

    /// Runs the job to its end.
    ///
    /// # Errors
    /// Why it ended early.
    pub(super) async fn run(
        &mut self,
        structure: &mut Structure,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), JobError> {
        self.see_workers(structure).await?;
        let clock = self.doors.clock.clone();
        let mut tick = clock.sleep(TICK);
        let mut shown = JobFigures::new(self.publisher.pool(), &Progress::default());
        while !self.tasks.are_done() {
            for (task, batch) in self.tasks.next() {
                self.publish(task, batch, structure).await?;
            }
            shown.show(&self.progress(structure));
            progress.send_replace(self.progress(structure));
            tokio::select! {
                biased;
                () = &mut tick => {
                    self.tick(structure).await?;
                    tick = clock.sleep(TICK);
                }
                events = self.collector.next() => for event in events? {
                    self.take(event, structure).await?;
                },
            }
        }
        progress.send_replace(self.progress(structure));
        Ok(())
    }

    fn progress(&self, structure: &Structure) -> Progress {
        let (tasks_done, tasks_open) = self.tasks.counts();
        let report = structure.report();
        let (entries, bytes_done) = (report.packs_read, report.bytes_read);
        let bytes_total = Some(self.bytes_total);
        Progress { tasks_done, tasks_open, entries, bytes_done, bytes_total, ..Progress::default() }
    }

    /// Publishes a task with what the index says of its packs.
    async fn publish(&self, task: Id, batch: Batch, structure: &Structure) -> Result<(), JobError> {
        let reads = structure.reads().iter().skip(batch.first).take(batch.count);
        let packs: Vec<_> = reads.map(|read| structure.indexed(&read.pack)).collect();
        let packs = self.doors.objects.payload(self.job, encode_index(&packs)).await?;
        let task = Task {
            id: task,
            job: self.job.clone(),
            round: 0,
            stage: 0,
            facts: Id::default(),
            refused_by: Vec::new(),
            work: Work::Check(CheckWork { number: batch.number, packs }),
        };
        self.publisher.publish(task).await
    }

    async fn take(&mut self, event: Event, structure: &mut Structure) -> Result<(), JobError> {
        match event {
            Event::Result(report) => self.take_result(*report, structure).await,
            Event::LongReport(payload) => {
                let report = decode_long_report(&self.doors.objects.load(self.job, &payload).await?)?;
                self.take_result(*report, structure).await
            }
            Event::Dead(dead) => self.take_dead(&dead),
            _ => Ok(()), // a check stores no packs
        }
    }

    async fn take_result(&mut self, report: ResultReport, structure: &mut Structure) -> Result<(), JobError> {
        if !self.tasks.is_open(&report.task) {
            return Ok(()); // a second report of a finished task
        }
        match report.outcome {
            Outcome::Checked(Checked { packs, bytes, findings }) => {
                let json = self.doors.objects.load(self.job, &findings).await?;
                let findings: Vec<Finding> = match json.is_empty() {
                    true => Vec::new(),
                    false => serde_json::from_slice(&json)
                        .map_err(|error| JobError::internal("a list of findings", &error))?,
                };
                self.tasks.take_result(&report.task, self.doors.clock.monotonic());
                structure.note_read(packs, bytes, findings).await;
                Ok(())
            }
            Outcome::Failed { reason } => Err(JobError::Failed { reason }),
            _ => {
                let reason = "a worker of another release reports what this coordinator cannot read".to_owned();
                Err(JobError::Failed { reason })
            }
        }
    }

    fn take_dead(&self, dead: &DeadReport) -> Result<(), JobError> {
        if !self.tasks.is_open(&dead.task) {
            return Ok(());
        }
        let reason = format!("task {} was given up ({}): {}", dead.task.short(), dead.reason, dead.message);
        Err(JobError::Failed { reason })
    }

    async fn tick(&mut self, structure: &Structure) -> Result<(), JobError> {
        self.collector.trim().await;
        if let Some(generation) = open_again(self.doors, self.job, self.generation).await {
            self.generation = generation;
            self.collector.rewind();
            self.tasks.doubt();
        }
        self.see_workers(structure).await?;
        let alone = self.doors.clock.monotonic().saturating_sub(self.last_worker_seen_at);
        if alone > self.wait_workers {
            return Err(JobError::NoWorkers { pool: self.publisher.pool().to_owned() });
        }
        Ok(())
    }

    async fn see_workers(&mut self, structure: &Structure) -> Result<(), JobError> {
        let Ok(workers) = self.doors.state.workers().await else { return Ok(()) };
        let workers = of_pool(workers, &self.doors.repository.id(), self.publisher.pool());
        let now = self.doors.clock.monotonic();
        if !workers.is_empty() {
            self.last_worker_seen_at = now;
        }
        let slots = workers.iter().map(|worker| worker.slots).sum();
        let holds: BTreeSet<_> = workers.iter().flat_map(|worker| worker.holds.iter().copied()).collect();
        for (task, batch) in self.tasks.see_workers(&holds, slots, now) {
            self.publish(task, batch, structure).await?;
        }
        Ok(())
    }
}
