//! The words and numbers on the page, and the document that lists them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::exporter::begin;
use super::table::*;
use super::*;
use crate::clock::SystemClock;
use crate::state::{JobState, LocalState};

/// What is on the page after `count`, of a process of this role.
fn page_after(role: Role, count: impl FnOnce(&Exporter)) -> String {
    let (recorder, exporter) = Exporter::build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        begin(role, &["default".to_owned()]);
        count(&exporter);
        exporter.render()
    })
}

fn assert_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|other| other == *line), "{line}\nis not on\n{page}");
    }
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len(), "each once");
    for Metric { name, kind, labels, help } in ALL {
        assert!(name.starts_with("longshore_"), "{name}");
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        for label in *labels {
            assert!(!["job", "task", "worker", "file", "path", "instance"].contains(label), "{name}: {label}");
        }
        if let Kind::Histogram(bounds) = kind {
            assert!(name.ends_with("_seconds") && bounds.is_sorted(), "{name}");
        }
    }
}

#[test]
fn what_is_known_beforehand_stands_at_zero() {
    let page = page_after(Role::Worker, |_| {});
    assert_lines(
        &page,
        &[
            "# TYPE longshore_task_attempts_total counter",
            "longshore_task_attempts_total{pool=\"default\",class=\"normal\",outcome=\"done\",reason=\"none\"} 0",
            "longshore_task_attempts_total{pool=\"default\",class=\"normal\",outcome=\"dead\",reason=\"auth\"} 0",
            "longshore_worker_slots{state=\"idle\"} 0",
            "longshore_redis_errors_total{op=\"append_report\"} 0",
        ],
    );
    assert!(page.contains("longshore_build_info{version=\""), "{page}");
    assert!(!page.contains("longshore_jobs_running"), "a worker leads no jobs");
    let page = page_after(Role::Coordinator, |_| {});
    let lines = ["longshore_jobs_finished_total{kind=\"backup\",outcome=\"done\"} 0", "longshore_coordinator_leader 0"];
    assert_lines(&page, &lines);
}

#[test]
fn jobs_are_counted_by_how_they_end() {
    let clock = Arc::new(SystemClock::new());
    let page = page_after(Role::Coordinator, |_| {
        JobKind::Backup.submitted();
        RunningJob::begin(JobKind::Backup, Some(2), clock.clone()).end(JobEnd::Done);
        drop(RunningJob::begin(JobKind::Backup, Some(3), clock.clone()));
        std::mem::forget(RunningJob::begin(JobKind::Restore, None, clock));
    });
    assert_lines(
        &page,
        &[
            "longshore_jobs_submitted_total{kind=\"backup\"} 1",
            "longshore_jobs_finished_total{kind=\"backup\",outcome=\"done\"} 1",
            "longshore_jobs_finished_total{kind=\"backup\",outcome=\"left\"} 1",
            "longshore_job_duration_seconds_count{kind=\"backup\",outcome=\"done\"} 1",
            "longshore_job_duration_seconds_bucket{kind=\"backup\",outcome=\"done\",le=\"86400\"} 1",
            "longshore_jobs_running{kind=\"backup\"} 0",
            "longshore_jobs_running{kind=\"restore\"} 1",
            "longshore_coordinator_leader 1",
            "longshore_coordinator_epoch 3",
        ],
    );
}

#[test]
fn reasons_are_a_closed_set() {
    let page = page_after(Role::Worker, |exporter| {
        for end in [AttemptEnd::Dead("auth"), AttemptEnd::Dead("a task's own words"), AttemptEnd::Later("transient")] {
            let (outcome, reason) = end.labels();
            TASK_ATTEMPTS.add(&["default", "normal", outcome, reason], 1);
        }
        exporter.ask(|| UPLOADED_BYTES.set_total(&["default"], 7));
    });
    let attempts = |outcome: &str, reason: &str, count: u64| {
        let labels = format!("pool=\"default\",class=\"normal\",outcome=\"{outcome}\",reason=\"{reason}\"");
        format!("longshore_task_attempts_total{{{labels}}} {count}")
    };
    let (auth, other, later) =
        (attempts("dead", "auth", 1), attempts("dead", "other", 1), attempts("later", "transient", 1));
    assert_lines(&page, &[&auth, &other, &later, "longshore_uploaded_bytes_total{pool=\"default\"} 7"]);
}

#[tokio::test]
async fn calls_of_the_job_state_are_measured() {
    let (recorder, exporter) = Exporter::build().unwrap();
    let _here = metrics::set_default_local_recorder(&recorder);
    let clock = Arc::new(SystemClock::new());
    let state = MeteredState::new(Arc::new(LocalState::new(clock.clone())), clock);
    state.workers().await.unwrap();
    state.workers().await.unwrap();
    let page = exporter.render();
    assert_lines(&page, &["longshore_redis_request_duration_seconds_count{op=\"workers\"} 2"]);
    assert!(!page.contains("longshore_redis_errors_total"));
}

#[test]
fn a_data_set_shows_its_newest_snapshot() {
    let time = proto::handles::UnixTime { seconds: 1_700_000_000, nanos: 5 };
    let page = page_after(Role::Coordinator, |_| {
        let figures = SnapshotFigures { time, files: Some(3), bytes: None };
        show_data_set(&data_set_label("db1", ["/srv"]), figures);
    });
    assert_lines(
        &page,
        &[
            "longshore_dataset_last_success_timestamp_seconds{dataset=\"db1:/srv\"} 1700000000",
            "longshore_dataset_files{dataset=\"db1:/srv\"} 3",
        ],
    );
}

/// The table of docs/metrics.md is this one. `LONGSHORE_UPDATE_EXPECTED=1` writes it anew.
#[test]
fn the_document_has_every_metric() {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help } in ALL {
        let kind = match kind {
            Kind::Counter => "counter".to_owned(),
            Kind::Gauge => "gauge".to_owned(),
            Kind::Histogram(bounds) => {
                let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
                format!("histogram: {}", bounds.join(", "))
            }
        };
        table += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- begin of the table -->\n", "<!-- end of the table -->");
    let (head, rest) = document.split_once(begin).expect("the document marks its table");
    let (old, tail) = rest.split_once(end).expect("the document marks the end of its table");
    if std::env::var_os("LONGSHORE_UPDATE_EXPECTED").is_some() {
        std::fs::write(path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
        return;
    }
    assert_eq!(old, table, "LONGSHORE_UPDATE_EXPECTED=1 writes it anew");
}

#[test]
fn a_wait_is_seconds() {
    let page = page_after(Role::Worker, |_| {
        TASK_QUEUE_WAIT.observe(&["default", "normal"], Duration::from_millis(1500));
    });
    assert_lines(&page, &["longshore_task_queue_wait_seconds_sum{pool=\"default\",class=\"normal\"} 1.5"]);
}
