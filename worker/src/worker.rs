//! A worker: some slots that pull tasks, and a heartbeat that stops last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::queue::{QueueError, Route};
use fleet::state::Heartbeat;
use futures::future::join_all;
use proto::id::{Id, Round, WorkerId};
use proto::name::RawName;

use crate::check::Checks;
use crate::error::WorkerError;
pub use crate::job::Doors;
use crate::job::Jobs;
use crate::meter::Meter;
use crate::pull::Slot;
use crate::restore::{Restores, Targets};
use crate::running::RunningJobs;
pub use crate::stop::Drain;

/// How often a worker says that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);

/// How long to wait before a queue that failed is made again.
const DECLARE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A task that has not ended so long after the drain began is handed back: a worker leaves within a minute.
const HAND_BACK_AFTER: Duration = Duration::from_secs(45);

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who it is; anew at each start.
    pub worker: WorkerId,
    /// Whose tasks it takes.
    pub pool: String,
    /// Tasks that it does at once.
    pub slots: u32,
    /// What it reads, as snapshots name it; nothing named: the whole host.
    pub roots: Vec<RawName>,
    /// Where it restores to, as snapshots name it; nothing named: the whole host.
    pub restore_roots: Vec<RawName>,
    /// The host that it runs on, for people.
    pub host: String,
}

impl Default for Settings {
    /// One slot, the whole host.
    fn default() -> Self {
        let worker = match WorkerId::new("worker") {
            Ok(worker) => worker,
            Err(_) => unreachable!("letters are the id of a worker"),
        };
        Self {
            worker,
            pool: "default".to_owned(),
            slots: 1,
            roots: Vec::new(),
            restore_roots: Vec::new(),
            host: String::new(),
        }
    }
}

/// A worker.
pub struct Worker {
    shared: Arc<Shared>,
}

/// What the slots of one worker share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) doors: Doors,
    pub(crate) jobs: Jobs,
    pub(crate) running: RunningJobs,
    pub(crate) restores: Restores,
    pub(crate) checks: Checks,
    pub(crate) meter: Arc<Meter>,
    pub(crate) drain: Drain,
    holds: Mutex<BTreeMap<(Id, Round), u32>>,
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(settings: Settings, doors: Doors, drain: Drain) -> Self {
        let meter = Arc::new(Meter::default());
        let checks = Checks::new(&doors.cpu);
        let jobs = Jobs::new(doors.clone(), settings.worker.clone(), meter.clone());
        Self {
            shared: Arc::new(Shared {
                settings,
                doors,
                jobs,
                running: RunningJobs::default(),
                restores: Restores::default(),
                checks,
                meter,
                drain,
                holds: Mutex::default(),
            }),
        }
    }

    /// Lets it restore to `targets`; without it refuses restores.
    pub fn allow_restores(&self, targets: Arc<dyn Targets>) {
        self.shared.restores.allow(targets);
    }

    /// What it has done so far.
    pub fn meter(&self) -> Arc<Meter> {
        self.shared.meter.clone()
    }

    /// Shows what it has done, and how its slots stand. To be asked before each page of figures.
    pub fn show_figures(&self) {
        let settings = &self.shared.settings;
        let busy = self.shared.lock_holds().values().sum();
        crate::metrics::show_meter(&settings.pool, &self.shared.meter);
        crate::metrics::show_slots(settings.slots.max(1), busy, self.shared.drain.has_begun());
    }

    /// Works until it is drained and every slot has handed back.
    ///
    /// Dropping the future is a crash: its tasks are delivered again.
    ///
    /// # Errors
    /// When the task queue refuses for good.
    pub async fn run(&self) -> Result<(), WorkerError> {
        let shared = &self.shared;
        let route = Route::normal(&shared.settings.pool);
        while let Err(error) = shared.doors.queue.declare(&route).await {
            if !matches!(error, QueueError::Unavailable { .. }) {
                return Err(error.into());
            }
            tracing::warn!(%error, "the queue of tasks cannot be made");
            tokio::select! {
                biased;
                () = shared.drain.begun() => return Ok(()),
                () = shared.doors.clock.sleep(DECLARE_AGAIN_AFTER) => {}
            }
        }
        self.beat().await;
        let slots = (0..shared.settings.slots.max(1)).map(|_| Slot::new(shared.clone()).run(&route));
        let slots = join_all(slots);
        let ended = tokio::select! {
            biased;
            ended = slots => ended,
            () = self.heartbeats() => Vec::new(), // never ends
        };
        if let Err(error) = shared.doors.state.deregister(&shared.settings.worker).await {
            tracing::debug!(%error, "the registry still has this worker");
        }
        ended.into_iter().collect::<Result<(), QueueError>>()?;
        Ok(())
    }

    async fn heartbeats(&self) {
        loop {
            let drain = &self.shared.drain;
            let had_begun = drain.has_begun();
            tokio::select! {
                biased;
                () = self.shared.doors.clock.sleep(HEARTBEAT_EVERY) => {}
                () = drain.begun(), if !had_begun => {} // those who choose workers shall know at once
            }
            self.beat().await;
            self.see_whether_to_drain().await;
        }
    }

    /// Somebody may ask for it through the job state.
    async fn see_whether_to_drain(&self) {
        let shared = &self.shared;
        if shared.drain.has_begun() {
            return;
        }
        // Heard of again with the next heartbeat.
        if shared.doors.state.drain_requested(&shared.settings.worker).await.unwrap_or(false) {
            tracing::info!("somebody asked this worker to drain");
            shared.drain.begin();
        }
    }

    async fn beat(&self) {
        let (shared, settings) = (&self.shared, &self.shared.settings);
        let holds = shared.lock_holds().clone();
        let heartbeat = Heartbeat {
            worker: settings.worker.clone(),
            pool: settings.pool.clone(),
            slots: settings.slots.max(1),
            busy: holds.values().sum(),
            holds: holds.into_keys().collect(),
            draining: shared.drain.has_begun(),
            said_at: shared.doors.clock.now(),
            repository: shared.doors.repository.id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roots: settings.roots.clone(),
            restore_roots: settings.restore_roots.clone(),
            host: settings.host.clone(),
        };
        if let Err(error) = shared.doors.state.heartbeat(&heartbeat).await {
            tracing::warn!(%error, "no heartbeat");
        }
    }
}

impl Shared {
    /// Waits until a task must be handed back.
    pub(crate) async fn must_hand_back(&self) {
        self.drain.begun().await;
        self.doors.clock.sleep(HAND_BACK_AFTER).await;
    }

    fn lock_holds(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Id, Round), u32>> {
        // Nothing panics while it is held; a poisoned lock holds a whole map.
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The heartbeat names the task until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>, task: Id, round: Round) -> Hold {
        *self.lock_holds().entry((task, round)).or_default() += 1;
        Hold { shared: self.clone(), key: (task, round) }
    }
}

/// A task that this worker holds.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    key: (Id, Round),
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.shared.lock_holds();
        if let Some(count) = holds.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.key);
            }
        }
    }
}
