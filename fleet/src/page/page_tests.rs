//! The page over a real socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proto::handles::{BoxFuture, UnixTime};

use super::*;
use crate::clock::SystemClock;

/// A page with figures of its own: the process has but one recorder.
fn page(clock: Arc<dyn Clock>) -> Page {
    let (_, exporter) = Exporter::build().unwrap();
    let listening = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    Page::serve(listening, exporter, Role::Worker, &[], clock).unwrap()
}

/// Sends what is given, reads to the end. On a thread where tests may block.
async fn talk(page: &Page, request: impl Into<Vec<u8>>) -> String {
    let (address, request) = (page.address(), request.into());
    let talking = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may be closed before all is sent.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    tokio::task::spawn_blocking(talking).await.unwrap()
}

async fn get(page: &Page, path: &str) -> String {
    talk(page, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

#[tokio::test]
async fn figures_are_served() {
    let page = page(Arc::new(SystemClock::new()));
    page.exporter().append(|text| text.push_str("figure 1\n"));
    let answer = get(&page, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nfigure 1\n"), "{answer}");
    let head = talk(&page, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-length: 9\r\n"), "{head}");
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let page = page(Arc::new(SystemClock::new()));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
        ("DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "405"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10)), "431"),
    ] {
        let answer = talk(&page, request).await;
        let of_line = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        // One that is cut off in the middle of a long request may be reset before its answer is read.
        assert!(of_line == status || (status == "431" && answer.is_empty()), "{status}: {answer}");
    }
}

#[tokio::test]
async fn readiness_names_what_is_not() {
    let page = page(Arc::new(SystemClock::new()));
    assert!(get(&page, "/readyz").await.ends_with("{\"ready\":true,\"checks\":[]}\n"), "it needs nothing");
    let blocked = Arc::new(AtomicBool::new(true));
    let is_blocked = blocked.clone();
    page.ready_if("repository", || async { Ok(()) });
    page.ready_if("queue", move || {
        let found = if is_blocked.load(Ordering::Relaxed) { Err("blocked: low on memory".to_owned()) } else { Ok(()) };
        async move { found }
    });
    page.health.look_once().await;
    let answer = get(&page, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let queue = "{\"name\":\"queue\",\"ready\":false,\"reason\":\"blocked: low on memory\"}";
    let repository = "{\"name\":\"repository\",\"ready\":true}";
    assert!(answer.ends_with(&format!("{{\"ready\":false,\"checks\":[{repository},{queue}]}}\n")), "{answer}");
    blocked.store(false, Ordering::Relaxed);
    page.health.look_once().await;
    assert!(get(&page, "/readyz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn what_is_needed_is_missed_until_it_is_watched() {
    let (_, exporter) = Exporter::build().unwrap();
    let clock = Arc::new(SystemClock::new());
    let listening = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let page = Page::serve(listening, exporter, Role::Worker, services::NEEDED, clock.clone()).unwrap();
    let answer = get(&page, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"repository\",\"ready\":false"), "{answer}");
    page.watch_repository(Arc::default());
    page.watch_state(Arc::new(crate::state::LocalState::new(clock)));
    page.health.look_once().await;
    let checks = page.health.readiness();
    let json = serde_json::to_value(&checks).unwrap();
    let not_ready: Vec<&str> = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["ready"] == false)
        .map(|found| found["name"].as_str().unwrap())
        .collect();
    assert_eq!(not_ready, ["queue"], "{json}");
    assert!(get(&page, "/metrics").await.contains("longshore_storage_retries_total{op=\"put\"} 0"));
}

/// A clock that is moved by hand.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> UnixTime {
        UnixTime::default().plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn an_event_loop_that_stands_still_is_told() {
    let clock = Arc::new(HandClock::default());
    let page = page(clock.clone());
    page.ready_if("queue", || async { Ok(()) });
    page.health.look_once().await;
    assert!(get(&page, "/healthz").await.ends_with("\r\n\r\nalive\n"));
    clock.0.store(25, Ordering::Relaxed);
    let answer = get(&page, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("stands still for 25 s\n"), "{answer}");
    let answer = get(&page, "/readyz").await;
    assert!(answer.contains("nobody has looked for a while"), "{answer}");
}

#[tokio::test]
async fn a_place_that_is_taken_is_named() {
    let page = page(Arc::new(SystemClock::new()));
    let error = listen(page.address()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen at {}", page.address()));
}
