//! What `repository::storage::meter` counted, as Prometheus reads it. The repository stands alone and knows no metrics, and
//! its histogram is finished: so it is written here, not observed again.

use std::fmt::Write;
use std::sync::Arc;

use repository::storage::meter::{Counters, CountersSnapshot, DURATION_BOUNDS};
use repository::storage::{Operation, StorageErrorKind};

use super::table::{STORAGE_REQUEST_DURATION, STORAGE_RETRIES, STORAGE_THROTTLED};
use super::{Exporter, Metric};

/// How requests end, by what somebody would look after.
const CLASSES: [&str; 4] = ["success", "client_error", "server_error", "no_answer"];

fn class_of(outcome: Result<(), StorageErrorKind>) -> &'static str {
    use StorageErrorKind::*;
    match outcome {
        Ok(()) => "success",
        Err(NotFound | AlreadyThere | OutOfRange | Denied | Permanent) => "client_error",
        Err(Full | Unavailable) => "server_error",
        Err(Unknown) => "no_answer",
    }
}

impl Exporter {
    /// Shows what `counters` count.
    pub fn show_storage(&self, counters: Arc<Counters>) {
        self.append(move |page| write_storage(page, &counters.snapshot()));
    }
}

fn write_storage(page: &mut String, totals: &CountersSnapshot) {
    write_durations(page, totals);
    write_totals(page, &STORAGE_THROTTLED, |operation| totals.requests(operation, Err(StorageErrorKind::Unavailable)));
    write_totals(page, &STORAGE_RETRIES, |operation| totals.retries_of(operation));
}

fn write_head(page: &mut String, metric: &Metric, kind: &str) {
    let Metric { name, help, .. } = metric;
    // Writing into a string cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn write_totals(page: &mut String, metric: &Metric, total: impl Fn(Operation) -> u64) {
    write_head(page, metric, "counter");
    for operation in Operation::ALL {
        let _ = writeln!(page, "{}{{op=\"{}\"}} {}", metric.name, operation.label(), total(operation));
    }
}

fn write_durations(page: &mut String, totals: &CountersSnapshot) {
    write_head(page, &STORAGE_REQUEST_DURATION, "histogram");
    let outcomes = || [Ok(())].into_iter().chain(StorageErrorKind::ALL.map(Err));
    for operation in Operation::ALL {
        for class in CLASSES {
            let of_class = || outcomes().filter(|outcome| class_of(*outcome) == class);
            let bucket = |index: usize| of_class().map(|end| totals.durations_of(operation, end)[index]).sum::<u64>();
            let seconds: f64 = of_class().map(|end| totals.duration_sum_of(operation, end).as_secs_f64()).sum();
            let name = STORAGE_REQUEST_DURATION.name;
            let labels = format!("op=\"{}\",status_class=\"{class}\"", operation.label());
            let mut count = 0;
            for (index, bound) in DURATION_BOUNDS.iter().enumerate() {
                count += bucket(index);
                let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{}\"}} {count}", bound.as_secs_f64());
            }
            count += bucket(DURATION_BOUNDS.len());
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(page, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {count}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::table::STORAGE_SECONDS;
    use std::time::Duration;

    #[test]
    fn the_table_has_the_bounds_that_are_counted() {
        assert_eq!(DURATION_BOUNDS.map(|bound| bound.as_secs_f64()), STORAGE_SECONDS);
    }

    #[test]
    fn requests_show_by_operation_and_class() {
        let counters = Counters::default();
        counters.count(Operation::Put, Ok(()), Duration::from_millis(3));
        counters.count(Operation::Put, Err(StorageErrorKind::Unavailable), Duration::from_secs(61));
        counters.count(Operation::Get, Err(StorageErrorKind::NotFound), Duration::from_millis(1));
        let mut page = String::new();
        write_storage(&mut page, &counters.snapshot());
        for line in [
            "longshore_storage_request_duration_seconds_bucket{op=\"put\",status_class=\"success\",le=\"0.001\"} 0",
            "longshore_storage_request_duration_seconds_bucket{op=\"put\",status_class=\"success\",le=\"0.005\"} 1",
            "longshore_storage_request_duration_seconds_bucket{op=\"put\",status_class=\"server_error\",le=\"60\"} 0",
            "longshore_storage_request_duration_seconds_bucket{op=\"put\",status_class=\"server_error\",le=\"+Inf\"} 1",
            "longshore_storage_request_duration_seconds_sum{op=\"put\",status_class=\"server_error\"} 61",
            "longshore_storage_request_duration_seconds_count{op=\"get\",status_class=\"client_error\"} 1",
            "longshore_storage_throttled_total{op=\"put\"} 1",
            "longshore_storage_retries_total{op=\"list\"} 0",
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
    }
}
