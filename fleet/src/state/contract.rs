//! What every job state must do. Run by each implementation with a maker of fresh, empty states.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use proto::handles::UnixTime;
use proto::id::{CoordinatorId, Id, JobId, WorkerId};

use super::{
    CoordinatorHeartbeat, DOCUMENT_BYTES_MAX, Heartbeat, JOBS_NOTED_MAX, JobState, Position, REPORTS_MAX, StateError,
};

/// Runs the whole suite.
pub async fn run<S: JobState>(make: impl AsyncFn() -> S) {
    keeps_the_first_generation(&make().await).await;
    reads_reports_in_order(&make().await).await;
    waits_for_a_report(&make().await).await;
    loses_no_report_to_a_read_that_is_dropped(&make().await).await;
    keeps_reports_as_they_are(&make().await).await;
    trims_what_was_read(&make().await).await;
    takes_only_so_many_reports(&make().await).await;
    forgets_a_closed_job(&make().await).await;
    knows_blobs_by_repository(&make().await).await;
    registers_workers(&make().await).await;
    registers_coordinators(&make().await).await;
    remembers_cancel(&make().await).await;
    counts_starts_by_worker(&make().await).await;
    keeps_the_document_of_a_job(&make().await).await;
    lists_the_newest_jobs(&make().await).await;
    remembers_drain_requests(&make().await).await;
}

fn job(name: &str) -> JobId {
    JobId::new(name).expect("a job id")
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("a worker id")
}

async fn keeps_the_first_generation<S: JobState>(state: &S) {
    assert_eq!(state.generation(&job("j")).await.expect("generation"), None);
    assert_eq!(state.open_job(&job("j"), 7).await.expect("open"), 7);
    assert_eq!(state.open_job(&job("j"), 8).await.expect("open"), 7);
    assert_eq!(state.generation(&job("j")).await.expect("generation"), Some(7));
    state.close_job(&job("j")).await.expect("close");
    assert_eq!(state.generation(&job("j")).await.expect("generation"), None);
}

async fn read<S: JobState>(state: &S, after: &Position, limit: usize) -> Vec<(Position, Bytes)> {
    state.read_reports(&job("j"), after, limit, Duration::ZERO).await.expect("read")
}

