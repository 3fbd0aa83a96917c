//! What a worker has done so far: for progress that people see, not for the result of a job.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow.
#[derive(Debug, Default)]
pub struct Meter {
    /// Entries walked.
    pub entries: AtomicU64,
    /// Bytes of files that are done: read, or found unchanged.
    pub bytes_done: AtomicU64,
    /// Bytes read from the source.
    pub bytes_read: AtomicU64,
    /// Bytes of packs that are stored.
    pub bytes_stored: AtomicU64,
    /// Bytes of files that were cut in chunks.
    pub bytes_cut: AtomicU64,
    /// Bytes of chunks and trees that were stored already.
    pub bytes_deduplicated: AtomicU64,
    /// Bytes of the others, compressed and encrypted.
    pub bytes_sealed: AtomicU64,
    /// Bytes of files that were written by restores.
    pub bytes_restored: AtomicU64,
    /// Bytes of packs that were read and compared.
    pub bytes_verified: AtomicU64,
    /// Tasks whose result was reported.
    pub tasks_done: AtomicU64,
}

impl Meter {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn total(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
