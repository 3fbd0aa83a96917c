//! How long a request may take.

use std::future::Future;
use std::time::Duration;

use proto::handles::Clock;

use super::STATUS_TIME_MAX;
use super::errors::NoAnswer;
use crate::storage::error::{Failure, StorageErrorKind};

/// The slowest line that a body is allowed: 64 KiB a second. A body of 32 MiB has 572 s, a block of 8 MiB 188 s, and
/// sixteen of them at once still get through 10 Mbit/s.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// The time for a request with a body of `len` bytes: what any request has, and what its bytes need on a slow line. A
/// fixed limit would make a slow line an endless one: each try would be cut off at the same place.
pub(super) fn body_time_max(len: u64) -> Duration {
    STATUS_TIME_MAX + Duration::from_secs(len / BYTES_PER_SECOND_MIN)
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
    async fn what_is_late_may_have_happened() {
        let clock = JumpingClock::default();
        assert_eq!(within(&clock, STATUS_TIME_MAX, async { 7 }).await.unwrap(), 7);
        let late = within(&clock, STATUS_TIME_MAX, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(late.kind, StorageErrorKind::Unknown);
        assert_eq!(late.source.to_string(), "no answer within 60 seconds");
    }
}
