//! The real clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::handles::{BoxFuture, Clock, UnixTime};

/// The clock of this machine.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine for the time")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine for the time")]
    fn now(&self) -> UnixTime {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => UnixTime::default().plus(after),
            Err(before) => {
                let before = before.duration();
                let whole = -(before.as_secs() as i64) - i64::from(before.subsec_nanos() > 0);
                UnixTime { seconds: whole, nanos: (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000 }
            }
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
