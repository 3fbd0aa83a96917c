//! The real clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::handles::{BoxFuture, Clock, UnixTime};
use rustix::time::{ClockId, clock_gettime};

/// The clock of this machine. Its monotonic time goes on while the machine is suspended: a lock grows old in sleep too.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The clock.
    pub fn new() -> Self {
        Self
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
        let since_boot = clock_gettime(ClockId::Boottime);
        Duration::new(since_boot.tv_sec.unsigned_abs(), since_boot.tv_nsec.unsigned_abs() as u32)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
