//! How long a request may take.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proto::handles::Clock;

use super::STATUS_TIME_MAX;
use super::errors::NoAnswer;
use crate::storage::error::{Failure, StorageErrorKind};

/// The slowest line that is allowed: 64 KiB a second, for all bodies that share it. A body of 32 MiB has 572 s alone, a
/// block of 8 MiB 188 s.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// The time for a request with a body of `len` bytes: what any request has, and what its bytes need on a slow line. A
/// fixed limit would make a slow line an endless one: each try would be cut off at the same place.
pub(super) fn body_time_max(len: u64) -> Duration {
    STATUS_TIME_MAX + Duration::from_secs(len / BYTES_PER_SECOND_MIN)
}

/// How often it is looked how many bodies share the line.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Bodies that are on their way.
#[derive(Debug, Default)]
pub(super) struct Moving(AtomicU32);

impl Moving {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> OnItsWay<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        OnItsWay(self)
    }
}

struct OnItsWay<'a>(&'a Moving);

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What `call`, which sends `len` bytes, gives, unless it takes longer than those need on a slow line: beside others that
/// move, a second counts for its share of one.
///
/// # Errors
/// `Unknown`: the call may have happened.
pub(super) async fn within_body<T>(
    clock: &dyn Clock,
    moving: &Moving,
    len: u64,
    call: impl Future<Output = T>,
) -> Result<T, Failure> {
    let _on_its_way = moving.enter();
    let begun = clock.monotonic();
    let mut call = pin!(call);
    let mut left = body_time_max(len) - STATUS_TIME_MAX;
    let mut slice = STATUS_TIME_MAX;
    loop {
        tokio::select! {
            biased;
            done = &mut call => return Ok(done),
            () = clock.sleep(slice) => {}
        }
        if left.is_zero() {
            let took = clock.monotonic().saturating_sub(begun);
            return Err(Failure::new(StorageErrorKind::Unknown, NoAnswer::Late(took)));
        }
        let sharing = moving.count().max(1);
        slice = LOOK_EVERY.min(left.saturating_mul(sharing));
        left = left.saturating_sub(slice / sharing);
    }
}

/// What `call` gives, unless it takes longer than `limit`.
///
/// # Errors
/// `Unknown`: the call may have happened.
pub(super) async fn within<T>(clock: &dyn Clock, limit: Duration, call: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = call => Ok(done),
        () = clock.sleep(limit) => Err(Failure::new(StorageErrorKind::Unknown, NoAnswer::Late(limit))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::test_handles::JumpingClock;

    #[test]
    fn a_long_body_has_more_time() {
        assert_eq!(body_time_max(0), Duration::from_secs(60));
        assert_eq!(body_time_max(8 << 20), Duration::from_secs(188));
        assert_eq!(body_time_max(32 << 20), Duration::from_secs(572));
    }

    #[tokio::test]
    async fn bodies_that_share_the_line_have_more_time() {
        let moving = Moving::default();
        let late = async |len| {
            let clock = JumpingClock::default();
            let error = within_body(&clock, &moving, len, std::future::pending::<()>()).await.unwrap_err();
            assert_eq!(error.kind, StorageErrorKind::Unknown);
            clock.monotonic().as_secs()
        };
        assert_eq!((late(0).await, late(8 << 20).await), (60, 188), "alone");
        let others: Vec<_> = (0..3).map(|_| moving.enter()).collect();
        assert_eq!(late(8 << 20).await, 60 + 4 * 128, "one of four");
        drop(others);
        assert_eq!(late(8 << 20).await, 188, "alone again");
        assert_eq!(within_body(&JumpingClock::default(), &moving, 1, async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_is_late_may_have_happened() {
        let clock = JumpingClock::default();
        assert_eq!(within(&clock, STATUS_TIME_MAX, async { 7 }).await.unwrap(), 7);
        let late = within(&clock, STATUS_TIME_MAX, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(late.kind, StorageErrorKind::Unknown);
        assert_eq!(late.source.to_string(), "no answer within 60 seconds");
    }
}
