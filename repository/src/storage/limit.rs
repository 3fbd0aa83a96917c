//! A wrapper that bounds how many requests run at once and how many bytes a second they move.
//!
//! # Cancellation
//! A request that is dropped while it waits has used up the bytes it reserved: the rate is then
//! lower than allowed for a moment, never higher.

use std::fmt;
use std::future::Future;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::Clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Body, Page, Storage, StorageError};

/// What [`Limit`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once.
    pub requests_at_once: NonZeroUsize,
    /// Bytes a second of puts; `None` is unlimited.
    pub upload_bytes_per_second: Option<NonZeroU64>,
    /// Bytes a second of gets; `None` is unlimited.
    pub download_bytes_per_second: Option<NonZeroU64>,
}

impl Default for Limits {
    /// 5 requests at once, as many connections as restic makes to Azure; no limit on bytes.
    fn default() -> Self {
        const REQUESTS_AT_ONCE: NonZeroUsize = NonZeroUsize::new(5).unwrap();
        Self { requests_at_once: REQUESTS_AT_ONCE, upload_bytes_per_second: None, download_bytes_per_second: None }
    }
}

/// Lets requests wait for their turn, first come first served.
pub struct Limit {
    inner: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    upload: Option<Rate>,
    download: Option<Rate>,
}

impl Limit {
    /// Bounds the calls to `inner` by `limits`.
    pub fn new(inner: Arc<dyn Storage>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let places = Arc::new(Semaphore::new(limits.requests_at_once.get().min(Semaphore::MAX_PERMITS)));
        let upload = limits.upload_bytes_per_second.map(Rate::new);
        let download = limits.download_bytes_per_second.map(Rate::new);
        Self { inner, clock, places, upload, download }
    }

    /// Waits and calls in a task of its own: a caller that is not polled for a while must not keep a place, as what it
    /// waits for instead may need one.
    async fn in_turn<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> T {
        let places = self.places.clone();
        let mut turn = JoinSet::new();
        turn.spawn(async move {
            let _place = places.acquire().await.expect("the semaphore is never closed");
            call.await
        });
        match turn.join_next().await.expect("one call was begun") {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Waits until `rate` lets `bytes` more begin.
    async fn pace(&self, rate: Option<&Rate>, bytes: u64) {
        if let Some(rate) = rate {
            let now = self.clock.monotonic();
            let start = rate.reserve(now, bytes);
            if start > now {
                self.clock.sleep(start - now).await;
            }
        }
    }
}

/// Bytes a second, as the time at which the bytes that were let through so far are paid for.
struct Rate {
    bytes_per_second: NonZeroU64,
    paid_until: Mutex<Duration>,
}

impl Rate {
    fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, paid_until: Mutex::new(Duration::ZERO) }
    }

    /// When `bytes` more may begin.
    fn reserve(&self, now: Duration, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // One assignment, so a panic elsewhere leaves it whole.
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let start = now.max(*paid_until);
        *paid_until = start.saturating_add(cost);
        start
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Limit").field(&self.inner).finish()
    }
}

#[async_trait]
impl Storage for Limit {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        self.pace(self.upload.as_ref(), body.len()).await;
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.in_turn(async move { inner.put(&name, body).await }).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        let known = range.as_ref().map(|range| range.end.saturating_sub(range.start));
        self.pace(self.download.as_ref(), known.unwrap_or(0)).await;
        let (inner, name) = (self.inner.clone(), name.to_owned());
        let result = self.in_turn(async move { inner.get(&name, range).await }).await;
        if let (None, Some(rate), Ok(bytes)) = (known, &self.download, &result) {
            // What a whole object weighs shows afterwards: the next one waits for it.
            rate.reserve(self.clock.monotonic(), bytes.len() as u64);
        }
        result
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.in_turn(async move { inner.size(&name).await }).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        let (inner, prefix, from) = (self.inner.clone(), prefix.to_owned(), from.map(str::to_owned));
        self.in_turn(async move { inner.list(&prefix, from.as_deref()).await }).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.in_turn(async move { inner.delete(&name).await }).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        let inner = self.inner.clone();
        self.in_turn(async move { inner.create().await }).await
    }

    fn clock_offset_seconds(&self) -> Option<i64> {
        self.inner.clock_offset_seconds()
    }
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
