//! Packs to storage, create-only; each is reported once it is durable, and only then made known to others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::state::{JobState, StateError};
use proto::auth::MessageKey;
use proto::handles::Clock;
use proto::id::{Id, JobId, WorkerId};
use proto::report::{PackReport, Report};
use repository::format::pack::BlobType;
use repository::storage::{Storage, StorageErrorKind};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::dedupe::{Fate, Loss};
use crate::error::WorkerError;
use crate::meter::Meter;
use crate::pack::ClosedPack;
use crate::report::Reporter;

/// Packs that are uploaded at once.
const UPLOADS: usize = 4;
/// How long a report is tried again while the job state is away.
const REPORT_TRIES: u32 = 20;

/// Uploads packs in the background. Dropping it stops what runs.
pub(crate) struct Uploader {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    running: Mutex<JoinSet<()>>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    state: Arc<dyn JobState>,
    reporter: Reporter,
    key: MessageKey,
    repository: Id,
    worker: WorkerId,
    meter: Arc<Meter>,
}

impl Uploader {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        state: Arc<dyn JobState>,
        reporter: Reporter,
        key: MessageKey,
        repository: Id,
        worker: WorkerId,
        meter: Arc<Meter>,
    ) -> Self {
        let shared = Arc::new(Shared { storage, state, reporter, key, repository, worker, meter });
        Self { shared, permits: Arc::new(Semaphore::new(UPLOADS)), running: Mutex::default() }
    }

    /// Begins to upload; waits while too many packs are on their way.
    pub(crate) async fn begin(&self, closed: ClosedPack) {
        let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
        let shared = self.shared.clone();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            let ClosedPack { pack, fate, group_commit } = closed;
            let id = pack.id;
            let outcome = shared.store(pack, group_commit).await;
            if let Err(error) = &outcome {
                tracing::warn!(pack = %id, error = error.chain(), "a pack was not stored");
            }
            fate.send_replace(match outcome {
                Ok(()) => Fate::Stored(id),
                Err(error) => Fate::Lost(Loss { transient: error.is_transient(), reason: error.chain().into() }),
            });
            drop(permit);
        });
    }
}

impl Shared {
    async fn store(&self, pack: repository::pack_writer::FinishedPack, group_commit: u32) -> Result<(), WorkerError> {
        let id = pack.id.to_string();
        let name = format!("data/{}/{id}", &id[..2]);
        let blobs: Vec<u64> =
            pack.entries.iter().map(|entry| self.key.blind(entry.kind == BlobType::Tree, &entry.id)).collect();
        let header_bytes = header_bytes(pack.length, &pack.entries);
        match self.storage.put(&name, pack.body).await {
            Ok(()) => {}
            // The name is the digest of the content: whoever wrote it wrote the same.
            Err(error) if error.kind == StorageErrorKind::AlreadyThere => {}
            Err(error) => return Err(error.into()),
        }
        Meter::add(&self.meter.bytes_stored, pack.length);
        let worker = self.worker.clone();
        let report = PackReport { pack: pack.id, size: pack.length, header_bytes, worker, group_commit };
        self.reporter.send(&Report::Pack(report)).await?;
        if let Err(error) = self.state.add_known_blobs(&self.repository, &blobs).await {
            tracing::debug!(%error, "others do not hear of this pack"); // costs a second upload at most
        }
        Ok(())
    }
}

fn header_bytes(length: u64, entries: &[repository::format::pack::PackEntry]) -> u32 {
    let blobs: u64 = entries.iter().map(|entry| u64::from(entry.length)).sum();
    u32::try_from(length - blobs - 4).unwrap_or(u32::MAX)
}

/// Appends a report, waiting while the job state is away or full.
pub(crate) async fn append(
    state: &dyn JobState,
    clock: &dyn Clock,
    job: &JobId,
    report: bytes::Bytes,
) -> Result<(), WorkerError> {
    let mut wait = Duration::from_millis(200);
    for attempt in 1.. {
        match state.append_report(job, report.clone()).await {
            Ok(()) => return Ok(()),
            Err(error @ StateError::Denied { .. }) => return Err(error.into()),
            Err(error) if attempt >= REPORT_TRIES => return Err(error.into()),
            Err(_) => clock.sleep(wait).await,
        }
        wait = (wait * 2).min(Duration::from_secs(10));
    }
    Ok(())
}
