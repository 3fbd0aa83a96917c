//! A whole fleet in one process: local doors, one coordinator, some workers.
//!
//! The same coordinator and workers as in a fleet; only the doors differ.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coordinator::Doors;
use coordinator::backup::{self, BackupDone, Settings};
use coordinator::error::JobError;
use coordinator::job::Progress;
use fleet::cpu::Cpu;
use fleet::objects::EmbeddedObjects;
use fleet::queue::LocalQueue;
use fleet::state::LocalState;
use proto::id::{JobId, WorkerId};
use proto::job::Submission;
use repository::repository::Repository;
use sources::source::Source;
use tokio::sync::watch;
use tokio::task::JoinSet;
use worker::meter::Meter;
use worker::worker::{Drain, Settings as WorkerSettings, Worker};

use crate::exit::CommandError;
use crate::holding::lock_request;
use crate::session::Session;
use crate::signals::Signals;

/// The pool that every worker of this process is in.
pub(crate) const POOL: &str = "default";
/// What comes within this time is one signal: a shell and a wrapper may both send it.
const ONE_SIGNAL: Duration = Duration::from_secs(1);
/// How long workers may take to leave once there is nothing to do any more.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// Workers are in this process: if there is none, there will be none.
const WAIT_WORKERS: Duration = Duration::from_secs(10);

/// Doors, workers that wait for tasks, and what a coordinator needs.
pub(crate) struct EmbeddedFleet {
    doors: Doors,
    settings: Settings,
    workers: Vec<Worker>,
    drain: Drain,
}

impl EmbeddedFleet {
    /// A fleet of `workers` workers on `source`, each with as many slots as this machine has cores.
    pub(crate) fn new(session: &Session, repository: &Repository, source: Arc<dyn Source>, workers: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let doors = Doors {
            queue: Arc::new(LocalQueue::new(session.clock.clone())),
            state: Arc::new(LocalState::new(session.clock.clone())),
            objects: Arc::new(EmbeddedObjects::new(repository.clone())),
            repository: repository.clone(),
            clock: session.clock.clone(),
            cpu: Cpu::threads(cores),
            cache: session.cache(&repository.id()),
        };
        let drain = Drain::default();
        let worker = |number: u32| {
            let settings = WorkerSettings {
                worker: worker_id(number),
                pool: POOL.to_owned(),
                slots: u32::try_from(cores).unwrap_or(1),
            };
            Worker::new(settings, worker_doors(&doors, source.clone()), drain.clone())
        };
        let workers = (1..=workers.max(1)).map(worker).collect();
        let settings = Settings {
            lock: lock_request(session, false),
            embedded: true,
            retry_lock: None,
            wait_workers: WAIT_WORKERS,
        };
        Self { settings, doors, workers, drain }
    }

    /// What the workers measure.
    pub(crate) fn meters(&self) -> Vec<Arc<Meter>> {
        self.workers.iter().map(Worker::meter).collect()
    }

    /// A fresh job id.
    pub(crate) fn new_job_id(&self) -> JobId {
        backup::new_job_id(&self.doors)
    }

    /// Runs a backup to its end. A first signal to stop cancels it; a second one ends the waiting.
    pub(crate) async fn back_up(
        self,
        submission: &Submission,
        progress: &watch::Sender<Progress>,
        signals: &mut Signals,
        watching: impl Future<Output = ()>,
    ) -> Result<BackupDone, CommandError> {
        let mut working = JoinSet::new();
        for worker in self.workers {
            working.spawn(async move { worker.run().await });
        }
        let job = backup::run(&self.doors, submission, &self.settings, progress);
        tokio::pin!(job, watching);
        let clock = self.doors.clock.clone();
        let mut stopping_since = None;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut job => break ended.map_err(CommandError::from),
                () = signals.stop() => {
                    let now = clock.monotonic();
                    if now > *stopping_since.get_or_insert(now) + ONE_SIGNAL {
                        break Err(CommandError::Abandoned);
                    }
                    self.doors.state.request_cancel(&submission.job).await.map_err(JobError::from)?;
                }
                () = &mut watching => {} // never ends
                Some(Err(error)) = working.join_next() => tracing::error!(%error, "a worker failed"),
            }
        };
        self.drain.begin();
        let leaving = async { while working.join_next().await.is_some() {} };
        tokio::select! {
            () = leaving => {}
            () = self.doors.clock.sleep(LEAVE_MAX), if ended.is_ok() => {}
            () = std::future::ready(()), if ended.is_err() => {} // their tasks are nobody's any more
        }
        ended
    }
}

fn worker_doors(doors: &Doors, source: Arc<dyn Source>) -> worker::worker::Doors {
    worker::worker::Doors {
        queue: doors.queue.clone(),
        state: doors.state.clone(),
        objects: doors.objects.clone(),
        source,
        repository: doors.repository.clone(),
        clock: doors.clock.clone(),
        cpu: doors.cpu.clone(),
        cache: doors.cache.clone(),
    }
}

fn worker_id(number: u32) -> WorkerId {
    match WorkerId::new(format!("embedded-{number}")) {
        Ok(id) => id,
        Err(_) => unreachable!("it is made of letters, a dash and digits"),
    }
}
