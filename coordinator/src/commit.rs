//! The only writer of a snapshot (DESIGN 2.2, 3.7).
//!
//! # Order
//! Packs durable, index durable, trees durable and indexed; then `commit` in the job's record, which holds the
//! finished bytes of the snapshot file; then exactly these under `snapshots/`; then the snapshot is read back.
//!
//! # Fence
//! Index files, `commit` and snapshots are put through [`Fence::put`] only. A lock with a gap and a higher epoch end the
//! job: nothing is put any more, not even by a process that was stopped in the middle of a put and wakes up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::handles::{Clock, UnixTime};
use proto::id::Id;
use proto::job::BackupRequest;
use proto::report::Counts;
use repository::format::node_time::NodeTime;
use repository::format::quote::lossy;
use repository::format::snapshot::{Snapshot, Summary};
use repository::format::zone::Zone;
use repository::locks::RepositoryLock;
use repository::repository::{FileKind, Repository};

use crate::backup::BackupDone;
use crate::error::JobError;
use crate::parent::Parent;
use crate::record::{Finished, JobRecord};

/// Written into every snapshot.
const PROGRAM_VERSION: &str = concat!("longshore ", env!("CARGO_PKG_VERSION"));

/// A put that takes longer is dropped: by then the lock may be somebody else's. What is on its way by then may still
/// happen, as it may with restic.
const PUT_TIME_MAX: Duration = Duration::from_secs(30);

/// Lets through what may be put: under the own lock, by the coordinator that leads the job.
#[derive(Clone)]
pub(crate) struct Fence {
    pub(crate) lock: Arc<RepositoryLock>,
    /// None before a job has one.
    pub(crate) record: Option<Arc<JobRecord>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Fence {
    /// Sees the own lock, not longer than 10 s ago, and no higher epoch.
    ///
    /// # Errors
    /// `LockLost`, `Fenced`, and what the storage says.
    pub(crate) async fn pass(&self) -> Result<(), JobError> {
        loop {
            let seen = self.lock.still_there().await?;
            if let Some(record) = &self.record {
                record.check_epoch().await?;
            }
            if seen.is_recent(&*self.clock) {
                return Ok(());
            }
        }
    }

    /// Puts something behind the fence. What hangs is dropped and put again, behind another look: as long as the lock
    /// holds.
    ///
    /// # Errors
    /// As of [`Fence::pass`] and of `put`.
    pub(crate) async fn put<T, F>(&self, put: impl Fn() -> F) -> Result<T, JobError>
    where
        F: Future<Output = Result<T, JobError>>,
    {
        loop {
            self.pass().await?;
            tokio::select! {
                biased; // who wakes up late must not put
                () = self.clock.sleep(PUT_TIME_MAX) => tracing::debug!("a put hangs; it is tried again"),
                done = put() => return done,
            }
        }
    }
}

/// Puts index files and the snapshot of one job.
pub(crate) struct Committer {
    pub(crate) repository: Repository,
    pub(crate) fence: Fence,
    pub(crate) record: Arc<JobRecord>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) request: BackupRequest,
    pub(crate) zone: Zone,
    pub(crate) parent: Option<Parent>,
    pub(crate) started_at: UnixTime,
    /// Index files that were written.
    pub(crate) index_files: AtomicU64,
}

impl Committer {
    /// Puts a finished index file.
    ///
    /// # Errors
    /// As of [`Fence::put`].
    pub(crate) async fn put_index(&self, id: &Id, bytes: &Bytes) -> Result<(), JobError> {
        let put = || async { Ok(self.repository.put_sealed(FileKind::Index, id, bytes.clone()).await?) };
        self.fence.put(put).await?;
        self.index_files.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts those that a coordinator before this one wrote.
    pub(crate) fn count_index_files(&self, written: u64) {
        self.index_files.fetch_add(written, Ordering::Relaxed);
    }

    pub(crate) fn index_files(&self) -> u64 {
        self.index_files.load(Ordering::Relaxed)
    }

    /// Commits the tree of `done`, of which only the snapshot is open; returns the snapshot, read back.
    ///
    /// # Errors
    /// What keeps the snapshot from being put; then nothing is visible.
    pub(crate) async fn commit(&self, done: BackupDone) -> Result<Id, JobError> {
        let snapshot = self.snapshot(done.tree, &done.counts);
        let (_, file) = self.repository.seal_file_bytes(&snapshot.encode())?;
        let finished = Finished { file: file.to_vec(), done };
        // That of the record, if an earlier coordinator wrote it.
        let finished = self.fence.put(|| self.record.commit(finished.clone())).await?;
        self.put_snapshot(&finished).await
    }

    /// Puts the snapshot that was decided on; returns it, read back.
    ///
    /// # Errors
    /// As of [`Fence::put`]; then nobody knows whether it is there.
    pub(crate) async fn put_snapshot(&self, finished: &Finished) -> Result<Id, JobError> {
        let (id, file) = (finished.id(), Bytes::from(finished.file.clone()));
        let put = || async { Ok(self.repository.put_sealed(FileKind::Snapshot, &id, file.clone()).await?) };
        self.fence.put(put).await?;
        self.repository.load_file(FileKind::Snapshot, &id).await?;
        Ok(id)
    }

    fn snapshot(&self, tree: Id, counts: &Counts) -> Snapshot {
        let time = |instant| NodeTime::from_unix(instant, &self.zone);
        let request = &self.request;
        Snapshot {
            time: time(request.time.unwrap_or(self.started_at)),
            parent: self.parent.as_ref().map(|parent| parent.id),
            tree,
            paths: request.paths.iter().map(|path| lossy(&path.0)).collect(),
            hostname: request.hostname.clone(),
            username: request.username.clone(),
            uid: request.uid,
            gid: request.gid,
            excludes: request.excludes.clone(),
            tags: request.tags.clone(),
            original: None,
            program_version: PROGRAM_VERSION.to_owned(),
            summary: Some(Summary {
                backup_start: time(self.started_at),
                backup_end: time(self.clock.now()),
                files_new: counts.files_new,
                files_changed: counts.files_changed,
                files_unmodified: counts.files_unmodified,
                dirs_new: counts.dirs_new,
                dirs_changed: counts.dirs_changed,
                dirs_unmodified: counts.dirs_unmodified,
                data_blobs: counts.data_blobs,
                tree_blobs: counts.tree_blobs,
                data_added: counts.bytes_added,
                data_added_packed: counts.bytes_packed,
                total_files_processed: counts.files_new + counts.files_changed + counts.files_unmodified,
                total_bytes_processed: counts.bytes_processed,
            }),
        }
    }
}
