//! What the commands of a fleet say, and with which code they end.

use rustix::process::Signal;
use tests::cli::Longshore;
use tests::process::Outcome;
use tests::processes::Fleet;
use tests::services::wait_until;

fn with_files(purpose: &str) -> Fleet {
    let fleet = Fleet::new(purpose);
    fleet.scratch.folder("tree");
    for file in 0..50 {
        fleet.scratch.file(format!("tree/{file}"), format!("content of {file}"));
    }
    fleet
}

#[test]
fn a_fleet_that_is_not_there_is_waited_for_and_named() {
    let fleet = with_files("fleet-absent");
    let place = fleet.path("tree");
    let quick = ["--connect-timeout", "2s", "--wait-workers", "2s"];
    let backup = |more: &[&str]| fleet.run(&[&["backup"], &quick[..], more, &[&place]].concat());
    let alone = backup(&[]).expect_code(9);
    assert!(alone.stderr.contains("no coordinator"), "{}", alone.stderr);
    let _coordinator = fleet.coordinator(&["--pool", "default", "--pool", "bulk"]);
    let unstaffed = ["backup", "--connect-timeout", "60s", "--wait-workers", "2s", &place];
    let unstaffed = fleet.run(&unstaffed).expect_code(9);
    assert!(unstaffed.stderr.contains("no worker of pool default"), "{}", unstaffed.stderr);
    let unknown = backup(&["--pool", "bluk"]).expect_code(2);
    assert!(unknown.stderr.contains("known are: bulk, default"), "{}", unknown.stderr);
    let relative = fleet.run(&["backup", "tree"]).expect_code(2);
    assert!(relative.stderr.contains("absolute"), "{}", relative.stderr);
}

#[test]
fn one_url_a_wrong_one_and_one_with_a_password_are_told_apart() {
    let fleet = with_files("fleet-urls");
    let place = fleet.path("tree");
    let [amqp, redis] = [("LONGSHORE_AMQP_URL", "amqp://127.0.0.1"), ("LONGSHORE_REDIS_URL", "redis://127.0.0.1")];
    for (given, missing) in [(amqp, redis), (redis, amqp)] {
        let half = Longshore::new().variable(given.0, given.1).run(["backup", &place]).expect_code(2);
        assert!(half.stderr.contains(missing.0), "{}", half.stderr);
    }
    let secret = fleet.run(&["--amqp", "amqp://guest:s3cret@127.0.0.1", "job", "list"]).expect_code(2);
    assert!(secret.stderr.contains("LONGSHORE_AMQP_URL") && !secret.stderr.contains("s3cret"), "{}", secret.stderr);
    for (flag, url) in [("--amqp", "amqp://127.0.0.1:1"), ("--redis", "redis://127.0.0.1:1")] {
        let away = fleet.run(&[flag, url, "job", "list", "--connect-timeout", "2s"]).expect_code(7);
        assert!(away.stderr.contains("127.0.0.1:1"), "{}", away.stderr);
    }
    let denied = Longshore::new()
        .variable("LONGSHORE_AMQP_URL", "amqp://guest:wrong@127.0.0.1:5672")
        .variable("LONGSHORE_REDIS_URL", &fleet.redis.url(""));
    let denied = denied.run(["job", "list"]).expect_code(6);
    assert!(!denied.stderr.contains("wrong@"), "{}", denied.stderr);
}

