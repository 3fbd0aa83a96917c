//! Answers over HTTP/1.1: GET and HEAD, one request a connection, within a time limit.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use proto::handles::Clock;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use super::health::Health;
use crate::clock::SystemClock;
use crate::limit::within;
use crate::metrics::Exporter;

/// From the first byte of a request to the last one of its answer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// A request line and its headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 32;
/// After a connection could not be accepted, as without free descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";
/// The text format of Prometheus.
const FIGURES: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// What is served.
struct Site {
    exporter: Arc<Exporter>,
    health: Arc<Health>,
}

/// Serves on a thread of its own, until `stop` is dropped.
pub(super) fn begin(
    listener: TcpListener,
    exporter: Arc<Exporter>,
    health: Arc<Health>,
    stop: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let site = Arc::new(Site { exporter, health });
    let serve = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = stop => {}
                () = accept(listener, site) => {} // never ends
            }
        });
    };
    std::thread::Builder::new().name("page".to_owned()).spawn(serve)?;
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = site.clone();
                tokio::spawn(async move {
                    within(CONNECTION_LIMIT, converse(stream, site)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the page was not accepted");
                SystemClock::new().sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, site: Arc<Site>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&site, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let conversing = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = conversing.await {
        tracing::debug!(%error, "a request to the page was not understood");
    }
}

fn answer(site: &Site, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/metrics" => response(StatusCode::OK, FIGURES, site.exporter.render()),
        "/healthz" => match site.health.stands_still_for() {
            None => response(StatusCode::OK, TEXT, "alive\n".to_owned()),
            Some(still) => {
                let text = format!("the event loop stands still for {} s\n", still.as_secs());
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        },
        "/readyz" => {
            let readiness = site.health.readiness();
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let json = serde_json::to_string(&readiness).unwrap_or_default();
            response(status, JSON, json + "\n")
        }
        _ => response(StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz\n".to_owned()),
    }
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
