//! Ctrl-C and SIGTERM end a benchmark between two steps, so that everything it started is taken away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Notes signals from now on.
pub(crate) fn watch() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("signals cannot be watched: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// An error if somebody wants the benchmark to end.
pub(crate) fn check() -> Result<(), String> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err("interrupted".to_owned()) } else { Ok(()) }
}

/// Waits until `is_there`; an error with `what` if that takes longer than `limit`.
pub(crate) fn wait_until(what: &str, limit: Duration, mut is_there: impl FnMut() -> bool) -> Result<(), String> {
    let give_up_at = Instant::now() + limit;
    while !is_there() {
        check()?;
        if Instant::now() > give_up_at {
            return Err(format!("{what} within {limit:?}"));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
