//! A wrapper that tries again what failed for a moment.
//!
//! # Retries
//! Errors that are transient ([`StorageError::is_transient`]) are tried again after a random time
//! below a bound that doubles (full jitter), until the next try would begin later than allowed.
//! Then the last error is returned. Where the service asks for a longer wait it gets it. Patience is
//! short until the storage has answered once, be it that it is busy: what was never there is rather
//! misnamed than away.
//!
//! # Create-only after a lost answer
//! A put whose answer was lost may have happened; the next try then finds the name taken, by its
//! own write. Therefore, once a try of a put ended in `Unknown`, `AlreadyThere` makes this wrapper
//! read the object back. The same bytes: success. Others: `AlreadyThere`. Objects longer than
//! [`COMPARED_BYTES_MAX`] are told by their length alone: those have the hash of their content as
//! name, or a name that one writer has for itself.
//!
//! Two writers of the *same* bytes under the same name may both be told that they created it. Who
//! needs to be the only one (an epoch, a commit) writes something of its own into the object.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::{Clock, Random, RandomExt};

use super::meter::Counters;
use super::{Body, Failure, Operation, Page, Storage, StorageError, StorageErrorKind};

/// Objects up to this length are compared byte for byte after a lost answer.
pub const COMPARED_BYTES_MAX: u64 = 4 << 20;

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the wait before the second try; doubles with each further one.
    pub first: Duration,
    /// The bound does not grow beyond this.
    pub longest: Duration,
    /// No try begins later than this after the first.
    pub give_up_after: Duration,
    /// The same while the storage has not answered any call yet; the shorter one counts.
    pub first_answer_within: Duration,
}

impl Default for Backoff {
    /// As patient as restic, which gives up after 15 minutes.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            give_up_after: Duration::from_secs(15 * 60),
            first_answer_within: Duration::MAX,
        }
    }
}

/// Tries calls again.
pub struct Retry {
    inner: Arc<dyn Storage>,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counters: Arc<Counters>,
    /// Some call had an answer.
    has_answered: AtomicBool,
}

impl Retry {
    /// Tries calls to `inner` again as `backoff` says, and counts that in `counters`.
    pub fn new(
        inner: Arc<dyn Storage>,
        backoff: Backoff,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { inner, backoff, clock, random, counters, has_answered: AtomicBool::new(false) }
    }

    fn patience(&self, operation: Operation) -> Patience<'_> {
        Patience { retry: self, operation, start: self.clock.monotonic(), bound: self.backoff.first }
    }

    async fn insist<T, F>(&self, patience: &mut Patience<'_>, mut call: impl FnMut() -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        loop {
            match call().await {
                Err(error) if error.is_transient() => patience.wait_after(error).await?,
                result => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    return result;
                }
            }
        }
    }

    /// After `AlreadyThere` for a put that may have happened before: was it ours?
    ///
    /// # Errors
    /// `taken` if it was not; `Unknown` if that cannot be found out.
    async fn recognise(
        &self,
        patience: &mut Patience<'_>,
        name: &str,
        body: &Body,
        taken: StorageError,
    ) -> Result<(), StorageError> {
        let failure = match self.is_stored(patience, name, body).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(taken),
            Err(failure) => failure,
        };
        let failure = Failure { kind: StorageErrorKind::Unknown, ..failure };
        Err(StorageError::new(Operation::Put, name, self.location(), failure))
    }

    /// Whether `name` holds what `body` does.
    async fn is_stored(&self, patience: &mut Patience<'_>, name: &str, body: &Body) -> Result<bool, Failure> {
        let cause = |error: StorageError| Failure::new(error.kind, error);
        let size = self.insist(patience, || self.inner.size(name)).await.map_err(cause)?;
        if size != body.len() || size > COMPARED_BYTES_MAX {
            return Ok(size == body.len());
        }
        let stored = self.insist(patience, || self.inner.get(name, None)).await.map_err(cause)?;
        Ok(stored == body.read(0..size)?)
    }
}

/// The time that is left for one call and its tries.
struct Patience<'r> {
    retry: &'r Retry,
    operation: Operation,
    start: Duration,
    bound: Duration,
}

impl Patience<'_> {
    /// Waits for the next try, or gives `error` back when there is no time for one.
    async fn wait_after(&mut self, error: StorageError) -> Result<(), StorageError> {
        let Retry { backoff, clock, random, counters, has_answered, .. } = self.retry;
        let bound_nanos = u64::try_from(self.bound.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Never quite zero, so that tries end even where time stands still between them.
        let wait = Duration::from_nanos(random.below(bound_nanos)) + Duration::from_millis(1);
        let wait = wait.max(error.retry_after.unwrap_or_default());
        if error.is_answer {
            has_answered.store(true, Ordering::Relaxed);
        }
        let waited = clock.monotonic().saturating_sub(self.start);
        let limit = match has_answered.load(Ordering::Relaxed) {
            true => backoff.give_up_after,
            false => backoff.first_answer_within.min(backoff.give_up_after),
        };
        if waited.saturating_add(wait) > limit {
            return Err(error);
        }
        tracing::debug!(error = &error as &dyn std::error::Error, kind = error.kind.label(), ?wait, "storage: again");
        counters.count_retry(self.operation);
        clock.sleep(wait).await;
        self.bound = self.bound.saturating_mul(2).min(backoff.longest);
        Ok(())
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Retry").field(&self.inner).finish()
    }
}

#[async_trait]
impl Storage for Retry {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        let mut patience = self.patience(Operation::Put);
        let mut may_be_there = false;
        loop {
            match self.inner.put(name, body.clone()).await {
                Err(error) if error.is_transient() => {
                    may_be_there |= error.kind == StorageErrorKind::Unknown;
                    patience.wait_after(error).await.map_err(|error| still_open(error, may_be_there))?;
                }
                Err(error) if error.kind == StorageErrorKind::AlreadyThere && may_be_there => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    return self.recognise(&mut patience, name, &body, error).await;
                }
                result => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    return result.map_err(|error| still_open(error, may_be_there));
                }
            }
        }
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        self.insist(&mut self.patience(Operation::Get), || self.inner.get(name, range.clone())).await
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.insist(&mut self.patience(Operation::Size), || self.inner.size(name)).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.insist(&mut self.patience(Operation::List), || self.inner.list(prefix, from)).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.insist(&mut self.patience(Operation::Delete), || self.inner.delete(name)).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.insist(&mut self.patience(Operation::Create), || self.inner.create()).await
    }

    fn clock_offset_seconds(&self) -> Option<i64> {
        self.inner.clock_offset_seconds()
    }
}

/// A put that ends with "nothing happened" has an open outcome all the same if an earlier try had.
fn still_open(error: StorageError, may_be_there: bool) -> StorageError {
    match error.kind {
        StorageErrorKind::Unavailable if may_be_there => StorageError { kind: StorageErrorKind::Unknown, ..error },
        _ => error,
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
