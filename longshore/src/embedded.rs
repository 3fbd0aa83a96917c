//! A whole fleet in one process: local doors, one coordinator, some workers.
//!
//! The same coordinator and workers as in a fleet; only the doors differ.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coordinator::Doors;
use coordinator::backup::{self, BackupDone};
use coordinator::error::JobError;
use coordinator::job::Progress;
use coordinator::restore::{self, RestoreDone};
use fleet::cpu::Cpu;
use fleet::objects::EmbeddedObjects;
use fleet::queue::LocalQueue;
use fleet::state::LocalState;
use proto::id::{JobId, WorkerId};
use proto::job::{Budget, RestoreRequest, Submission};
use repository::locks::LockRequest;
use repository::repository::Repository;
use sources::files::FileSource;
use tokio::sync::watch;
use tokio::task::JoinSet;
use worker::meter::Meter;
use worker::restore::HostTargets;
use worker::worker::{Drain, Settings as WorkerSettings, Worker};

use crate::exit::CommandError;
use crate::holding::lock_request;
use crate::output::printable;
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

/// Doors, and workers that wait for tasks.
pub(crate) struct EmbeddedFleet {
    doors: Doors,
    lock: LockRequest,
    workers: Vec<Arc<Worker>>,
    drain: Drain,
}

/// What goes on beside a job.
pub(crate) struct Beside<'a, W> {
    /// A first signal to stop cancels the job; a second one ends the waiting.
    pub(crate) signals: &'a mut Signals,
    /// Shows the progress; never ends.
    pub(crate) watching: W,
}

impl EmbeddedFleet {
    /// A fleet of `workers` workers on the files of this host, each with as many slots as it has cores.
    pub(crate) fn new(session: &Session, repository: &Repository, workers: u32) -> Self {
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
                ..WorkerSettings::default()
            };
            let worker = Worker::new(settings, worker_doors(&doors), drain.clone());
            worker.allow_restores(Arc::new(HostTargets));
            Arc::new(worker)
        };
        let workers = (1..=workers.max(1)).map(worker).collect();
        Self { lock: lock_request(session, false), doors, workers, drain }
    }

    /// What the workers measure.
    pub(crate) fn meters(&self) -> Vec<Arc<Meter>> {
        self.workers.iter().map(|worker| worker.meter()).collect()
    }

    /// A fresh job id.
    pub(crate) fn new_job_id(&self) -> JobId {
        backup::new_job_id(&self.doors)
    }

    /// Runs a backup to its end.
    pub(crate) async fn back_up(
        &self,
        submission: &Submission,
        progress: &watch::Sender<Progress>,
        beside: Beside<'_, impl Future<Output = ()>>,
    ) -> Result<BackupDone, CommandError> {
        let settings = backup::Settings {
            lock: self.lock.clone(),
            embedded: true,
            retry_lock: None,
            wait_workers: WAIT_WORKERS,
            leadership: None,
        };
        self.run(&submission.job, backup::run(&self.doors, submission, &settings, progress), beside).await
    }

    /// Runs a restore to its end. Without a budget one task does it all.
    pub(crate) async fn restore(
        &self,
        request: &RestoreRequest,
        budget: Option<Budget>,
        takes_lock: bool,
        progress: &watch::Sender<Progress>,
        beside: Beside<'_, impl Future<Output = ()>>,
    ) -> Result<RestoreDone, CommandError> {
        let job = self.new_job_id();
        let settings = restore::Settings {
            job: Some(job.clone()),
            pool: POOL.to_owned(),
            lock: takes_lock.then(|| self.lock.clone()),
            embedded: true,
            budget,
            retry_lock: None,
            wait_workers: WAIT_WORKERS,
            leadership: None,
        };
        let restored = self.run(&job, restore::run(&self.doors, request, &settings, progress), beside).await;
        let target = || printable(&request.target.0);
        restored.map_err(|error| match error {
            CommandError::Job(source) => CommandError::Restore { target: target(), source: Box::new(source) },
            error => error,
        })
    }

    async fn run<T>(
        &self,
        id: &JobId,
        job: impl Future<Output = Result<T, JobError>>,
        beside: Beside<'_, impl Future<Output = ()>>,
    ) -> Result<T, CommandError> {
        let mut working = JoinSet::new();
        for worker in &self.workers {
            let worker = worker.clone();
            working.spawn(async move { worker.run().await });
        }
        let Beside { signals, watching } = beside;
        tokio::pin!(job, watching);
        let clock = &self.doors.clock;
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
                    self.doors.state.request_cancel(id).await.map_err(JobError::from)?;
                }
                () = &mut watching => {} // never ends
                Some(Err(error)) = working.join_next() => tracing::error!(%error, "a worker failed"),
            }
        };
        self.drain.begin();
        let leaving = async { while working.join_next().await.is_some() {} };
        tokio::select! {
            () = leaving => {}
            () = clock.sleep(LEAVE_MAX), if ended.is_ok() => {}
            () = std::future::ready(()), if ended.is_err() => {} // their tasks are nobody's any more
        }
        ended
    }
}

fn worker_doors(doors: &Doors) -> worker::worker::Doors {
    worker::worker::Doors {
        queue: doors.queue.clone(),
        state: doors.state.clone(),
        objects: doors.objects.clone(),
        source: Arc::new(FileSource::whole_host()),
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
