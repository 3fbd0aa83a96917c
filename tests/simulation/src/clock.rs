//! Simulated time: the runtime's paused clock, which jumps on when everybody waits, and a wall clock that may be set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use proto::handles::{BoxFuture, Clock, UnixTime};
use tokio::time::Instant;

use crate::actor::Actor;

/// 2026-01-01T00:00:00Z: when every run begins.
const FIRST_SECOND: i64 = 1_767_225_600;

/// Time of the whole site.
#[derive(Debug)]
pub struct SimClock {
    start: Instant,
    wall_offset_seconds: AtomicI64,
}

impl SimClock {
    /// Begins now. Must be made on the paused runtime.
    #[allow(clippy::disallowed_methods, reason = "the paused clock of the runtime is the simulated time")]
    pub fn new() -> Self {
        Self { start: Instant::now(), wall_offset_seconds: AtomicI64::new(0) }
    }

    /// Somebody sets the wall clock forward or back.
    pub fn jump_wall(&self, seconds: i64) {
        self.wall_offset_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixTime {
        let start = FIRST_SECOND + self.wall_offset_seconds.load(Ordering::Relaxed);
        UnixTime::from_seconds(start).plus(self.monotonic())
    }

    #[allow(clippy::disallowed_methods, reason = "the paused clock of the runtime is the simulated time")]
    fn monotonic(&self) -> Duration {
        Instant::now() - self.start
    }

    #[allow(clippy::disallowed_methods, reason = "the paused clock of the runtime is the simulated time")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The same time as one process meets it: it may be killed or stopped whenever it waits.
pub struct ActorClock {
    clock: Arc<SimClock>,
    actor: Arc<Actor>,
}

impl ActorClock {
    /// The clock of one process.
    pub fn new(clock: Arc<SimClock>, actor: Arc<Actor>) -> Self {
        Self { clock, actor }
    }
}

impl Clock for ActorClock {
    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sleep, actor) = (self.clock.sleep(duration), self.actor.clone());
        Box::pin(async move {
            sleep.await;
            actor.point().await;
        })
    }
}
