//! Accepts jobs, splits data sets, publishes tasks, collects reports, assembles trees, commits snapshots.

pub mod job;
