//! The only writer of a snapshot (DESIGN 2.2, 3.7).
//!
//! # Order
//! Packs durable, index durable, trees durable and indexed; then `commit` in the job's record, which holds the
//! finished bytes of the snapshot file; then exactly these under `snapshots/`; then the snapshot is read back.
//!
//! # Fence
//! Index files, `commit` and snapshots are put only within 10 s of having seen the own lock. A lock with a gap ends the
//! job: nothing is put any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

use crate::error::JobError;
use crate::parent::Parent;
use crate::record::JobRecord;

/// Written into every snapshot.
const PROGRAM_VERSION: &str = concat!("longshore ", env!("CARGO_PKG_VERSION"));

/// Puts index files and the snapshot of one job.
pub(crate) struct Committer {
    pub(crate) repository: Repository,
    pub(crate) lock: Arc<RepositoryLock>,
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
    /// Sees the own lock; what is put next is put under it.
    ///
    /// # Errors
    /// `LockLost`, `Fenced`.
    pub(crate) async fn fence(&self) -> Result<(), JobError> {
        self.lock.still_there().await?;
        self.record.check_epoch().await
    }

    pub(crate) fn note_index(&self) {
        self.index_files.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn index_files(&self) -> u64 {
        self.index_files.load(Ordering::Relaxed)
    }

    /// Commits `tree`; returns the snapshot, read back.
    ///
    /// # Errors
    /// What keeps the snapshot from being put; then nothing is visible.
    pub(crate) async fn commit(&self, tree: Id, counts: &Counts) -> Result<Id, JobError> {
        let snapshot = self.snapshot(tree, counts);
        let (id, bytes) = self.repository.seal_file_bytes(&snapshot.encode())?;
        self.fence().await?;
        let bytes = self.record.commit(&id, bytes).await?;
        self.fence().await?;
        let id = Id::of(&bytes); // that of the record, if an earlier coordinator wrote it
        self.repository.put_sealed(FileKind::Snapshot, &id, bytes).await?;
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
