//! The last step of a request: what the client and its logs must not see is added here, and what an error may not show is
//! taken out of it.
//!
//! # What may leak
//! A shared access signature is part of the URL, and errors of the HTTP client show URLs. The client above therefore works
//! with URLs without one, and errors leave without theirs. Keys and tokens are in headers, which nothing prints.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use azure_core::Error;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::{AsyncRawResponse, HttpClient, Request};
use azure_core::time::parse_rfc7231;
use futures::TryStreamExt;
use proto::handles::Clock;

use super::settings::Sas;

/// No answer had a date yet.
const NEVER: i64 = i64::MIN;

/// How far the clock of the service is ahead of ours, as its last answer said.
#[derive(Debug)]
pub(super) struct ServiceClock(AtomicI64);

impl ServiceClock {
    pub(super) fn new() -> Self {
        Self(AtomicI64::new(NEVER))
    }

    /// Seconds; `None` before the first answer.
    pub(super) fn offset_seconds(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|offset| *offset != NEVER)
    }

    fn observe(&self, headers: &Headers, clock: &dyn Clock) {
        let date = headers.get_optional_str(&HeaderName::from_static("date"));
        if let Some(Ok(date)) = date.map(parse_rfc7231) {
            self.0.store(date.unix_timestamp().saturating_sub(clock.now().seconds), Ordering::Relaxed);
        }
    }
}

/// The HTTP client, seen by the client of the service.
pub(super) struct Wire {
    pub(super) client: reqwest::Client,
    pub(super) sas: Option<Sas>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) service_clock: Arc<ServiceClock>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Wire(..)")
    }
}

#[async_trait]
impl HttpClient for Wire {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let response = match &self.sas {
            None => self.client.execute_request(request).await,
            Some(sas) => self.client.execute_request(&with_sas(request, sas)).await,
        };
        let (status, headers, body) = response.map_err(without_url)?.deconstruct();
        self.service_clock.observe(&headers, &*self.clock);
        Ok(AsyncRawResponse::new(status, headers, Box::pin(body.map_err(without_url))))
    }
}

/// The same request with the signature behind what its query has.
fn with_sas(request: &Request, sas: &Sas) -> Request {
    let mut request = request.clone();
    let query = match request.url().query().filter(|query| !query.is_empty()) {
        Some(query) => format!("{query}&{}", sas.expose()),
        None => sas.expose().to_owned(),
    };
    request.url_mut().set_query(Some(&query));
    request
}

/// The same error; a URL in it is gone.
pub(super) fn without_url(error: Error) -> Error {
    let (kind, message) = (error.kind().clone(), error.to_string());
    match error.into_downcast::<reqwest::Error>() {
        Ok(cause) => Error::with_error(kind, cause.without_url(), message),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use azure_core::http::{Method, Url};

    use super::*;
    use crate::storage::test_handles::JumpingClock;

    #[test]
    fn a_signature_comes_behind_what_is_asked_for() {
        let sas = Sas::parse("?sv=1&sig=a%2Bb%3D").unwrap();
        for (url, expected) in [
            ("https://h/box?comp=list", "https://h/box?comp=list&sv=1&sig=a%2Bb%3D"),
            ("https://h/box", "https://h/box?sv=1&sig=a%2Bb%3D"),
        ] {
            let request = Request::new(Url::parse(url).unwrap(), Method::Get);
            assert_eq!(with_sas(&request, &sas).url().as_str(), expected);
            assert_eq!(request.url().as_str(), url);
        }
    }

    #[test]
    fn the_offset_is_that_of_the_last_answer_with_a_date() {
        let (watch, clock) = (ServiceClock::new(), JumpingClock::default());
        assert_eq!(watch.offset_seconds(), None);
        let answer = |date: &'static str| {
            let mut headers = Headers::new();
            headers.insert(HeaderName::from_static("date"), date);
            watch.observe(&headers, &clock);
            watch.offset_seconds()
        };
        // The clock of the test stands at 2023-11-14T22:13:20Z.
        assert_eq!(answer("Tue, 14 Nov 2023 22:13:30 GMT"), Some(10));
        assert_eq!(answer("Tue, 14 Nov 2023 21:13:20 GMT"), Some(-3_600));
        assert_eq!(answer("no date"), Some(-3_600));
    }

    #[tokio::test]
    async fn an_error_does_not_show_the_signature() {
        super::super::client::install_tls();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let clock = Arc::new(JumpingClock::default());
        let sas = Some(Sas::parse("sv=1&sig=hunter2").unwrap());
        let wire = Wire { client, sas, clock, service_clock: Arc::new(ServiceClock::new()) };
        // Port 1 is nobody's.
        let request = Request::new(Url::parse("http://127.0.0.1:1/box").unwrap(), Method::Get);
        let error = wire.execute_request(&request).await.map(drop).unwrap_err();
        let mut shown = format!("{error:?} {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            shown.push_str(&format!(" {error:?} {error}"));
            cause = error.source();
        }
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(error.kind(), &azure_core::error::ErrorKind::Connection, "{shown}");
    }
}
