//! A coordinator of a fleet: takes submissions, leads several jobs at once, and goes on with what others left.
//!
//! # Order
//! A job is in this coordinator's heartbeat before anything of it is in the repository. A submission is acknowledged when
//! the job's `submitted` is durable: from then on the record is what must not be lost, not the message.
//!
//! # Repetition
//! `submitted` is create-only: whoever finds it there attaches, and nothing is begun twice. A submission with an
//! idempotency key has the job id that follows from the key.
//!
//! # Crash
//! A job whose record has no result and that no live coordinator leads is gone on with by another one, or by this one
//! after a restart: backups from their checkpoint, what has none as a new job.
//!
//! # Stop
//! Jobs are left to others as a crash would leave them, after a last checkpoint and at once: their submissions are
//! published again, with a hint that nobody needs to wait until a leader has fallen silent. If there is no other
//! coordinator the message waits for the next one.

mod accept;
mod document;
mod inherit;
mod intake;
mod notices;
mod work;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet::queue::Route;
use futures::FutureExt;
use proto::auth::MessageKey;
use proto::id::JobId;
use repository::locks::LockRequest;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use self::document::Ended;
use crate::Doors;
use crate::error::JobError;
use crate::heartbeat::HEARTBEAT_EVERY;
pub use crate::heartbeat::new_coordinator_id;
use crate::leadership::Leadership;

/// Jobs that are handed from who finds them to who begins them.
const ASSIGNMENTS_WAITING: usize = 16;
/// How long jobs may take to be handed over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait before a service that failed is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The last error in the message of a submission that a coordinator published because it stops.
pub(crate) const HANDED_OVER: &str = "handed_over";

/// How a coordinator of a fleet works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The locks of its jobs; the job is filled in.
    pub lock: LockRequest,
    /// Jobs that are done at once. As many more may wait for their turn.
    pub jobs_at_once: usize,
    /// How long to wait for a lock that others hold.
    pub retry_lock: Option<Duration>,
    /// A job that has no live worker for so long fails.
    pub wait_workers: Duration,
}

/// What the parts of a coordinator share.
struct Desk {
    doors: Doors,
    settings: Settings,
    leadership: Leadership,
    key: MessageKey,
    /// For jobs that are being done.
    places: Semaphore,
    /// For jobs that are being done, or wait for their turn.
    room: Arc<Semaphore>,
    /// Takeovers that failed, by job.
    failed_takeovers: Mutex<BTreeMap<JobId, u32>>,
    /// Jobs that ended here.
    ended: Mutex<Ended>,
    /// The pool that was refused last, and when.
    refused_pool: Mutex<Option<(String, Duration)>>,
}

/// Works until `leadership` is asked to stop and every job is handed over. Services that are away are waited for.
///
/// Dropping the future is a crash.
///
/// # Errors
/// None so far: what goes wrong with a job ends that job.
pub async fn run(doors: &Doors, settings: &Settings, leadership: &Leadership) -> Result<(), JobError> {
    let desk = Arc::new(Desk::new(doors, settings, leadership));
    let (begin, mut assignments) = mpsc::channel(ASSIGNMENTS_WAITING);
    let mut jobs = JoinSet::new();
    let mut background = Box::pin(async { tokio::join!(desk.beat(), desk.read_notices(), desk.keep_ends()) });
    {
        let mut finding = Box::pin(async {
            desk.declare_pools().await;
            tokio::join!(desk.take_submissions(&begin), desk.inherit(&begin))
        });
        loop {
            tokio::select! {
                biased;
                () = leadership.stopping() => break,
                Some(assignment) = assignments.recv() => {
                    jobs.spawn(work::run(desk.clone(), assignment).boxed());
                }
                Some(ended) = jobs.join_next(), if !jobs.is_empty() => note_panic(ended),
                _ = &mut background => {} // never
                _ = &mut finding => {} // never
            }
        }
    }
    tracing::info!(jobs = jobs.len(), "stops; jobs are left to other coordinators");
    assignments.close();
    while let Some(assignment) = assignments.recv().await {
        work::leave(&desk, assignment).await;
    }
    let leaving = async {
        while let Some(ended) = jobs.join_next().await {
            note_panic(ended);
        }
    };
    tokio::select! {
        biased;
        () = leaving => {}
        _ = &mut background => {} // never
        () = doors.clock.sleep(HAND_OVER_WITHIN) => tracing::warn!("not every job could be handed over in time"),
    }
    jobs.shutdown().await;
    if let Err(error) = doors.state.deregister_coordinator(leadership.coordinator()).await {
        tracing::debug!(%error, "the registry still names this coordinator for a while");
    }
    Ok(())
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a job failed in a way that nobody foresaw; it will be taken over");
    }
}

impl Desk {
    fn new(doors: &Doors, settings: &Settings, leadership: &Leadership) -> Self {
        let repository = &doors.repository;
        let places = settings.jobs_at_once.max(1);
        Self {
            doors: doors.clone(),
            settings: settings.clone(),
            leadership: leadership.clone(),
            key: MessageKey::derive(&*repository.master_key().material(), &repository.id()),
            places: Semaphore::new(places),
            room: Arc::new(Semaphore::new(2 * places)),
            failed_takeovers: Mutex::default(),
            ended: Mutex::default(),
            refused_pool: Mutex::default(),
        }
    }

    /// Says again and again which jobs it leads, also when it leads none.
    async fn beat(&self) -> Infallible {
        loop {
            self.leadership.beat(&self.doors).await;
            self.doors.clock.sleep(HEARTBEAT_EVERY).await;
        }
    }

    /// Makes the queues of the pools that it was told of.
    async fn declare_pools(&self) {
        for pool in self.leadership.pools() {
            let route = Route::normal(pool);
            while let Err(error) = self.doors.queue.declare(&route).await {
                tracing::warn!(%error, pool, "the queue of a pool cannot be made");
                self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
            }
        }
    }
}
