//! What happened, in order: printed on demand, hashed always, so that two runs can be compared.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto::handles::Clock;

use crate::clock::SimClock;

/// The events of one run.
#[derive(Debug)]
pub struct Trace {
    clock: Arc<SimClock>,
    /// FNV-1a over every line.
    hash: Mutex<u64>,
    events: AtomicU64,
    is_printed: bool,
}

impl Trace {
    /// An empty trace.
    pub fn new(clock: Arc<SimClock>, is_printed: bool) -> Self {
        Self { clock, hash: Mutex::new(0xcbf2_9ce4_8422_2325), events: AtomicU64::new(0), is_printed }
    }

    /// Notes an event.
    pub fn note(&self, who: &str, what: Arguments<'_>) {
        let line = format!("{:12.3} {who:14} {what}", self.clock.monotonic().as_secs_f64());
        let mut hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in line.bytes() {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        drop(hash);
        self.events.fetch_add(1, Ordering::Relaxed);
        if self.is_printed {
            // Who stops reading does not want to know more.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Stands for everything so far.
    pub fn hash(&self) -> u64 {
        *self.hash.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}
