//! A clock that jumps and a generator with a seed, for the tests of this module.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::handles::{BoxFuture, Clock, Random, UnixTime};

/// Sleeping moves the time forward at once; every sleep is recorded.
#[derive(Default)]
pub(super) struct JumpingClock(Arc<Mutex<Vec<Duration>>>);

impl JumpingClock {
    pub(super) fn sleeps(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }

    /// Moves the time forward.
    pub(super) fn pass(&self, duration: Duration) {
        self.0.lock().unwrap().push(duration);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_seconds(1_700_000_000).plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().iter().sum()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let sleeps = self.0.clone();
        Box::pin(async move { sleeps.lock().unwrap().push(duration) })
    }
}

/// SplitMix64.
pub(super) struct SeededRandom(AtomicU64);

impl SeededRandom {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let mut word = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}
