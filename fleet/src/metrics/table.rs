//! Every metric. docs/metrics.md holds this table, and a test compares.

use super::{Kind, Metric};

/// Jobs: a minute to a day.
const JOB_SECONDS: &[f64] = &[60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0];
/// Tasks: a second to an hour; they aim at two minutes at most.
const TASK_SECONDS: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];
/// In the queue: a tenth of a second to four hours.
const WAIT_SECONDS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 14_400.0];
/// Redis calls are given up after two seconds; those that wait for reports take longer.
const REDIS_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 2.0, 10.0];
/// The bounds of `repository::storage::meter`, which counts them.
pub(super) const STORAGE_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    bounds: &'static [f64],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram(bounds), labels, help }
}

/// Declares metrics, and the list of them all.
macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident = $metric:expr;)+) => {
        $($(#[doc = $doc])+ pub const $name: Metric = $metric;)+

        /// Every metric, by group.
        pub const ALL: &[Metric] = &[$($name),+];
    };
}

metrics! {
    /// The release.
    BUILD_INFO = gauge("longshore_build_info", &["version", "schema", "role"],
        "Always 1: release, schema of the messages, and what the process is (coordinator, worker).");

    /// Accepted submissions.
    JOBS_SUBMITTED = counter("longshore_jobs_submitted_total", &["kind"],
        "Submissions that became jobs.");
    /// Refused submissions.
    JOBS_REFUSED = counter("longshore_jobs_refused_total", &["reason"],
        "Submissions that were dead-lettered: size, malformed, repository (for another one), pool (nobody knows it), record (what is in the repository of its job cannot be understood).");
    /// Jobs that ended here.
    JOBS_FINISHED = counter("longshore_jobs_finished_total", &["kind", "outcome"],
        "Jobs that ended under this coordinator: done, incomplete (done, but some sources could not be read or some entries not be restored), failed, cancelled, superseded (by a job that goes on after a gap of the lock), left (to another coordinator).");
    /// Jobs that run here.
    JOBS_RUNNING = gauge("longshore_jobs_running", &["kind"],
        "Jobs that this coordinator leads.");
    /// From the start of a job under this coordinator to its end.
    JOB_DURATION = histogram("longshore_job_duration_seconds", &["kind", "outcome"], JOB_SECONDS,
        "How long this coordinator led a job that ended.");
    /// Published tasks without an accepted result.
    TASKS_IN_FLIGHT = gauge("longshore_tasks_inflight", &["pool"],
        "Tasks of the jobs of this coordinator that have no accepted result.");
    /// Anybody may write into a job state.
    REPORTS_DROPPED = counter("longshore_reports_dropped_total", &["reason"],
        "Reports that were not believed: size, malformed, schema (of a newer release), auth (not signed by a member of the fleet), repository (of another one), expired, job (of another one).");
    /// A lying job state.
    BORROWED_REJECTED = counter("longshore_borrowed_rejected_total", &["pool"],
        "Results that were done again, since blobs that others were said to have stored are not in the repository.");
    /// The fence held.
    FENCED_WRITES = counter("longshore_fenced_writes_total", &["pool"],
        "Jobs whose writes were refused, since the repository lock was lost or another coordinator leads them.");

    /// How much this coordinator leads.
    COORDINATOR_LEADER = gauge("longshore_coordinator_leader", &[],
        "Jobs that this coordinator leads, of any kind; 0: it waits for one.");
    /// Rises with takeovers.
    COORDINATOR_EPOCH = gauge("longshore_coordinator_epoch", &[],
        "Epoch of the job that this coordinator began to lead last: 1, and one more for each takeover.");
    /// How late the event loop is.
    COORDINATOR_LOOP_LAG = gauge("longshore_coordinator_loop_lag_seconds", &[],
        "By how much the watchdog of the event loop was late when it was last due.");

    /// Tasks, by how they ended.
    TASK_ATTEMPTS = counter("longshore_task_attempts_total", &["pool", "class", "outcome", "reason"],
        "Deliveries that a worker settled: done, not_my_view, failed (the job is told why), dropped (of a job that ended or is cancelled), handed_back (this worker leaves), later (a fresh copy comes back after a delay), dead (dead-lettered); and the short reason.");
    /// Time at work.
    TASK_DURATION = histogram("longshore_task_duration_seconds", &["pool", "class"], TASK_SECONDS,
        "How long a worker worked on a task, whatever came of it.");
    /// Time in the queue.
    TASK_QUEUE_WAIT = histogram("longshore_task_queue_wait_seconds", &["pool", "class"], WAIT_SECONDS,
        "From publication to delivery, of first deliveries of first attempts, by the clocks of two hosts.");
    /// Places at work.
    WORKER_SLOTS = gauge("longshore_worker_slots", &["state"],
        "Slots of this worker: busy, idle, draining (busy, and no more once that is done).");
    /// The queue delivers at least once.
    DUPLICATE_DELIVERIES = counter("longshore_duplicate_deliveries_total", &["pool"],
        "Deliveries of messages that had been delivered before.");
    /// Another view.
    NOT_MY_VIEW = counter("longshore_not_my_view_total", &["pool"],
        "Tasks that were left to others, since this worker does not see the data set as it was when they were split off.");

    /// Read.
    SOURCE_READ_BYTES = counter("longshore_source_read_bytes_total", &["pool"],
        "Bytes of files that were read and cut in chunks.");
    /// Not stored again.
    DEDUPLICATED_BYTES = counter("longshore_deduplicated_bytes_total", &["pool"],
        "Of these and of trees: bytes that were stored already.");
    /// After compression.
    COMPRESSED_BYTES = counter("longshore_compressed_bytes_total", &["pool"],
        "The rest, compressed and encrypted.");
    /// Stored.
    UPLOADED_BYTES = counter("longshore_uploaded_bytes_total", &["pool"],
        "Bytes of packs that are in storage.");
    /// Checked.
    VERIFIED_BYTES = counter("longshore_verified_bytes_total", &["pool"],
        "Bytes of packs that were read and compared with their digests.");
    /// Written back.
    RESTORED_BYTES = counter("longshore_restored_bytes_total", &["pool"],
        "Bytes of files that were written by restores.");

    /// Requests by duration.
    STORAGE_REQUEST_DURATION = histogram("longshore_storage_request_duration_seconds", &["op", "status_class"],
        STORAGE_SECONDS,
        "Requests to the storage, each try by itself: success, client_error (not there, already there, refused, out of range), server_error (throttled, not connected, no space), no_answer.");
    /// Throttled.
    STORAGE_THROTTLED = counter("longshore_storage_throttled_total", &["op"],
        "Requests that the storage did not take: throttled, or not connected.");
    /// Tried again.
    STORAGE_RETRIES = counter("longshore_storage_retries_total", &["op"],
        "Tries after a failed one.");

    /// When a data set was safe last.
    DATASET_LAST_SUCCESS = gauge("longshore_dataset_last_success_timestamp_seconds", &["dataset"],
        "When the newest snapshot of the data set was made, as read back from the repository.");
    /// Files of the newest snapshot.
    DATASET_FILES = gauge("longshore_dataset_files", &["dataset"],
        "Files in that snapshot.");
    /// Bytes of the newest snapshot.
    DATASET_BYTES = gauge("longshore_dataset_bytes", &["dataset"],
        "Bytes of the files in that snapshot.");

    /// Memory or disk alarm.
    AMQP_CONNECTION_BLOCKED = gauge("longshore_amqp_connection_blocked", &["role"],
        "1 while the broker takes no publications on this connection: its memory or disk runs short.");
    /// Whether there is one.
    AMQP_CONNECTION_UP = gauge("longshore_amqp_connection_up", &["role"],
        "1 while this connection to the broker is there.");
    /// Made again.
    AMQP_RECONNECTS = counter("longshore_amqp_reconnects_total", &["role"],
        "How often this connection to the broker was made again.");
    /// On their way.
    AMQP_UNCONFIRMED = gauge("longshore_amqp_unconfirmed", &["role"],
        "Publications that wait for their confirm.");
    /// No queue took them.
    AMQP_RETURNED = counter("longshore_amqp_returned_total", &["role"],
        "Publications that no queue took.");
    /// Failed calls.
    REDIS_ERRORS = counter("longshore_redis_errors_total", &["op"],
        "Calls of the job state that failed.");
    /// Calls by duration.
    REDIS_REQUEST_DURATION = histogram("longshore_redis_request_duration_seconds", &["op"], REDIS_SECONDS,
        "Calls of the job state; read_reports waits for reports.");
}
