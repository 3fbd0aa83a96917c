//! Garbage, oversized and foreign messages in every queue and stream of a fleet: refused with a reason, counted, harmless.

use std::path::Path;

use proto::envelope::MESSAGE_BYTES_MAX;
use proto::id::JobId;
use proto::names::queue::{DEAD_JOBS_QUEUE, DEAD_TASKS_QUEUE, JOBS_EXCHANGE, SUBMIT_KEY, TASKS_EXCHANGE, task_key};
use proto::report::{DeadReport, Report};
use rustix::process::Signal;
use serde_json::json;
use tests::processes::Fleet;
use tests::services::prometheus::figure;

use crate::ground::{assert_same_tree, follow, snapshot_of, wait_for, with_page};
use crate::intruder::{Intruder, Sealed, probe};

/// A job in whose middle a worker stands still.
struct Stage {
    fleet: Fleet,
    intruder: Intruder,
    job: JobId,
    /// Reports that the worker wrote. The coordinator takes away what it has read.
    genuine: Vec<Vec<u8>>,
}

fn many_small_files(root: &Path) {
    std::fs::create_dir_all(root).expect("made");
    for file in 0..3_000 {
        std::fs::write(root.join(file.to_string()), format!("content of {file}")).expect("written");
    }
}

/// Flips a bit in the middle.
fn tampered(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn oversized() -> Vec<u8> {
    vec![b'x'; MESSAGE_BYTES_MAX + 1]
}

impl Stage {
    /// Submissions that nobody carries out, each with its reason.
    async fn submissions(&self) -> Vec<(&'static str, Vec<u8>)> {
        let foreign = json!({
            "job": "foreign", "repository": proto::id::Id::of(b"another"), "submitted_at": {"seconds": 1, "nanos": 0},
            "request": {"kind": "check"},
        });
        let evil = json!({
            "job": "../../config", "repository": self.intruder.repository, "submitted_at": {"seconds": 1, "nanos": 0},
            "request": {"kind": "check"},
        });
        let bad = vec![
            ("malformed", b"\xff\xfegarbage".to_vec()),
            ("malformed", Vec::new()),
            ("malformed", evil.to_string().into_bytes()),
            ("size", oversized()),
            ("repository", foreign.to_string().into_bytes()),
        ];
        for (_, body) in &bad {
            self.intruder.publish(JOBS_EXCHANGE, SUBMIT_KEY, body).await;
        }
        bad
    }

    /// Tasks that nobody does, each with its reason. The genuine one stays for a replay.
    async fn tasks(&self, genuine: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let sealed = |change| self.intruder.sealed(probe(&self.job), &self.job, change);
        let bad = vec![
            ("malformed", b"garbage".to_vec()),
            ("malformed", Vec::new()),
            ("malformed", genuine[..genuine.len() - 1].to_vec()),
            ("size", oversized()),
            ("auth", tampered(genuine)),
            ("auth", sealed(Sealed::ByAStranger)),
            ("repository", sealed(Sealed::ForAnother)),
            ("expired", sealed(Sealed::Expired)),
        ];
        for (_, body) in &bad {
            self.intruder.publish(TASKS_EXCHANGE, &task_key("default", "normal"), body).await;
        }
        bad
    }

    /// Reports that nobody believes, each with its reason; and genuine ones once more.
    async fn reports(&self) -> Vec<&'static str> {
        let dead = |job: &JobId| {
            let task = probe(job).id;
            Report::Dead(DeadReport { task, round: 0, reason: "planted".to_owned(), message: String::new() })
        };
        let other = JobId::new("another-job").expect("an id");
        let sealed = |change| self.intruder.sealed(dead(&self.job), &self.job, change);
        let bad = vec![
            ("malformed", b"garbage".to_vec()),
            ("size", oversized()),
            ("auth", tampered(&self.genuine[0])),
            ("auth", sealed(Sealed::ByAStranger)),
            ("repository", sealed(Sealed::ForAnother)),
            ("expired", sealed(Sealed::Expired)),
            ("job", self.intruder.sealed(dead(&other), &other, Sealed::Well)),
        ];
        for (_, body) in &bad {
            self.intruder.report(&self.job, body).await;
        }
        for replayed in &self.genuine {
            self.intruder.report(&self.job, replayed).await;
        }
        bad.into_iter().map(|(reason, _)| reason).collect()
    }
}

