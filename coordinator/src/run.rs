//! Runs one job: waits for one thing to happen, lets the pure code decide, performs what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet::cpu::Panicked;
use fleet::queue::{Consumer, Delivery, Inbox};
use fleet::state::{Heartbeat, Position, StateError};
use futures::FutureExt;
use proto::envelope::Envelope;
use proto::handles::BoxFuture;
use proto::id::Id;
use proto::report::{Counts, DeadReport};
use proto::task::Task;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::assemble::Figures;
use crate::backup::{BackupDone, Settings};
use crate::checkpoint::Checkpoint;
use crate::collect::Collector;
use crate::error::JobError;
use crate::heartbeat::of_pool;
use crate::job::{Effect, Event, Progress, State};
use crate::lead::done;
use crate::leadership::{Leadership, stopping};
use crate::metrics::JobFigures;
use crate::perform::{Happened, Performer, blobs_of};
use crate::publish::{open_again, pass_on};
use crate::session::Session;

/// How often the registry of workers is read.
const TICK: Duration = Duration::from_secs(1);
/// A checkpoint is written at least so often while reports come in.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// The number of an effect, and what came of it.
type Performed = (u64, Result<Happened, JobError>);

/// Where a job stands when a coordinator begins to lead it.
pub(crate) struct Standing {
    pub(crate) state: State,
    /// What its packs hold.
    pub(crate) session: Session,
    /// Effects that are to be performed again.
    pub(crate) under_way: Vec<Effect>,
    /// Generation of the job state, and up to where its reports are in `state`.
    pub(crate) read_up_to: Option<(u64, Position)>,
    /// What coordinators stored themselves.
    pub(crate) figures: Figures,
    /// Another coordinator led it before.
    pub(crate) taken_over: bool,
}

impl Standing {
    /// A job that has not begun.
    pub(crate) fn at_start(state: State) -> Self {
        Self {
            state,
            session: Session::default(),
            under_way: Vec::new(),
            read_up_to: None,
            figures: Figures::default(),
            taken_over: false,
        }
    }
}

