//! Whether the process lives, and whether it is ready.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use proto::handles::{BoxFuture, Clock};
use serde::Serialize;

use crate::limit::within;
use crate::metrics::Exporter;
use crate::metrics::table::COORDINATOR_LOOP_LAG;

/// The event loop shows so often that it goes round.
const PULSE_EVERY: Duration = Duration::from_secs(1);
/// Without a pulse for so long it stands still: heartbeats of services and workers are missed.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(10);
/// What the process needs is looked at so often, and has as long to answer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What was seen longer ago counts for nothing.
const SEEN_FOR: Duration = Duration::from_secs(20);

/// Finds what is wrong with something that the process needs.
pub(super) type Check = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What is known of the process.
pub(super) struct Health {
    clock: Arc<dyn Clock>,
    /// What is not there before a check of that name is.
    needed: &'static [&'static str],
    /// When the event loop last went round, in nanoseconds of monotonic time.
    pulse: AtomicU64,
    checks: Mutex<Vec<(&'static str, Arc<Check>)>>,
    seen: Mutex<Vec<Seen>>,
}

/// What a check found.
#[derive(Clone)]
struct Seen {
    name: &'static str,
    at: Duration,
    found: Result<(), String>,
}

/// What `/readyz` says.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    checks: Vec<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    name: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Health {
    pub(super) fn new(clock: Arc<dyn Clock>, needed: &'static [&'static str]) -> Self {
        let health =
            Self { clock, needed, pulse: AtomicU64::default(), checks: Mutex::default(), seen: Mutex::default() };
        health.beat();
        health
    }

    pub(super) fn add(&self, name: &'static str, check: Check) {
        lock(&self.checks).push((name, Arc::new(check)));
    }

    fn beat(&self) {
        let now = u64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(u64::MAX);
        self.pulse.store(now, Ordering::Relaxed);
    }

    /// For how long the event loop has not gone round, if that is too long.
    pub(super) fn stands_still_for(&self) -> Option<Duration> {
        let pulse = Duration::from_nanos(self.pulse.load(Ordering::Relaxed));
        Some(self.clock.monotonic().saturating_sub(pulse)).filter(|still| *still > STANDS_STILL_AFTER)
    }

    /// Whether the process is ready, and what it lacks.
    pub(super) fn readiness(&self) -> Readiness {
        let (now, seen) = (self.clock.monotonic(), lock(&self.seen).clone());
        let judge = |name: &'static str| {
            let last = seen.iter().find(|seen| seen.name == name);
            let found = match last {
                Some(seen) if now.saturating_sub(seen.at) <= SEEN_FOR => seen.found.clone(),
                Some(_) => Err("nobody has looked for a while".to_owned()),
                None => Err("nobody has looked yet".to_owned()),
            };
            Found { name, ready: found.is_ok(), reason: found.err() }
        };
        let mut checks: Vec<Found> = lock(&self.checks).iter().map(|(name, _)| judge(name)).collect();
        for name in
            self.needed.iter().filter(|name| !checks.iter().any(|found| found.name == **name)).collect::<Vec<_>>()
        {
            checks.push(Found { name, ready: false, reason: Some("it is not there yet".to_owned()) });
        }
        Readiness { ready: checks.iter().all(|found| found.ready), checks }
    }

    pub(super) async fn look_once(&self) {
        let checks = lock(&self.checks).clone();
        let looking = checks.into_iter().map(|(name, check)| async move {
            let late = || Err(format!("no answer within {} s", LOOK_EVERY.as_secs()));
            let found = within(LOOK_EVERY, check()).await.unwrap_or_else(late);
            Seen { name, at: self.clock.monotonic(), found }
        });
        let seen = join_all(looking).await;
        for Seen { name, found, .. } in &seen {
            if let Err(reason) = found {
                tracing::debug!(check = name, reason, "not ready");
            }
        }
        *lock(&self.seen) = seen;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows that the event loop goes round, and how late it is.
pub(super) async fn pulse(health: Arc<Health>, exporter: Arc<Exporter>, shows_lag: bool) {
    loop {
        let began = health.clock.monotonic();
        health.clock.sleep(PULSE_EVERY).await;
        let late = health.clock.monotonic().saturating_sub(began + PULSE_EVERY);
        health.beat();
        if shows_lag {
            COORDINATOR_LOOP_LAG.set(&[], late.as_secs_f64());
        }
        exporter.tidy_up();
    }
}

/// Looks again and again at what the process needs.
pub(super) async fn look(health: Arc<Health>) {
    loop {
        health.look_once().await;
        health.clock.sleep(LOOK_EVERY).await;
    }
}
