//! Keeps what this process counts, and writes it as Prometheus reads it.

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use proto::envelope::{SCHEMA_MAJOR, SCHEMA_MINOR};

use super::attempt::AttemptEnd;
use super::job::{JobEnd, JobKind};
use super::metered_state::OPERATIONS;
use super::table::*;
use super::{Kind, Metric, refusal};

/// What a process of a fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads jobs.
    Coordinator,
    /// It does tasks.
    Worker,
}

impl Role {
    /// Its label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
        }
    }
}

/// Why nothing can be counted.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// A bug: the table of metrics is not as Prometheus wants it.
    #[error("the table of metrics cannot be used")]
    Table(#[from] BuildError),
    /// Somebody counts in this process already.
    #[error("this process counts already")]
    Taken,
}

/// Something that is asked for its figures before they are written.
type Collector = Box<dyn Fn() + Send>;
/// The same, for what writes its figures itself.
type Writer = Box<dyn Fn(&mut String) + Send>;

/// Keeps and writes the figures of this process.
pub struct Exporter {
    handle: PrometheusHandle,
    collectors: Mutex<Vec<Collector>>,
    writers: Mutex<Vec<Writer>>,
}

impl Exporter {
    /// Counts from now on, in the whole process; `pools` are those that it is configured for.
    ///
    /// # Errors
    /// Only the first one of a process can be installed.
    pub fn install(role: Role, pools: &[String]) -> Result<Self, ExporterError> {
        let (recorder, exporter) = Self::build()?;
        metrics::set_global_recorder(recorder).map_err(|_| ExporterError::Taken)?;
        begin(role, pools);
        Ok(exporter)
    }

    /// The same for what this thread counts, as long as the guard lives: for tests.
    ///
    /// # Errors
    /// As of [`Exporter::install`].
    #[cfg(any(test, feature = "testing"))]
    pub fn of_this_thread(
        role: Role,
        pools: &[String],
    ) -> Result<(metrics::LocalRecorderGuard<'static>, Self), ExporterError> {
        let (recorder, exporter) = Self::build()?;
        // A test's recorder may outlive the test.
        let guard = metrics::set_default_local_recorder(Box::leak(Box::new(recorder)));
        begin(role, pools);
        Ok((guard, exporter))
    }

    /// An exporter with its recorder, which is nobody's yet.
    pub(crate) fn build() -> Result<(PrometheusRecorder, Self), ExporterError> {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL {
            if let Kind::Histogram(bounds) = metric.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
            }
        }
        let recorder = builder.build_recorder();
        let exporter = Self { handle: recorder.handle(), collectors: Mutex::default(), writers: Mutex::default() };
        Ok((recorder, exporter))
    }

    /// Asks `collector` before each page: for figures that are kept elsewhere.
    pub fn ask(&self, collector: impl Fn() + Send + 'static) {
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(collector));
    }

    /// Lets `writer` add to each page: for histograms that are kept elsewhere.
    pub fn append(&self, writer: impl Fn(&mut String) + Send + 'static) {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(writer));
    }

    /// The figures of now, as text.
    pub fn render(&self) -> String {
        for collect in &*self.collectors.lock().unwrap_or_else(PoisonError::into_inner) {
            collect();
        }
        let mut page = self.handle.render();
        for write in &*self.writers.lock().unwrap_or_else(PoisonError::into_inner) {
            write(&mut page);
        }
        page
    }

    /// To be called every few seconds: else what histograms are given waits for a page that nobody may ask for.
    pub fn tidy_up(&self) {
        self.handle.run_upkeep();
    }
}

/// Describes every metric, and begins the series that are known beforehand.
pub(crate) fn begin(role: Role, pools: &[String]) {
    for metric in ALL {
        describe(metric);
    }
    let schema = format!("{SCHEMA_MAJOR}.{SCHEMA_MINOR}");
    BUILD_INFO.set(&[env!("CARGO_PKG_VERSION"), &schema, role.label()], 1.0);
    for operation in OPERATIONS {
        REDIS_ERRORS.begin(&[operation]);
    }
    match role {
        Role::Coordinator => begin_coordinator(pools),
        Role::Worker => begin_worker(pools),
    }
}

fn describe(metric: &Metric) {
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
        Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
    }
}

fn begin_coordinator(pools: &[String]) {
    for kind in JobKind::ALL.map(JobKind::label) {
        JOBS_SUBMITTED.begin(&[kind]);
        JOBS_RUNNING.begin(&[kind]);
        for end in JobEnd::ALL.map(JobEnd::label) {
            JOBS_FINISHED.begin(&[kind, end]);
        }
    }
    refusal::begin();
    for pool in pools {
        for metric in [TASKS_IN_FLIGHT, BORROWED_REJECTED, FENCED_WRITES] {
            metric.begin(&[pool]);
        }
    }
    for metric in [COORDINATOR_LEADER, COORDINATOR_EPOCH, COORDINATOR_LOOP_LAG] {
        metric.begin(&[]);
    }
}

fn begin_worker(pools: &[String]) {
    for pool in pools {
        for (outcome, reason) in AttemptEnd::all() {
            TASK_ATTEMPTS.begin(&[pool, "normal", outcome, reason]);
        }
        for metric in [
            DUPLICATE_DELIVERIES,
            NOT_MY_VIEW,
            SOURCE_READ_BYTES,
            DEDUPLICATED_BYTES,
            COMPRESSED_BYTES,
            UPLOADED_BYTES,
            VERIFIED_BYTES,
            RESTORED_BYTES,
        ] {
            metric.begin(&[pool]);
        }
    }
    for state in ["busy", "idle", "draining"] {
        WORKER_SLOTS.begin(&[state]);
    }
}
