//! Time and randomness as handles, so that a simulated run is repeatable from its seed.
//!
//! The real ones are in `fleet::clock` and `fleet::rand`; the simulation has its own.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A future that can be sent to another thread, as object-safe traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An instant of the wall clock: seconds since 1970-01-01T00:00:00Z (may be negative) and
/// nanoseconds that count forward from there (0..1_000_000_000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct UnixTime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

impl UnixTime {
    /// `seconds` on the second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// This instant moved forward.
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = self.nanos + duration.subsec_nanos();
        let seconds = self.seconds.saturating_add_unsigned(duration.as_secs());
        Self { seconds: seconds.saturating_add(i64::from(nanos / 1_000_000_000)), nanos: nanos % 1_000_000_000 }
    }

    /// Time from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        if self <= earlier {
            return Duration::ZERO;
        }
        let seconds = self.seconds.abs_diff(earlier.seconds);
        if self.nanos >= earlier.nanos {
            Duration::new(seconds, self.nanos - earlier.nanos)
        } else {
            Duration::new(seconds - 1, 1_000_000_000 + self.nanos - earlier.nanos)
        }
    }
}

/// Wall time, monotonic time and sleeping.
pub trait Clock: Send + Sync {
    /// The wall clock. May jump.
    fn now(&self) -> UnixTime;

    /// Time since an arbitrary start. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Completes once `duration` of monotonic time has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// A source of random bytes, good enough for keys.
pub trait Random: Send + Sync {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]);
}

/// Comforts on top of [`Random`].
pub trait RandomExt: Random {
    /// Random bytes.
    fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number below `bound` (which must not be 0). The bias is below `bound / 2^64`.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(u64::from_le_bytes(self.bytes())) * u128::from(bound)) >> 64) as u64
    }
}

impl<R: Random + ?Sized> RandomExt for R {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_arithmetic_carries_nanoseconds() {
        let start = UnixTime { seconds: -2, nanos: 900_000_000 };
        let later = start.plus(Duration::from_millis(200));
        assert_eq!(later, UnixTime { seconds: -1, nanos: 100_000_000 });
        assert_eq!(later.since(start), Duration::from_millis(200));
        assert_eq!(start.since(later), Duration::ZERO);
    }
}
