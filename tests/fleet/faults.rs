//! Faults between the first and the last report of a job, on real processes and services: the job ends with the tree that
//! stock restic computes, the repository is clean, and nothing is left locked.
//!
//! Most of the time of these tests is waiting for others to notice, so several of them run at once: each with a
//! coordinator, workers, a Redis and a part of a broker of its own. `LONGSHORE_TEST_FULL` makes services stay away longer.

mod coordinators;
mod lies;
mod services;
mod storage;
mod views;
mod workers;

use std::time::Duration;

/// Whether waits may be long.
fn is_full() -> bool {
    std::env::var_os("LONGSHORE_TEST_FULL").is_some()
}

/// How long a service stays away.
fn away_for() -> Duration {
    Duration::from_secs(if is_full() { 60 } else { 20 })
}
