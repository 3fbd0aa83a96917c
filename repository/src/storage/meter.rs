//! A wrapper that counts what was asked of a storage, how it ended and how long it took.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proto::handles::Clock;

use super::{Body, Operation, Page, Storage, StorageError, StorageErrorKind};

/// Upper bounds of the duration buckets; one more bucket holds what took longer. From a cached
/// local read to the 60 s after which an Azure call is given up.
pub const DURATION_BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
    Duration::from_secs(60),
];

const OPERATIONS: usize = Operation::ALL.len();
/// Success and every kind of error.
const OUTCOMES: usize = 1 + StorageErrorKind::ALL.len();
const BUCKETS: usize = DURATION_BOUNDS.len() + 1;

/// Running totals of one storage. Written by [`Meter`] and [`super::retry::Retry`], read by
/// whoever shows figures.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [[AtomicU64; OUTCOMES]; OPERATIONS],
    durations: [[[AtomicU64; BUCKETS]; OUTCOMES]; OPERATIONS],
    duration_nanos: [[AtomicU64; OUTCOMES]; OPERATIONS],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    retries: [AtomicU64; OPERATIONS],
}

impl Counters {
    /// The totals at this moment (each by itself; requests in between may show in some only).
    pub fn snapshot(&self) -> CountersSnapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let retries_by_operation = self.retries.each_ref().map(load);
        CountersSnapshot {
            requests: self.requests.each_ref().map(|outcomes| outcomes.each_ref().map(load)),
            durations: self
                .durations
                .each_ref()
                .map(|outcomes| outcomes.each_ref().map(|buckets| buckets.each_ref().map(load))),
            duration_nanos: self.duration_nanos.each_ref().map(|outcomes| outcomes.each_ref().map(load)),
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
            retries: retries_by_operation.iter().sum(),
            retries_by_operation,
        }
    }

    /// Counts one more try after a failed one.
    pub(super) fn count_retry(&self, operation: Operation) {
        self.retries[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that ended.
    pub fn count(&self, operation: Operation, outcome: Result<(), StorageErrorKind>, took: Duration) {
        let (operation, outcome) = (operation as usize, outcome_index(outcome));
        self.requests[operation][outcome].fetch_add(1, Ordering::Relaxed);
        let bucket = DURATION_BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(DURATION_BOUNDS.len());
        self.durations[operation][outcome][bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.duration_nanos[operation][outcome].fetch_add(nanos, Ordering::Relaxed);
    }
}

fn outcome_index(outcome: Result<(), StorageErrorKind>) -> usize {
    match outcome {
        Ok(()) => 0,
        Err(kind) => 1 + kind as usize,
    }
}

/// Totals as plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountersSnapshot {
    requests: [[u64; OUTCOMES]; OPERATIONS],
    durations: [[[u64; BUCKETS]; OUTCOMES]; OPERATIONS],
    duration_nanos: [[u64; OUTCOMES]; OPERATIONS],
    /// Bytes that successful gets returned.
    pub bytes_read: u64,
    /// Bytes of objects that successful puts created.
    pub bytes_written: u64,
    /// Tries after a failed one, of all operations.
    pub retries: u64,
    retries_by_operation: [u64; OPERATIONS],
}

impl CountersSnapshot {
    /// Finished requests of `operation` that ended in `outcome`; each try counts.
    pub fn requests(&self, operation: Operation, outcome: Result<(), StorageErrorKind>) -> u64 {
        self.requests[operation as usize][outcome_index(outcome)]
    }

    /// Finished requests of `operation`, whatever their outcome.
    pub fn requests_total(&self, operation: Operation) -> u64 {
        self.requests[operation as usize].iter().sum()
    }

    /// Tries of `operation` after a failed one.
    pub fn retries_of(&self, operation: Operation) -> u64 {
        self.retries_by_operation[operation as usize]
    }

    /// Requests of `operation` that ended in `outcome`, by duration: how many per bucket of
    /// [`DURATION_BOUNDS`] (not cumulative), the last for those above all bounds.
    pub fn durations_of(&self, operation: Operation, outcome: Result<(), StorageErrorKind>) -> &[u64] {
        &self.durations[operation as usize][outcome_index(outcome)]
    }

    /// The sum of the durations of these.
    pub fn duration_sum_of(&self, operation: Operation, outcome: Result<(), StorageErrorKind>) -> Duration {
        Duration::from_nanos(self.duration_nanos[operation as usize][outcome_index(outcome)])
    }
}

/// Counts every call that ends. A call that is dropped before its end is not counted.
pub struct Meter {
    inner: Arc<dyn Storage>,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

impl Meter {
    /// Counts the calls to `inner` in `counters`.
    pub fn new(inner: Arc<dyn Storage>, counters: Arc<Counters>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, counters, clock }
    }

    async fn count<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let start = self.clock.monotonic();
        let result = call.await;
        let outcome = result.as_ref().map(|_| ()).map_err(|error| error.kind);
        self.counters.count(operation, outcome, self.clock.monotonic().saturating_sub(start));
        result
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Meter").field(&self.inner).finish()
    }
}