/// One job while it runs.
pub(crate) struct Runner<'a> {
    pub(crate) performer: Arc<Performer>,
    pub(crate) collector: Collector,
    pub(crate) state: State,
    pub(crate) progress: &'a watch::Sender<Progress>,
    /// The job's generation in the job state.
    pub(crate) generation: u64,
    /// Without a live worker for so long, the job fails.
    pub(crate) wait_workers: Duration,
    /// The record is written with the first checkpoint, not before.
    pub(crate) embedded: bool,
    /// Of a coordinator that leads several jobs: it reads the notices for all of them.
    leadership: Option<Leadership>,
    session: Session,
    /// Tasks of their own: while the job waits for something else, what they hold must not be held up.
    performing: JoinSet<Performed>,
    /// Effects that have no answer yet.
    under_way: BTreeMap<u64, Effect>,
    effects_begun: u64,
    figures: Figures,
    taken_over: bool,
    time: JobTime,
    /// The lock that the newest checkpoint names.
    lock_noted: Id,
    reports_since_checkpoint: bool,
    checkpoint_due_at: Duration,
    last_worker_seen_at: Duration,
    committed: Option<Id>,
    shown: JobFigures,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        performer: Arc<Performer>,
        collector: Collector,
        standing: Standing,
        progress: &'a watch::Sender<Progress>,
        generation: u64,
        settings: &Settings,
    ) -> Self {
        let now = performer.doors.clock.monotonic();
        let lock_noted = performer.committer.fence.lock.id();
        let Standing { state, session, under_way, figures, taken_over, read_up_to: _ } = standing;
        let shown = JobFigures::new(&performer.route.pool, &state.progress());
        Self {
            performer,
            collector,
            progress,
            generation,
            wait_workers: settings.wait_workers,
            embedded: settings.embedded,
            leadership: settings.leadership.clone(),
            session,
            performing: JoinSet::new(),
            under_way: (1..).zip(under_way).collect(),
            effects_begun: 0,
            figures,
            taken_over,
            time: JobTime { began: state.now(), at: now },
            lock_noted,
            state,
            reports_since_checkpoint: false,
            checkpoint_due_at: now + CHECKPOINT_EVERY,
            last_worker_seen_at: now,
            committed: None,
            shown,
        }
    }

    /// Runs the job to its end; returns the snapshot.
    ///
    /// # Errors
    /// Why there is none. Nothing is put after `LockLost` and `Fenced`.
    pub(crate) async fn run(&mut self) -> Result<Id, JobError> {
        let ended = self.run_to_end().await;
        self.performing.shutdown().await;
        let ended = match ended {
            Ok(snapshot) => Ok(snapshot),
            Err(error) => Err(error.unless_lost(&self.performer.committer.fence.lock).await),
        };
        self.shown.count_refusal(&ended);
        if let Err(error) = &ended
            && !matches!(
                error,
                JobError::LockLost(_) | JobError::Fenced { .. } | JobError::Lock(_) | JobError::HandedOver { .. }
            )
        {
            self.keep_what_is_done().await;
        }
        ended
    }

    /// The lock is kept whatever the job waits for meanwhile.
    async fn run_to_end(&mut self) -> Result<Id, JobError> {
        let lock = self.performer.committer.fence.lock.clone();
        tokio::select! {
            biased;
            ended = self.take_events().boxed() => ended,
            lost = lock.keep() => Err(JobError::LockLost(lost)),
        }
    }

    async fn take_events(&mut self) -> Result<Id, JobError> {
        let clock = self.performer.doors.clock.clone();
        let leadership = self.leadership.clone();
        let mut notices: Option<Box<dyn Consumer>> = None;
        if self.taken_over {
            self.go_on().await?;
        }
        let workers = self.performer.doors.state.workers().await;
        self.see_workers(workers);
        if !self.state.has_begun() {
            self.apply(Event::Started);
        }
        let mut tick = clock.sleep(TICK);
        while self.committed.is_none() {
            if notices.is_none() && leadership.is_none() {
                notices = self.performer.doors.queue.consume(&Inbox::Notices).await.ok();
            }
            tokio::select! {
                biased;
                () = stopping(leadership.as_ref()) => return self.hand_over().await,
                // Before the reports, of which there may always be more.
                () = &mut tick => {
                    self.tick().await?;
                    tick = clock.sleep(TICK);
                }
                Some(performed) = self.performing.join_next() => {
                    self.take(performed.map_err(|_| Panicked)?)?;
                },
                events = self.collector.next() => for event in events? {
                    self.reports_since_checkpoint = true;
                    self.apply(event);
                },
                notice = next_notice(&mut notices) => self.take_notice(notice).await,
            }
            self.checkpoint_if_due().await?;
            self.shown.show(&self.state.progress());
            self.progress.send_replace(self.state.progress());
        }
        self.committed.ok_or(JobError::Cancelled)
    }

    /// Leaves everything to another coordinator. If the checkpoint cannot be written, an older one will do.
    async fn hand_over(&mut self) -> Result<Id, JobError> {
        if !self.state.has_ended()
            && let Err(error) = self.checkpoint().await
        {
            tracing::warn!(error = error.chain(), "the job is handed over without a new checkpoint");
        }
        Err(JobError::HandedOver { job: self.performer.job.clone() })
    }

    /// Goes on where the coordinator before this one stood: what it had begun is done again, and the first checkpoint
    /// names the own lock.
    async fn go_on(&mut self) -> Result<(), JobError> {
        if self.state.has_ended() {
            return Err(self.decided_end());
        }
        let under_way = std::mem::take(&mut self.under_way);
        debug_assert_eq!(self.state.unanswered() as usize, under_way.len());
        if self.state.has_begun() {
            self.apply(Event::TakenOver);
        }
        for effect in under_way.into_values() {
            self.begin(effect);
        }
        self.checkpoint().await
    }

    /// How a job ends that had ended already when its coordinator fell silent: as that one had decided.
    fn decided_end(&mut self) -> JobError {
        let ends = std::mem::take(&mut self.under_way).into_values().find_map(|effect| match effect {
            Effect::Cancel => Some(JobError::Cancelled),
            Effect::Fail { reason } => Some(JobError::Failed { reason }),
            _ => None,
        });
        let reason = "the job had ended without a snapshot when its coordinator fell silent".to_owned();
        ends.unwrap_or(JobError::Failed { reason })
    }

    /// Lets the job know what came of an effect. One that failed stays under way: it ends this coordinator's part.
    fn take(&mut self, (number, happened): (u64, Result<Happened, JobError>)) -> Result<(), JobError> {
        let happened = happened?;
        self.under_way.remove(&number);
        match happened {
            Happened::Events(events) => {
                self.apply_all(events);
                Ok(())
            }
            Happened::Stored { figures, events } => {
                self.figures.add(&figures);
                self.apply_all(events);
                Ok(())
            }
            Happened::PackRead { pack, entries } => {
                let blobs = blobs_of(&entries);
                self.session.add_pack(pack, entries);
                self.apply(Event::PackConfirmed { pack, blobs });
                Ok(())
            }
            Happened::BorrowedRead { report, blobs } => {
                let missing = self.session.missing(blobs);
                self.apply(Event::BorrowedChecked { report, missing });
                Ok(())
            }
        }
    }

    fn apply_all(&mut self, events: Vec<Event>) {
        for event in events {
            match &event {
                Event::Committed { snapshot } => self.committed = Some(*snapshot),
                // Facts are on record before a task is published with them: no two coordinators number one file
                // system differently.
                Event::IndexWritten { .. } | Event::FactsReady { .. } if !self.embedded => {
                    self.checkpoint_due_at = Duration::ZERO;
                }
                _ => {}
            }
            self.apply(event);
        }
    }

    /// Lets the job decide, and begins what it wants done.
    fn apply(&mut self, event: Event) {
        let now = self.time.now(self.performer.doors.clock.monotonic());
        for effect in self.state.apply(event, now) {
            self.begin(effect);
        }
    }

    fn begin(&mut self, effect: Effect) {
        self.effects_begun += 1;
        let number = self.effects_begun;
        self.under_way.insert(number, effect.clone());
        let performer = self.performer.clone();
        let performing: BoxFuture<'static, Result<Happened, JobError>> = match effect {
            Effect::Commit { tree } => {
                let done = BackupDone { tree, ..done(self) };
                Box::pin(async move {
                    let snapshot = performer.committer.commit(done).await?;
                    Ok(Happened::Events(vec![Event::Committed { snapshot }]))
                })
            }
            effect => {
                let packs = match &effect {
                    Effect::WriteIndex { packs } => self.session.take(packs),
                    _ => Vec::new(),
                };
                Box::pin(performer.perform(effect, packs))
            }
        };
        self.performing.spawn(performing.map(move |happened| (number, happened)));
    }

    /// Figures of the accepted reports, and of what the coordinator stored itself.
    pub(crate) fn counts(&self) -> Counts {
        let own = &self.figures;
        let mut counts = *self.state.counts();
        counts.tree_blobs += own.tree_blobs;
        counts.bytes_added += own.bytes_added;
        counts.bytes_packed += own.bytes_packed;
        counts.dirs_new += own.dirs_new;
        counts.dirs_changed += own.dirs_changed;
        counts.dirs_unmodified += own.dirs_unmodified;
        counts
    }

    /// The committed tree.
    pub(crate) fn tree(&self) -> Option<Id> {
        self.state.tree()
    }

    async fn tick(&mut self) -> Result<(), JobError> {
        let (state, job) = (&self.performer.doors.state, &self.performer.job);
        if state.cancel_requested(job).await.unwrap_or(false) {
            self.apply(Event::CancelRequested);
        }
        // Read before the generation: a registry that was lost in between is not taken for who lives.
        let workers = self.performer.doors.state.workers().await;
        if let Some(generation) = open_again(&self.performer.doors, &self.performer.job, self.generation).await {
            self.generation = generation;
            self.collector.rewind();
            self.apply(Event::StateLost);
        }
        self.see_workers(workers);
        self.apply(Event::Tick);
        let alone = self.performer.doors.clock.monotonic().saturating_sub(self.last_worker_seen_at);
        if alone > self.wait_workers {
            return Err(JobError::NoWorkers { pool: self.performer.route.pool.clone() });
        }
        Ok(())
    }

    fn see_workers(&mut self, workers: Result<Vec<Heartbeat>, StateError>) {
        let Ok(workers) = workers else { return };
        let workers = of_pool(workers, &self.performer.doors.repository.id(), &self.performer.route.pool);
        if !workers.is_empty() {
            self.last_worker_seen_at = self.performer.doors.clock.monotonic();
        }
        let slots = workers.iter().map(|worker| worker.slots).sum();
        let holds = workers.iter().flat_map(|worker| worker.holds.iter().copied()).collect();
        let live: BTreeSet<_> = workers.into_iter().map(|worker| worker.worker).collect();
        self.apply(Event::Workers { live, holds, slots });
    }

    /// A notice of another job is left to that job's coordinator, through its reports.
    async fn take_notice(&mut self, notice: Option<Delivery>) {
        let Some(Delivery { message, receipt, .. }) = notice else { return };
        let doors = &self.performer.doors;
        let reason = message.last_error.clone().unwrap_or_default();
        let opened =
            Envelope::<Task>::open(&message.body, &self.performer.key, &doors.repository.id(), doors.clock.now());
        match opened {
            Ok(envelope) => {
                let task = envelope.body;
                let text = format!("after {} attempts", message.attempt);
                let dead = DeadReport { task: task.id, round: task.round, reason, message: text };
                if task.job == self.performer.job {
                    self.apply(Event::Dead(dead));
                } else if let Err(error) = pass_on(doors, &self.performer.key, &task.job, dead).await {
                    tracing::warn!(%error, "a notice of another job was not passed on");
                    return; // it comes again
                }
            }
            Err(error) => tracing::warn!(%error, reason, "a dead message of nobody"),
        }
        let _ = receipt.ack().await;
    }

    async fn checkpoint_if_due(&mut self) -> Result<(), JobError> {
        let now = self.performer.doors.clock.monotonic();
        let is_due = now >= self.checkpoint_due_at && self.reports_since_checkpoint;
        // A successor must find the lock under the name that it has now.
        let lock_is_new = !self.embedded && self.lock_noted != self.performer.committer.fence.lock.id();
        if !(is_due || lock_is_new) || self.state.has_ended() {
            return Ok(());
        }
        self.checkpoint_due_at = now + CHECKPOINT_EVERY;
        self.checkpoint().await
    }

    async fn checkpoint(&mut self) -> Result<(), JobError> {
        self.performer.doors.objects.persist(&self.performer.job).await?;
        if !self.embedded {
            // Finished directories of the checkpoint name these trees.
            for report in self.performer.assembler.flush().await? {
                self.apply(Event::PackReported(report));
            }
        }
        let checkpoint = self.standing();
        let committer = &self.performer.committer;
        committer.record.check_epoch().await?;
        committer.record.checkpoint(&checkpoint).await?;
        committer.record.check_epoch().await?;
        self.reports_since_checkpoint = false;
        self.lock_noted = checkpoint.lock;
        let position = self.collector.position();
        if let Err(error) = self.performer.doors.state.trim_reports(&self.performer.job, position).await {
            tracing::debug!(%error, "the report stream was not trimmed");
        }
        Ok(())
    }

    fn standing(&self) -> Checkpoint {
        let committer = &self.performer.committer;
        Checkpoint {
            state: self.state.clone(),
            under_way: self.under_way.values().cloned().collect(),
            generation: self.generation,
            position: self.collector.position().clone(),
            facts: self.performer.facts().1,
            figures: self.figures,
            index_files: committer.index_files(),
            lock: committer.fence.lock.id(),
        }
    }

    /// A job that ends without a snapshot leaves an index and a checkpoint, so that the next one need not begin anew.
    async fn keep_what_is_done(&mut self) {
        let mut packs = self.session.take_all();
        if packs.is_empty() && !self.performer.committer.record.has_begun().await {
            return;
        }
        let kept = async {
            packs.extend(self.performer.flush_own_packs().await?);
            if !packs.is_empty() {
                self.performer.write_index(&packs).await?;
            }
            self.checkpoint().await
        };
        if let Err(error) = kept.await {
            tracing::warn!(error = error.chain(), "what is done was not kept for the next run");
        }
    }
}

/// The job's own time: it goes on where it stood, whoever's clock it goes by.
struct JobTime {
    began: Duration,
    /// When that was, by this coordinator's clock.
    at: Duration,
}

impl JobTime {
    fn now(&self, clock: Duration) -> Duration {
        self.began + clock.saturating_sub(self.at)
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
