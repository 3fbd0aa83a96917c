//! What a fleet counts is what happened.

use fleet::metrics::{Exporter, Role};
use fleet::state::JobState;

use super::borrowing::lent;
use super::*;

fn assert_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|other| other == *line), "{line}\nis not on\n{page}");
    }
}

/// The value of a series.
pub(super) fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not on\n{page}")).parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_counted_by_who_led_and_who_worked() {
    let (_counting, exporter) = Exporter::of_this_thread(Role::Coordinator, &[]).unwrap();
    let stage = Stage::calm().await;
    let started = stage.submit().await;
    stage.until("it runs", || exporter.render().contains("longshore_jobs_running{kind=\"backup\"} 1")).await;
    let done = done(stage.end(started).await);
    let page = exporter.render();
    assert_lines(
        &page,
        &[
            "longshore_jobs_running{kind=\"backup\"} 0",
            "longshore_jobs_finished_total{kind=\"backup\",outcome=\"done\"} 1",
            "longshore_job_duration_seconds_count{kind=\"backup\",outcome=\"done\"} 1",
            "longshore_coordinator_leader 0",
            "longshore_coordinator_epoch 1",
            "longshore_tasks_inflight{pool=\"default\"} 0",
        ],
    );
    let labels = "pool=\"default\",class=\"normal\"";
    let attempts = value(&page, &format!("longshore_task_attempts_total{{{labels},outcome=\"done\",reason=\"none\"}}"));
    assert_eq!(attempts, done.progress.tasks_done as f64);
    assert_eq!(value(&page, &format!("longshore_task_duration_seconds_count{{{labels}}}")), attempts);
    let files = done.counts.files_new as f64;
    let of_data_set = |line: &&str| line.starts_with("longshore_dataset_files{dataset=\"client:");
    let line = page.lines().find(of_data_set).unwrap_or_else(|| panic!("no data set on\n{page}"));
    assert_eq!(line.rsplit(' ').next(), Some(files.to_string().as_str()));
    assert!(page.contains("longshore_dataset_last_success_timestamp_seconds{dataset=\"client:"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_gives_no_snapshot_makes_no_data_set_safe() {
    let (_counting, exporter) = Exporter::of_this_thread(Role::Coordinator, &[]).unwrap();
    let stage = Stage::set(Rates::default(), crumbs()).await;
    let started = stage.submit().await;
    stage.until_packs(1).await;
    // It looks for such requests once a second, and has not that long to do.
    stage.worker.actor.stop(Duration::from_secs(60));
    stage.site.fleet().state.request_cancel(&started.job).await.unwrap();
    let ended = stage.end(started).await;
    assert!(matches!(ended, Some(Err(JobError::Cancelled))), "{ended:?}");
    let page = exporter.render();
    assert_lines(&page, &["longshore_jobs_finished_total{kind=\"backup\",outcome=\"cancelled\"} 1"]);
    assert!(!page.contains("longshore_dataset_"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn what_was_borrowed_of_nobody_is_counted() {
    let (_counting, exporter) = Exporter::of_this_thread(Role::Coordinator, &["default".to_owned()]).unwrap();
    let stage = Stage::calm().await;
    let (lender, borrower) = lent(&stage).await;
    lender.actor.kill();
    done(stage.end(borrower).await);
    let page = exporter.render();
    assert!(value(&page, "longshore_borrowed_rejected_total{pool=\"default\"}") > 0.0);
    // Who was killed leaves its job to others.
    assert_lines(&page, &["longshore_jobs_finished_total{kind=\"backup\",outcome=\"left\"} 1"]);
}