#[test]
fn a_job_is_submitted_followed_listed_and_cancelled() {
    let fleet = with_files("fleet-job");
    let place = fleet.path("tree");
    let (coordinator, worker) = (fleet.coordinator(&[]), fleet.worker(&[]));
    let request = serde_json::json!({
        "kind": "backup", "paths": [place], "hostname": "web-1", "username": "root", "uid": 0, "gid": 0, "zone": "UTC",
    });
    let file = fleet.scratch.file("request.json", request.to_string());
    let file = file.to_str().unwrap();
    let submit = ["job", "submit", file, "--idempotency-key", "nightly"];
    let job = fleet.run(&submit).expect_code(0).text().trim().to_owned();
    assert_eq!(fleet.run(&submit).expect_code(0).text().trim(), job, "the same key is the same job");
    let first = fleet.run(&["job", "follow", &job, "--json"]).expect_code(0).message("summary");
    // The job state forgets everything; the record in the repository does not.
    fleet.redis.cli(&["FLUSHALL"]);
    let again = fleet.run(&["job", "submit", file, "--idempotency-key", "nightly", "--follow", "--json"]);
    assert_eq!(again.expect_code(0).message("summary")["snapshot_id"], first["snapshot_id"]);
    assert_eq!(fleet.restic.snapshots().len(), 1);
    let list = fleet.run(&["job", "list"]).expect_code(0).text();
    assert!(list.contains(&job) && list.contains("done") && list.contains("web-1"), "{list}");
    let shown = fleet.run(&["job", "show", &job, "--json"]).expect_code(0).json_lines().remove(0);
    assert_eq!(shown["result"]["snapshot_id"], first["snapshot_id"]);
    fleet.run(&["job", "show", "nothing"]).expect_code(1);
    // A worker that stands still keeps a job open until it is cancelled.
    worker.signal(Signal::STOP);
    let detached = fleet.run(&["backup", "--detach", "--force", &place]).expect_code(0).text().trim().to_owned();
    fleet.run(&["job", "cancel", &detached]).expect_code(0);
    fleet.run(&["job", "follow", &detached]).expect_code(130);
    worker.signal(Signal::CONT);
    assert_eq!(coordinator.leave(), 0);
    assert_eq!(worker.leave(), 0);
    fleet.restic.assert_clean();
}

#[test]
fn followers_give_up_and_say_how_to_attach_again() {
    let mut fleet = with_files("fleet-followers");
    let place = fleet.path("tree");
    let (_coordinator, worker) = (fleet.coordinator(&[]), fleet.worker(&[]));
    fleet.run(&["backup", &place]).expect_code(0);
    worker.signal(Signal::STOP); // so that the job stays
    let job = fleet.run(&["backup", "--detach", "--force", &place]).expect_code(0).text().trim().to_owned();
    let clients = || fleet.redis.cli(&["CLIENT", "LIST"]).lines().count();
    let before = clients();
    let words = ["job", "follow", &job, "--connect-timeout", "3s"];
    let follower = fleet.client.start(fleet.scratch.path(), words);
    wait_until("nobody follows", || clients() > before);
    fleet.redis.kill();
    let outcome = Outcome::new(words.join(" "), follower.wait_with_output().unwrap()).expect_code(7);
    assert!(outcome.stderr.contains(&format!("job follow {job}")), "{}", outcome.stderr);
    worker.signal(Signal::CONT);
}

#[test]
fn workers_are_listed_and_drained() {
    let fleet = with_files("fleet-workers");
    let worker = fleet.worker(&["--pool", "bulk"]);
    let list = loop {
        let list = fleet.run(&["worker", "list", "--json"]).expect_code(0).json_lines().remove(0);
        if list.as_array().is_some_and(|workers| !workers.is_empty()) {
            break list;
        }
    };
    let id = list[0]["worker"].as_str().unwrap().to_owned();
    assert_eq!((list[0]["pool"].as_str(), list[0]["slots"].as_u64()), (Some("bulk"), Some(2)));
    fleet.run(&["worker", "drain", "nobody-1"]).expect_code(1);
    fleet.run(&["worker", "drain", &id, "--wait", "60s"]).expect_code(0);
    assert_eq!(worker.wait(), 0);
}

#[test]
fn a_coordinator_that_stops_leaves_its_job_to_the_next() {
    let fleet = with_files("fleet-stop");
    let place = fleet.path("tree");
    let (first, worker) = (fleet.coordinator(&[]), fleet.worker(&[]));
    // Something is at work before the worker stands still.
    let job = fleet.run(&["backup", "--detach", &place]).expect_code(0).text().trim().to_owned();
    worker.signal(Signal::STOP);
    assert_eq!(first.leave(), 0);
    worker.signal(Signal::CONT);
    let _second = fleet.coordinator(&[]);
    let summary = fleet.run(&["job", "follow", &job, "--json"]).expect_code(0).message("summary");
    assert!(summary["files_new"].as_u64() == Some(50), "{summary}");
    fleet.restic.assert_clean();
}