/// Waits until each reason was counted as often as it stands in `reasons`, and no other.
fn assert_counted(port: u16, metric: &str, labels: &[&str], reasons: &[&str]) {
    let of = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        figure(port, metric, &[labels, &[&label]].concat())
    };
    for reason in reasons {
        let times = reasons.iter().filter(|other| *other == reason).count();
        wait_for(&format!("{metric} {reason} is not {times}"), || of(reason) >= times as f64);
    }
    assert_eq!(figure(port, metric, labels), reasons.len() as f64, "{metric}");
}

/// Each bad message is among the dead letters with its reason, and nothing else is.
fn assert_buried(sent: &[(&'static str, Vec<u8>)], dead: &[(String, Vec<u8>)]) {
    assert_eq!(dead.len(), sent.len(), "{:?}", dead.iter().map(|(reason, _)| reason).collect::<Vec<_>>());
    for (reason, body) in sent {
        // What is too long is cut; its beginning tells people what it was.
        let is_it = |(dead_for, kept): &(String, Vec<u8>)| {
            dead_for == reason && (kept == body || *reason == "size" && body.starts_with(kept))
        };
        assert!(dead.iter().any(is_it), "{reason}: {:?}", String::from_utf8_lossy(&body[..body.len().min(80)]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_messages_are_refused_counted_and_harmless() {
    let fleet = Fleet::new("fleet-foreign");
    let place = fleet.path("tree");
    many_small_files(&fleet.scratch.join("tree"));
    let (_coordinator, leads) = with_page(|page| fleet.coordinator(page));
    let (worker, works) = with_page(|page| fleet.worker(page));
    wait_for("no worker", || fleet.run(&["worker", "list"]).text().contains("default"));
    let intruder = Intruder::in_the(&fleet).await;
    intruder.tap().await;
    let job = fleet.run(&["backup", "--detach", &place]).expect_code(0).text().trim().to_owned();
    let job = JobId::new(&job).expect("an id");
    let reported = loop {
        let reported = intruder.reports(&job).await;
        if !reported.is_empty() {
            break reported;
        }
    };
    worker.signal(Signal::STOP);
    let genuine = intruder.tapped().await.expect("a task was published");

    let stage = Stage { fleet, intruder, job, genuine: reported };
    let refused_jobs = stage.submissions().await;
    let refused_tasks = stage.tasks(&genuine).await;
    let dropped = stage.reports().await;
    let Stage { fleet, intruder, job, .. } = stage;
    worker.signal(Signal::CONT);
    let summary = follow(&fleet, job.as_str()).expect_code(0).message("summary");

    assert_eq!(summary["files_new"].as_u64(), Some(3_000), "{summary}");
    fleet.restic.assert_clean();
    let theirs = fleet.restic.backup(fleet.scratch.path(), &["--force"], [&place]);
    assert_same_tree((&fleet.restic, snapshot_of(&summary)), (&fleet.restic, &theirs.snapshot), &place);
    assert_eq!(theirs.count("data_blobs"), 0);
    let reasons = |refused: &[(&'static str, Vec<u8>)]| refused.iter().map(|(reason, _)| *reason).collect::<Vec<_>>();
    assert_counted(leads, "longshore_jobs_refused_total", &[], &reasons(&refused_jobs));
    assert_counted(leads, "longshore_reports_dropped_total", &[], &dropped);
    assert_counted(works, "longshore_task_attempts_total", &["outcome=\"dead\""], &reasons(&refused_tasks));
    assert_buried(&refused_jobs, &intruder.dead(DEAD_JOBS_QUEUE).await);
    assert_buried(&refused_tasks, &intruder.dead(DEAD_TASKS_QUEUE).await);

    // A genuine task whose job has ended is dropped.
    let ended = ["outcome=\"dropped\""];
    let before = figure(works, "longshore_task_attempts_total", &ended);
    intruder.publish(TASKS_EXCHANGE, &task_key("default", "normal"), &genuine).await;
    wait_for("a replayed task is not dropped", || figure(works, "longshore_task_attempts_total", &ended) > before);
    assert_eq!(fleet.restic.snapshots().len(), 2, "ours and restic's");
}
