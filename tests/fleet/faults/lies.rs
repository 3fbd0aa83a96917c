//! A job state that lies: blobs that nobody stored, reports that nobody made.

use std::sync::Arc;

use bytes::Bytes;
use fleet::clock::SystemClock;
use fleet::rand::SystemRandom;
use fleet::service::Service;
use fleet::state::{JobState, Position, RedisState};
use proto::auth::MessageKey;
use proto::envelope::{Envelope, SCHEMA_MINOR};
use proto::handles::{Clock, UnixTime};
use proto::id::{Id, WorkerId};
use proto::names::state::Keys;
use proto::report::{Counts, Outcome, PackReport, Payload, Report, ResultReport};
use repository::repository::Repository;
use repository::storage::{Location, Options};
use tests::process::run;
use tests::restic::Restic;

use crate::mid_job::{Ground, Held, Job, at_once, go_on};

#[test]
fn a_job_state_that_lies() {
    at_once(&[("known blobs", blobs_that_nobody_stored), ("planted reports", reports_that_nobody_made)]);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

impl Ground {
    async fn state(&self) -> RedisState {
        let service = Service::new(self.fleet.redis.url(""));
        RedisState::connect(&service, Keys::default()).await.expect("the job state")
    }

    async fn open(&self) -> Repository {
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        let location = Location::Local(self.fleet.restic.repository().to_path_buf());
        let storage = repository::storage::open(&location, Options::new(clock, random.clone())).expect("a storage");
        let password = tests::restic::PASSWORD.as_bytes();
        Repository::open(storage, password, None, random).await.expect("the repository")
    }
}

fn key_of(repository: &Repository) -> MessageKey {
    MessageKey::derive(&*repository.master_key().material(), &repository.id())
}

/// Every blob that this very job will produce is said to be stored already, and none is.
fn blobs_that_nobody_stored() {
    let ground = Ground::new("faults-known");
    let blobs = blobs_of_the_job(&ground);
    let (coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    runtime().block_on(async {
        let (state, repository) = (ground.state().await, ground.open().await);
        let key = key_of(&repository);
        let blind: Vec<u64> = blobs.iter().map(|(tree, id)| key.blind(*tree, id)).collect();
        state.add_known_blobs(&repository.id(), &blind).await.expect("planted");
    });
    go_on(&[&worker]);
    let done = job.end(&held);
    let rejected = coordinator.figure("longshore_borrowed_rejected_total", "");
    println!("{} blobs were planted, {rejected} results were done again", blobs.len());
    assert!(rejected > 0.0);
    ground.assert_right(&done);
}

/// What stock restic writes of the same data into a copy of the repository: whether it is a tree, and its id.
fn blobs_of_the_job(ground: &Ground) -> Vec<(bool, Id)> {
    let (restic, scratch) = (&ground.fleet.restic, &ground.fleet.scratch);
    let copy = scratch.join("copy");
    run(std::process::Command::new("cp").arg("-r").arg(restic.repository()).arg(&copy)).expect_code(0);
    let copy = Restic::at(&copy, restic.password_file());
    copy.backup(scratch.path(), &["--force"], [&ground.place]);
    let lines = copy.ids("blobs");
    let blob = |line: &String| {
        let (kind, id) = line.split_once(' ').unwrap_or_else(|| panic!("not a blob: {line}"));
        (kind == "tree", id.parse().unwrap_or_else(|_| panic!("not an id: {line}")))
    };
    lines.iter().map(blob).collect()
}

/// Reports that who can write into Redis may put there: of another key, damaged, of another job, and true ones again.
fn reports_that_nobody_made() {
    let ground = Ground::new("faults-planted");
    let (coordinator, worker) = (ground.coordinator("coordinator"), ground.worker("worker"));
    let (job, held) = ground.submit_and_hold(&[&worker]);
    // True reports are copied, too: the coordinator must not have dropped them from the stream.
    job.leave_a_report_unread(&coordinator, &worker);
    let planted = runtime().block_on(plant(&ground, &job, &held));
    go_on(&[&coordinator, &worker]);
    let done = job.end(&held);
    ground.assert_right(&done);
    let dropped = coordinator.process.log().matches("was dropped").count();
    println!("{planted} of the planted reports do not verify, {dropped} were dropped");
    assert_eq!(dropped, planted);
}

/// Returns how many of them must not verify.
async fn plant(ground: &Ground, job: &Job<'_>, held: &Held) -> usize {
    let (state, repository) = (ground.state().await, ground.open().await);
    let (right, wrong) = (key_of(&repository), MessageKey::derive(b"another", &repository.id()));
    let (task, round) = held.tasks[0].0.split_once(':').expect("task and round");
    let worker = WorkerId::new(held.tasks[0].1.clone()).expect("a worker");
    let now = SystemClock::new().now();
    // Who believes this ends the job.
    let failed = Report::Result(Box::new(ResultReport {
        task: task.parse().expect("an id"),
        round: round.parse().expect("a round"),
        worker: worker.clone(),
        outcome: Outcome::Failed { reason: "planted".to_owned() },
        packs: Vec::new(),
        borrowed: Payload::default(),
        counts: Counts::default(),
        problems: Vec::new(),
        ended_at: now,
    }));
    let nowhere = Id::of(b"a pack that is not there");
    let pack = Report::Pack(PackReport { pack: nowhere, size: 1000, header_bytes: 100, worker, group_commit: 0 });
    let envelope = |body: Report, job, expires_at| Envelope {
        minor: SCHEMA_MINOR,
        repository: repository.id(),
        job,
        expires_at,
        body,
    };
    let (later, other_job) =
        (UnixTime::from_seconds(now.seconds + 3600), proto::id::JobId::new("other").expect("an id"));
    let true_ones =
        state.read_reports(&job.id, &Position::default(), 100, std::time::Duration::ZERO).await.expect("read");
    let mut damaged = true_ones[0].1.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let sealed = |envelope: Envelope<Report>, key| envelope.seal(key).expect("sealed");
    let planted = [
        b"garbage".to_vec(),
        vec![0xff; 300 << 10],
        damaged,
        sealed(envelope(failed.clone(), job.id.clone(), later), &wrong),
        sealed(envelope(pack, job.id.clone(), later), &wrong),
        sealed(envelope(failed.clone(), other_job, later), &right),
        sealed(envelope(failed, job.id.clone(), UnixTime::from_seconds(now.seconds - 10)), &right),
    ];
    let count = planted.len();
    for report in planted.into_iter().map(Bytes::from).chain(true_ones.into_iter().map(|(_, report)| report)) {
        state.append_report(&job.id, report).await.expect("planted");
    }
    count
}
