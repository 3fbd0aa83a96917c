//! The job state on a server that fails.

use std::time::Duration;

use bytes::Bytes;
use fleet::clock::SystemClock;
use fleet::service::Service;
use fleet::state::{JobState, Position, RedisState, StateError};
use proto::handles::Clock;
use proto::id::{Id, JobId, WorkerId};
use proto::names::state::Keys;
use rustix::process::Signal;
use tests::services::free_port;
use tests::services::redis::PrivateRedis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{state_at, until, within};

/// A call ends by then.
const CALL_LIMIT: Duration = Duration::from_secs(2);

fn job() -> JobId {
    JobId::new("j").expect("a job id")
}

/// One call of every kind; a report is waited for a second.
async fn ask_everything(state: &RedisState) -> Vec<Result<(), StateError>> {
    let (job, id, worker) = (job(), Id::of(b"x"), WorkerId::new("w").expect("a worker id"));
    let wait = Duration::from_secs(1);
    vec![
        within(CALL_LIMIT, "open", state.open_job(&job, 7)).await.map(drop),
        within(CALL_LIMIT, "generation", state.generation(&job)).await.map(drop),
        within(CALL_LIMIT, "append", state.append_report(&job, Bytes::from_static(b"x"))).await,
        within(CALL_LIMIT + wait, "read", state.read_reports(&job, &Position::default(), 1, wait)).await.map(drop),
        within(CALL_LIMIT, "trim", state.trim_reports(&job, &Position::default())).await,
        within(CALL_LIMIT, "add", state.add_known_blobs(&id, &[1])).await,
        within(CALL_LIMIT, "known", state.known_blobs(&id, &[1])).await.map(drop),
        within(CALL_LIMIT, "workers", state.workers()).await.map(drop),
        within(CALL_LIMIT, "cancel", state.request_cancel(&job)).await,
        within(CALL_LIMIT, "start", state.note_start(&job, &id, 0, &worker)).await.map(drop),
        within(CALL_LIMIT, "put", state.put_job_state(&job, Bytes::new())).await,
        within(CALL_LIMIT, "close", state.close_job(&job)).await,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_server_that_restarts_empty_has_lost_the_generation() {
    let mut server = PrivateRedis::start("restart", &[]);
    let state = state_at(&server.url(""), "t").await;
    assert_eq!(state.open_job(&job(), 7).await.expect("open"), 7);
    state.append_report(&job(), Bytes::from_static(b"lost")).await.expect("append");
    let read = state.read_reports(&job(), &Position::default(), 9, Duration::ZERO).await.expect("read");

    server.kill();
    for answer in ask_everything(&state).await {
        assert!(matches!(answer, Err(StateError::Unavailable { .. })), "{answer:?}");
    }
    server.start_again();
    let generation = until("an answer", async || state.generation(&job()).await, |answer| answer.is_ok()).await;
    assert_eq!(generation.expect("an answer"), None, "a loss is seen");
    assert_eq!(state.open_job(&job(), 8).await.expect("open"), 8);
    state.append_report(&job(), Bytes::from_static(b"new")).await.expect("append");
    let wait = Duration::from_secs(5);
    let found = state.read_reports(&job(), &Position::default(), 9, wait).await.expect("read");
    assert_eq!(found.len(), 1, "who begins anew finds it");
    // The clock of the server goes on, so that even who does not know yet finds it.
    let found = state.read_reports(&job(), &read[0].0, 9, wait).await.expect("read");
    assert_eq!(found.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_flush_in_mid_job_is_seen_and_costs_no_later_report() {
    let server = PrivateRedis::start("flush", &[]);
    let state = state_at(&server.url(""), "t").await;
    state.open_job(&job(), 7).await.expect("open");
    // The stream of a server whose clock was ahead.
    server.cli(&["XADD", "t:{j}:reports", "9999999999999-0", "r", "ahead"]);
    let read = state.read_reports(&job(), &Position::default(), 9, Duration::ZERO).await.expect("read");
    server.cli(&["FLUSHALL"]);
    assert_eq!(state.generation(&job()).await.expect("generation"), None, "a loss is seen");
    state.append_report(&job(), Bytes::from_static(b"behind")).await.expect("append");
    let from_there = state.read_reports(&job(), &read[0].0, 9, Duration::ZERO).await.expect("read");
    assert!(from_there.is_empty(), "the new stream is behind the old one");
    let from_start = state.read_reports(&job(), &Position::default(), 9, Duration::ZERO).await.expect("read");
    assert_eq!(from_start.len(), 1, "so readers begin at the start");
    let answers = ask_everything(&state).await;
    assert!(answers.iter().all(Result::is_ok), "scripts are sent again: {answers:?}");
    assert!(server.keys().iter().all(|(_, seconds)| *seconds > 0), "{:?}", server.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_server_that_is_silent_keeps_nobody_waiting() {
    let server = PrivateRedis::start("silent", &[]);
    let state = state_at(&server.url(""), "t").await;
    assert!(ask_everything(&state).await.iter().all(Result::is_ok));
    server.signal(Signal::STOP);
    for answer in ask_everything(&state).await {
        assert!(matches!(answer, Err(StateError::Unavailable { .. })), "{answer:?}");
    }
    server.signal(Signal::CONT);
    until("an answer", async || state.generation(&job()).await, |answer| answer.is_ok()).await.expect("an answer");
    let answers = ask_everything(&state).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_connections_that_the_server_closes_are_made_again() {
    let server = PrivateRedis::start("closed", &[]);
    let state = state_at(&server.url(""), "t").await;
    for _ in 0..3 {
        assert!(ask_everything(&state).await.iter().all(Result::is_ok));
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    let answers = ask_everything(&state).await;
    assert!(answers.iter().all(Result::is_ok), "nobody notices: {answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_server_that_takes_no_writes_says_so() {
    let server = PrivateRedis::start("read-only", &[]);
    let state = state_at(&server.url(""), "t").await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = state.append_report(&job(), Bytes::from_static(b"x")).await.expect_err("no memory");
    assert!(matches!(&error, StateError::Unavailable { message } if message.contains("maxmemory")), "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = state.request_cancel(&job()).await.expect_err("read only");
    assert!(matches!(&error, StateError::Unavailable { message } if message.contains("read only")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_refusals_are_told_from_silence() {
    let server = PrivateRedis::start("refusals", &["--requirepass", "right"]);
    for user in ["", ":secret-3141@", "nobody:secret-3141@"] {
        let connected = RedisState::connect(&Service::new(server.url(user)), Keys::default()).await;
        let error = connected.err().expect("refused");
        assert!(matches!(error, StateError::Denied { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret-3141"), "{error:?}");
    }
    let state = state_at(&server.url(":right@"), "t").await;
    let answers = ask_everything(&state).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");

    let nobody = Service::new(format!("redis://:secret-3141@127.0.0.1:{}", free_port()));
    for service in [nobody, Service::new("secret-3141"), Service::new("redis://:secret-3141@host:port")] {
        let error = RedisState::connect(&service, Keys::default()).await.err().expect("nobody there");
        assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret-3141"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_user_without_the_right_is_denied() {
    let server = PrivateRedis::start("rights", &[]);
    server.cli(&["ACL", "SETUSER", "limited", "on", ">secret-3141", "~*", "+ping"]);
    let state = state_at(&server.url("limited:secret-3141@"), "t").await;
    for answer in ask_everything(&state).await {
        assert!(matches!(answer, Err(StateError::Denied { .. })), "{answer:?}");
    }
}

/// Passes bytes on, from the server so many a second.
async fn slow_line(server_port: u16, bytes_a_second: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await else { return };
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) });
            tokio::spawn(async move {
                let mut piece = vec![0; 16 << 10];
                while let Ok(len @ 1..) = from_server.read(&mut piece).await {
                    let takes = Duration::from_micros(len as u64 * 1_000_000 / bytes_a_second);
                    SystemClock::new().sleep(takes).await;
                    if to_client.write_all(&piece[..len]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// All of them need eight seconds, and no call has more than two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_long_reports_come_over_a_slow_line() {
    let server = PrivateRedis::start("slow", &[]);
    let near = state_at(&server.url(""), "t").await;
    for _ in 0..64 {
        near.append_report(&job(), Bytes::from(vec![7; 128 << 10])).await.expect("append");
    }
    let port = slow_line(server.port(), 1 << 20).await;
    for wait in [Duration::ZERO, Duration::from_millis(100)] {
        let far = state_at(&format!("redis://127.0.0.1:{port}"), "t").await;
        let mut place = Position::default();
        let mut count = 0;
        while count < 64 {
            let read = async || far.read_reports(&job(), &place, 256, wait).await;
            let reports = until("some reports", read, |read| read.as_ref().is_ok_and(|read| !read.is_empty())).await;
            let reports = reports.expect("reports");
            count += reports.len();
            place = reports.last().expect("some").0.clone();
        }
        assert_eq!(count, 64, "each once");
    }
}
