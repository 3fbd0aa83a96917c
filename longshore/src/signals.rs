//! Signals that ask the program to stop.
//!
//! Two signals to stop: the first one asks for a clean end, the second one does not wait for it. SIGHUP is ignored, as
//! restic does: `unlock` on the same host sends it to find out whether the holder of a lock still lives.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears signals from now on.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Held, so that it has no effect.
    _hangup: Signal,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that asks to stop: Ctrl-C or SIGTERM.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
