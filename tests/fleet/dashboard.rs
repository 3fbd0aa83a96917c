//! What a fleet shows of itself: pages, and the dashboard over a real Prometheus.

use serde_json::Value;
use tests::processes::Fleet;
use tests::services::prometheus::{Prometheus, ask, dashboard_queries, get};
use tests::services::{free_port, wait_until};

fn listen(port: u16) -> [String; 2] {
    ["--listen".to_owned(), format!("127.0.0.1:{port}")]
}

fn is_ready(port: u16) -> bool {
    ask(port, "/readyz").is_some_and(|(status, _)| status == 200)
}

/// What `/readyz` says is in the way.
fn in_the_way(port: u16) -> Vec<String> {
    let Some((503, body)) = ask(port, "/readyz") else { return Vec::new() };
    let json: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let checks = json["checks"].as_array().cloned().unwrap_or_default();
    let names = checks.iter().filter(|check| check["ready"] == false).filter_map(|check| check["name"].as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn every_query_of_the_dashboard_returns_data() {
    let fleet = Fleet::new("fleet-dashboard");
    fleet.scratch.folder("tree");
    for file in 0..60 {
        fleet.scratch.file(format!("tree/{file}"), format!("content of {file}").repeat(500));
    }
    let ports = [free_port(), free_port(), free_port()];
    let pages = ports.map(listen);
    let words = |page: usize| pages[page].iter().map(String::as_str).collect::<Vec<_>>();
    let coordinator = fleet.coordinator(&words(0));
    let workers = [fleet.worker(&words(1)), fleet.worker(&words(2))];
    for port in ports {
        wait_until("a process of the fleet is not ready", || is_ready(port));
        assert_eq!(get(port, "/healthz").as_deref(), Some("alive\n"));
    }
    let prometheus = Prometheus::start(&ports);
    let (place, target) = (fleet.path("tree"), fleet.path("restored"));
    let snapshot = format!("latest:{}", place.trim_start_matches('/'));
    fleet.run(&["backup", &place]).expect_code(0);
    fleet.run(&["restore", &snapshot, "--target", &target]).expect_code(0);
    fleet.run(&["check", "--read-data"]).expect_code(0);
    for (panel, query) in dashboard_queries() {
        println!("{panel}: {query}");
        prometheus.wait_for(&query);
    }
    let value = |query: &str| {
        prometheus.wait_for(query);
        let text = prometheus.query(query)[0]["value"][1].clone();
        text.as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or_else(|| panic!("{query}: {text}"))
    };
    // Bytes are those of the files; each file was read once and written once.
    let bytes: usize = (0..60).map(|file| format!("content of {file}").len() * 500).sum();
    let is = |query: &str, expected: usize| {
        wait_until(query, || (value(query) - expected as f64).abs() < 0.5);
    };
    is("sum(longshore_source_read_bytes_total)", bytes);
    is("sum(longshore_restored_bytes_total)", bytes);
    is("max(longshore_dataset_files)", 60);
    is("sum(longshore_jobs_finished_total{outcome=\"done\"})", 3);
    is("sum(longshore_jobs_submitted_total)", 3);
    // A page is read once a second, each at a time of its own: what the last job counted comes a little later.
    let is_counted = |query: &str| wait_until(query, || value(query) > 0.0);
    is_counted("sum(longshore_verified_bytes_total)");
    is_counted("sum(longshore_storage_request_duration_seconds_count{op=\"put\"})");
    assert!(value("time() - max(longshore_dataset_last_success_timestamp_seconds)") < 600.0);
    let [first, second] = workers;
    assert_eq!((first.leave(), second.leave(), coordinator.leave()), (0, 0, 0));
}

#[test]
fn a_restarted_coordinator_knows_when_data_sets_were_safe() {
    let fleet = Fleet::new("fleet-restart");
    fleet.scratch.file("tree", "content");
    let (port, _worker) = (free_port(), fleet.worker(&[]));
    let page = listen(port);
    let words: Vec<&str> = page.iter().map(String::as_str).collect();
    let coordinator = fleet.coordinator(&words);
    fleet.run(&["backup", &fleet.path("tree")]).expect_code(0);
    let safe_at = || {
        let text = get(port, "/metrics")?;
        let line = text.lines().find(|line| line.starts_with("longshore_dataset_last_success_timestamp_seconds{"))?;
        Some(line.to_owned())
    };
    wait_until("no data set is shown", || safe_at().is_some());
    let before = safe_at();
    assert_eq!(coordinator.leave(), 0);
    let _again = fleet.coordinator(&words);
    wait_until("no data set is shown after a restart", || safe_at().is_some());
    assert_eq!(safe_at(), before);
}

#[test]
fn readiness_follows_the_services() {
    let mut fleet = Fleet::new("fleet-readiness");
    let port = free_port();
    let page = listen(port);
    let worker = fleet.worker(&page.iter().map(String::as_str).collect::<Vec<_>>());
    wait_until("the worker is not ready", || is_ready(port));
    fleet.redis.kill();
    wait_until("nobody misses the job state", || in_the_way(port) == ["state"]);
    assert_eq!(get(port, "/healthz").as_deref(), Some("alive\n"), "it waits, and lives");
    fleet.redis.start_again();
    wait_until("the worker does not get ready again", || is_ready(port));
    assert_eq!(worker.leave(), 0);
    assert_eq!(ask(port, "/readyz"), None);
}

#[test]
fn a_place_that_is_taken_is_a_conflict() {
    let fleet = Fleet::new("fleet-taken");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let page = listen(taken.local_addr().unwrap().port());
    let outcome =
        fleet.member.run_in(fleet.scratch.path(), ["coordinator", page[0].as_str(), page[1].as_str()]).expect_code(5);
    assert!(outcome.stderr.contains("cannot listen at 127.0.0.1:"), "{}", outcome.stderr);
}
