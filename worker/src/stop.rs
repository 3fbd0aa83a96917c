//! When a task shall stop early: a drain, a cancelled job, the soft deadline.

use std::time::Duration;

use proto::handles::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks all tasks of a worker to hand back what they have not begun. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<AtomicBool>, Arc<tokio::sync::Notify>);

impl Drain {
    /// Asks.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
        self.1.notify_waiters();
    }

    /// Whether it was asked.
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until it is asked.
    pub async fn begun(&self) {
        let told = self.1.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        if !self.has_begun() {
            told.await;
        }
    }
}

/// When one task shall stop.
#[derive(Clone)]
pub(crate) struct Stop {
    drain: Drain,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

impl Stop {
    pub(crate) fn new(drain: Drain, clock: Arc<dyn Clock>, soft_deadline: Duration) -> Self {
        let deadline = clock.monotonic().saturating_add(soft_deadline); // whatever it is told
        Self { drain, clock, deadline }
    }

    /// Whether the worker is asked to hand back, whatever the deadline.
    pub(crate) fn is_drained(&self) -> bool {
        self.drain.has_begun()
    }

    /// Whether to begin nothing more.
    pub(crate) fn is_due(&self) -> bool {
        self.drain.has_begun() || self.clock.monotonic() >= self.deadline
    }
}