#[async_trait]
impl Storage for Meter {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        let len = body.len();
        self.count(Operation::Put, self.inner.put(name, body)).await?;
        self.counters.bytes_written.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        let bytes = self.count(Operation::Get, self.inner.get(name, range)).await?;
        self.counters.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.count(Operation::Size, self.inner.size(name)).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.count(Operation::List, self.inner.list(prefix, from)).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.count(Operation::Delete, self.inner.delete(name)).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.count(Operation::Create, self.inner.create()).await
    }

    fn clock_offset_seconds(&self) -> Option<i64> {
        self.inner.clock_offset_seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::faulty::{Fault, Faulty};
    use crate::storage::test_handles::JumpingClock;
    use crate::storage::{Memory, contract};

    fn metered(inner: Arc<dyn Storage>, clock: Arc<JumpingClock>) -> (Meter, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Meter::new(inner, counters.clone(), clock), counters)
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::run(|| Arc::new(metered(Arc::new(Memory::new()), Arc::default()).0)).await;
    }

    #[tokio::test]
    async fn counts_by_operation_and_outcome() {
        let (meter, counters) = metered(Arc::new(Memory::new()), Arc::default());
        meter.create().await.unwrap();
        meter.put("keys/a", b"12345".to_vec().into()).await.unwrap();
        meter.put("keys/a", b"123456".to_vec().into()).await.unwrap_err();
        meter.get("keys/a", Some(1..3)).await.unwrap();
        meter.get("keys/a", Some(1..9)).await.unwrap_err();
        meter.size("keys/b").await.unwrap_err();
        meter.list("keys/", None).await.unwrap();
        meter.delete("keys/b").await.unwrap();
        let totals = counters.snapshot();
        for (operation, outcome, expected) in [
            (Operation::Create, Ok(()), 1),
            (Operation::Put, Ok(()), 1),
            (Operation::Put, Err(StorageErrorKind::AlreadyThere), 1),
            (Operation::Get, Ok(()), 1),
            (Operation::Get, Err(StorageErrorKind::OutOfRange), 1),
            (Operation::Get, Err(StorageErrorKind::NotFound), 0),
            (Operation::Size, Err(StorageErrorKind::NotFound), 1),
            (Operation::List, Ok(()), 1),
            (Operation::Delete, Ok(()), 1),
        ] {
            assert_eq!(totals.requests(operation, outcome), expected, "{operation:?} {outcome:?}");
        }
        assert_eq!(Operation::ALL.map(|operation| totals.requests_total(operation)), [2, 2, 1, 1, 1, 1]);
        assert_eq!((totals.bytes_written, totals.bytes_read), (5, 2));
    }

    #[tokio::test]
    async fn durations_fall_into_buckets() {
        let clock = Arc::new(JumpingClock::default());
        let slow = Faulty::scripted(
            Arc::new(Memory::new()),
            clock.clone(),
            [Duration::from_millis(5), Duration::from_millis(6), Duration::from_secs(61)].map(Fault::Slow),
        );
        let (meter, counters) = metered(Arc::new(slow), clock);
        for _ in 0..3 {
            meter.list("", None).await.unwrap();
        }
        let totals = counters.snapshot();
        assert_eq!(totals.durations_of(Operation::List, Ok(())), [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(totals.duration_sum_of(Operation::List, Ok(())), Duration::from_millis(61_011));
        assert_eq!(totals.duration_sum_of(Operation::Get, Ok(())), Duration::ZERO);
    }

    #[test]
    fn discriminants_are_the_order_of_the_tables() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
        }
        for (index, kind) in StorageErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
