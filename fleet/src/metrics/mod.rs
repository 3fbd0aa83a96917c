//! What a process of a fleet counts: every metric with its name, its labels and what it means, in one place.
//!
//! Whoever counts does it through a [`Metric`] of [`table`]. Without an [`Exporter`] (an embedded run, the simulation)
//! nothing is kept.
//!
//! # What may be a label
//! Closed sets only, and what a fleet has few of: pools, data sets. Never a job, a task, a file or a worker: who says it is
//! Prometheus' own `instance`.

mod attempt;
mod data_set;
mod exporter;
mod job;
mod metered_state;
mod queue;
mod refusal;
mod storage;
pub mod table;

pub use attempt::AttemptEnd;
pub use data_set::{SnapshotFigures, data_set_label, show_data_set};
pub use exporter::{Exporter, ExporterError, Role};
pub use job::{JobEnd, JobKind, RunningJob};
pub use metered_state::MeteredState;
pub use queue::show_queue;
pub use refusal::{count_dropped_report, count_refused_submission};

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds, by the upper bounds of their buckets.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

impl Metric {
    /// Adds to a counter.
    pub fn add(&self, values: &[&str], amount: u64) {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        metrics::counter!(self.name, self.labelled(values)).increment(amount);
    }

    /// Sets a counter to a total that somebody else keeps; it does not go back.
    pub fn set_total(&self, values: &[&str], total: u64) {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        metrics::counter!(self.name, self.labelled(values)).absolute(total);
    }

    /// Sets a gauge.
    pub fn set(&self, values: &[&str], value: f64) {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        metrics::gauge!(self.name, self.labelled(values)).set(value);
    }

    /// Moves a gauge by `change`.
    pub fn shift(&self, values: &[&str], change: f64) {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        metrics::gauge!(self.name, self.labelled(values)).increment(change);
    }

    /// Adds a duration to a histogram.
    pub fn observe(&self, values: &[&str], took: std::time::Duration) {
        debug_assert!(matches!(self.kind, Kind::Histogram(_)), "{}", self.name);
        metrics::histogram!(self.name, self.labelled(values)).record(took.as_secs_f64());
    }

    /// Makes the series known before anything happens, so that a first increase is seen as one.
    pub(crate) fn begin(&self, values: &[&str]) {
        let labels = self.labelled(values);
        match self.kind {
            Kind::Counter => metrics::counter!(self.name, labels).increment(0),
            Kind::Gauge => metrics::gauge!(self.name, labels).increment(0.0),
            // There is no way to show an empty one but to ask for it.
            Kind::Histogram(_) => drop(metrics::histogram!(self.name, labels)),
        }
    }

    fn labelled(&self, values: &[&str]) -> Vec<metrics::Label> {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let label = |(name, value): (&&'static str, &&str)| metrics::Label::new(*name, (*value).to_owned());
        self.labels.iter().zip(values).map(label).collect()
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