async fn reads_reports_in_order<S: JobState>(state: &S) {
    for text in ["a", "b", "c"] {
        state.append_report(&job("j"), Bytes::from_static(text.as_bytes())).await.expect("append");
    }
    state.append_report(&job("other"), Bytes::from_static(b"x")).await.expect("append");
    let first = read(state, &Position::default(), 2).await;
    assert_eq!(first.iter().map(|(_, report)| &report[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    let rest = read(state, &first[1].0, 10).await;
    assert_eq!(rest.iter().map(|(_, report)| &report[..]).collect::<Vec<_>>(), [b"c"]);
    assert!(read(state, &rest[0].0, 10).await.is_empty());
}

async fn waits_for_a_report<S: JobState>(state: &S) {
    let job = job("j");
    let waiting = state.read_reports(&job, &Position(0, 0), 1, Duration::from_secs(10));
    let appending = state.append_report(&job, Bytes::from_static(b"late"));
    let (reports, appended) = futures::join!(waiting, appending);
    appended.expect("append");
    assert_eq!(reports.expect("read").len(), 1);
    let none = state.read_reports(&job, &Position(u64::MAX, 0), 1, Duration::from_millis(10)).await.expect("read");
    assert!(none.is_empty());
}

/// Whoever reads also waits for other things, and is called away.
async fn loses_no_report_to_a_read_that_is_dropped<S: JobState>(state: &S) {
    let (job, mut after) = (job("j"), Position::default());
    for _ in 0..3 {
        for _ in 0..20 {
            let called_away = state.read_reports(&job, &after, 9, Duration::from_secs(2)).now_or_never();
            assert!(called_away.is_none_or(|read| read.is_ok()));
        }
        state.append_report(&job, Bytes::from_static(b"late")).await.expect("append");
        let reports = state.read_reports(&job, &after, 9, Duration::from_secs(10)).await.expect("read");
        assert_eq!(reports.len(), 1);
        after = reports[0].0.clone();
    }
}

async fn keeps_reports_as_they_are<S: JobState>(state: &S) {
    let all: Vec<u8> = (0..=255).collect();
    let reports = [Bytes::new(), Bytes::from(all), Bytes::from(vec![b'\n'; 256 << 10])];
    for report in &reports {
        state.append_report(&job("j"), report.clone()).await.expect("append");
    }
    let found = read(state, &Position::default(), 10).await;
    assert!(found.iter().map(|(_, report)| report).eq(&reports));
}

async fn takes_only_so_many_reports<S: JobState>(state: &S) {
    let job = job("j");
    let append = || state.append_report(&job, Bytes::from_static(b"x"));
    for _ in 0..REPORTS_MAX / 500 {
        for appended in join_all((0..500).map(|_| append())).await {
            appended.expect("append");
        }
    }
    let error = append().await.expect_err("full");
    assert!(matches!(error, StateError::Full { .. }), "{error}");
    let first = read(state, &Position::default(), 1).await;
    state.trim_reports(&job, &first[0].0).await.expect("trim");
    append().await.expect("there is room again");
}

async fn forgets_a_closed_job<S: JobState>(state: &S) {
    let (job, task) = (job("j"), Id::of(b"task"));
    state.open_job(&job, 7).await.expect("open");
    state.append_report(&job, Bytes::from_static(b"x")).await.expect("append");
    state.request_cancel(&job).await.expect("cancel");
    state.note_start(&job, &task, 0, &worker("w1")).await.expect("start");
    state.close_job(&job).await.expect("close");
    assert!(read(state, &Position::default(), 1).await.is_empty());
    assert!(!state.cancel_requested(&job).await.expect("cancel"));
    assert!(state.note_start(&job, &task, 0, &worker("w2")).await.expect("start").is_empty());
    state.request_cancel(&job).await.expect("cancel");
    assert!(state.cancel_requested(&job).await.expect("cancel"), "who comes late is told, too");
}

async fn trims_what_was_read<S: JobState>(state: &S) {
    for text in ["a", "b"] {
        state.append_report(&job("j"), Bytes::from_static(text.as_bytes())).await.expect("append");
    }
    let reports = read(state, &Position::default(), 10).await;
    state.trim_reports(&job("j"), &reports[0].0).await.expect("trim");
    assert_eq!(read(state, &Position::default(), 10).await, reports[1..]);
}

async fn knows_blobs_by_repository<S: JobState>(state: &S) {
    let (one, two) = (Id::of(b"one"), Id::of(b"two"));
    state.add_known_blobs(&one, &[1, 2, u64::MAX]).await.expect("add");
    assert_eq!(state.known_blobs(&one, &[2, 3, u64::MAX]).await.expect("known"), [true, false, true]);
    assert_eq!(state.known_blobs(&two, &[2]).await.expect("known"), [false]);
    assert!(state.known_blobs(&one, &[]).await.expect("known").is_empty());
    let many: Vec<u64> = (0..5_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    state.add_known_blobs(&one, &many[..2_500]).await.expect("add");
    state.add_known_blobs(&one, &many[..10]).await.expect("add again");
    let known = state.known_blobs(&one, &many).await.expect("known");
    assert_eq!(known.iter().position(|known| !known), Some(2_500), "in the order of the question");
    assert_eq!(known.iter().filter(|known| **known).count(), 2_500);
}

async fn registers_workers<S: JobState>(state: &S) {
    let heartbeat = Heartbeat {
        worker: worker("w1"),
        pool: "p".to_owned(),
        slots: 2,
        holds: vec![(Id::of(b"task"), 0)],
        draining: false,
        said_at: UnixTime::from_seconds(1),
        repository: Id::of(b"repository"),
        version: "1.2.3".to_owned(),
        busy: 1,
        roots: vec![b"/data/\xff".to_vec().into()],
        restore_roots: vec![b"/restored".to_vec().into()],
        host: "h".to_owned(),
    };
    state.heartbeat(&heartbeat).await.expect("heartbeat");
    assert_eq!(state.workers().await.expect("workers"), [heartbeat]);
    state.deregister(&worker("w1")).await.expect("deregister");
    assert!(state.workers().await.expect("workers").is_empty());
}

async fn registers_coordinators<S: JobState>(state: &S) {
    let heartbeat = |name: &str, leads: &[&str]| CoordinatorHeartbeat {
        coordinator: CoordinatorId::new(name).expect("a coordinator id"),
        leads: leads.iter().map(|name| job(name)).collect(),
        said_at: UnixTime::from_seconds(1),
        repository: Id::of(b"repository"),
        version: "1.2.3".to_owned(),
        pools: vec!["p".to_owned()],
    };
    assert!(state.coordinators().await.expect("coordinators").is_empty());
    state.coordinator_heartbeat(&heartbeat("c1", &["j", "k"])).await.expect("heartbeat");
    state.coordinator_heartbeat(&heartbeat("c2", &[])).await.expect("heartbeat");
    state.coordinator_heartbeat(&heartbeat("c1", &["k"])).await.expect("heartbeat");
    let mut found = state.coordinators().await.expect("coordinators");
    found.sort_by(|a, b| a.coordinator.cmp(&b.coordinator));
    assert_eq!(found, [heartbeat("c1", &["k"]), heartbeat("c2", &[])], "the last word of each counts");
    assert!(state.workers().await.expect("workers").is_empty(), "a coordinator is no worker");
    state.deregister_coordinator(&heartbeat("c1", &[]).coordinator).await.expect("deregister");
    assert_eq!(state.coordinators().await.expect("coordinators"), [heartbeat("c2", &[])]);
}

async fn remembers_cancel<S: JobState>(state: &S) {
    assert!(!state.cancel_requested(&job("j")).await.expect("cancel"));
    state.request_cancel(&job("j")).await.expect("cancel");
    assert!(state.cancel_requested(&job("j")).await.expect("cancel"));
}

async fn counts_starts_by_worker<S: JobState>(state: &S) {
    let (job, task) = (job("j"), Id::of(b"task"));
    assert!(state.note_start(&job, &task, 0, &worker("w1")).await.expect("start").is_empty());
    assert!(state.note_start(&job, &task, 0, &worker("w1")).await.expect("start").is_empty());
    assert_eq!(state.note_start(&job, &task, 0, &worker("w2")).await.expect("start"), [worker("w1")]);
    assert!(state.note_start(&job, &task, 1, &worker("w2")).await.expect("start").is_empty(), "another round");
    state.take_back_start(&job, &task, 0, &worker("w1")).await.expect("back");
    assert!(state.note_start(&job, &task, 0, &worker("w2")).await.expect("start").is_empty());
}

async fn keeps_the_document_of_a_job<S: JobState>(state: &S) {
    assert_eq!(state.job_state(&job("j")).await.expect("document"), None);
    for text in ["first", "last"] {
        state.put_job_state(&job("j"), Bytes::from_static(text.as_bytes())).await.expect("put");
    }
    state.open_job(&job("j"), 7).await.expect("open");
    state.close_job(&job("j")).await.expect("close");
    assert_eq!(state.job_state(&job("j")).await.expect("document").as_deref(), Some(&b"last"[..]));
    assert_eq!(state.job_state(&job("k")).await.expect("document"), None);
    let error = state.put_job_state(&job("j"), vec![0; DOCUMENT_BYTES_MAX + 1].into()).await.expect_err("too long");
    assert!(matches!(error, StateError::TooLong { .. }), "{error}");
    state.put_job_state(&job("j"), vec![1; DOCUMENT_BYTES_MAX].into()).await.expect("the longest");
    assert_eq!(state.job_state(&job("j")).await.expect("document").map(|bytes| bytes.len()), Some(DOCUMENT_BYTES_MAX));
}

async fn lists_the_newest_jobs<S: JobState>(state: &S) {
    let (one, two) = (Id::of(b"one"), Id::of(b"two"));
    assert!(state.jobs(&one).await.expect("jobs").is_empty());
    for number in [2, 0, 1, 2] {
        state.note_job(&one, &job(&format!("{number:04}"))).await.expect("note");
    }
    assert_eq!(state.jobs(&one).await.expect("jobs"), [job("0000"), job("0001"), job("0002")], "the newest last");
    assert!(state.jobs(&two).await.expect("jobs").is_empty());
    for number in 3..JOBS_NOTED_MAX + 2 {
        state.note_job(&one, &job(&format!("{number:04}"))).await.expect("note");
    }
    let jobs = state.jobs(&one).await.expect("jobs");
    assert_eq!((jobs.len(), &jobs[0]), (JOBS_NOTED_MAX, &job("0002")), "the oldest are forgotten");
}

async fn remembers_drain_requests<S: JobState>(state: &S) {
    assert!(!state.drain_requested(&worker("w1")).await.expect("drain"));
    state.request_drain(&worker("w1")).await.expect("drain");
    assert!(state.drain_requested(&worker("w1")).await.expect("drain"));
    assert!(!state.drain_requested(&worker("w2")).await.expect("drain"));
}
