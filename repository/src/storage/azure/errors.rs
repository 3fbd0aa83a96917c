//! What an answer of the service means for us, by its status and code; and an error that shows neither URL nor body.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::RawResponse;
use azure_core::http::headers::{HeaderName, Headers};

use super::entra::NoToken;
use crate::storage::error::{Failure, StorageErrorKind};
use crate::storage::operation::Operation;

/// From this difference on it is told beside a refused signature, which has a time in it. The service allows 15 minutes.
const OFFSET_TOLD_SECONDS: u64 = 120;
/// Longest text of the service that we pass on.
const MESSAGE_CHARS_MAX: usize = 300;

/// An answer that is not the one hoped for.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: u16,
    code: String,
    /// The first line of what the service says to people.
    message: String,
    request_id: String,
    /// Our clock, where it is far off and the service did not believe us.
    clock_off_seconds: Option<i64>,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the service answered {}", self.status)?;
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                write!(formatter, " {part}")?;
            }
        }
        if !self.request_id.is_empty() {
            write!(formatter, " (request {})", self.request_id)?;
        }
        match self.clock_off_seconds {
            Some(off) => write!(formatter, "; its clock is {off} seconds ahead of ours"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Answer {}

/// No answer, or none that makes sense.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The time for it is over.
    #[error("no answer within {} seconds", .0.as_secs())]
    Late(Duration),
    /// Something else than the service answers there.
    #[error("the answer is not understood: {0}")]
    Strange(String),
    /// The bytes are not those that were sent.
    #[error("the checksum of what was received is another than the service's")]
    Damaged,
}

/// The failure that `error` of a call is.
pub(super) fn judge(operation: Operation, error: &azure_core::Error, clock_offset: Option<i64>) -> Failure {
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code, raw_response } => {
            let status = u16::from(*status);
            let code = error_code.clone().unwrap_or_default();
            let kind = kind_of(operation, status, &code);
            let refused = matches!(status, 401 | 403);
            let clock_off_seconds =
                clock_offset.filter(|offset| refused && offset.unsigned_abs() > OFFSET_TOLD_SECONDS);
            let (message, request_id, retry_after) = match raw_response {
                Some(response) => (
                    message_of(response),
                    header(response.headers(), "x-ms-request-id"),
                    retry_after(response.headers()),
                ),
                None => Default::default(),
            };
            // What stands between us and the service answers without these.
            let is_answer = !code.is_empty() || !request_id.is_empty();
            let answer = Answer { status, code, message, request_id, clock_off_seconds };
            Failure { retry_after, is_answer, ..Failure::new(kind, answer) }
        }
        ErrorKind::Connection => Failure::new(StorageErrorKind::Unavailable, NoAnswer::Connect(deepest(error))),
        ErrorKind::Io => Failure::new(StorageErrorKind::Unknown, NoAnswer::Broken(deepest(error))),
        ErrorKind::Credential => match find::<NoToken>(error) {
            Some(no_token) if no_token.is_transient() => Failure::new(StorageErrorKind::Unavailable, no_token.clone()),
            Some(no_token) => Failure::new(StorageErrorKind::Denied, no_token.clone()),
            None => Failure::new(StorageErrorKind::Denied, NoAnswer::Strange(deepest(error))),
        },
        _ => Failure::new(StorageErrorKind::Permanent, NoAnswer::Strange(deepest(error))),
    }
}

/// <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>
fn kind_of(operation: Operation, status: u16, code: &str) -> StorageErrorKind {
    let is_put = operation == Operation::Put;
    match (status, code) {
        // Damaged on its way; the emulator has no code of its own for it.
        (400, "Md5Mismatch" | "Crc64Mismatch") => StorageErrorKind::Unavailable,
        (400, "InvalidOperation") if is_put => StorageErrorKind::Unavailable,
        // Who may create and not write is told so when the name is taken.
        (403, "UnauthorizedBlobOverwrite") if is_put => StorageErrorKind::AlreadyThere,
        (401 | 403, _) => StorageErrorKind::Denied,
        (404, _) => StorageErrorKind::NotFound,
        (409, "BlobAlreadyExists" | "BlobImmutableDueToPolicy") | (412, "ConditionNotMet") if is_put => {
            StorageErrorKind::AlreadyThere
        }
        (409, "BlobImmutableDueToPolicy") => StorageErrorKind::Denied,
        // What is made or removed at the moment will be there, or not, in a while.
        (409, "ContainerBeingDeleted" | "ContainerBeingDisabled" | "AccountBeingCreated" | "OperationAborted") => {
            StorageErrorKind::Unavailable
        }
        (416, _) => StorageErrorKind::OutOfRange,
        (429 | 503, _) => StorageErrorKind::Unavailable,
        (507, _) => StorageErrorKind::Full,
        (408 | 500..=599, _) => StorageErrorKind::Unknown,
        _ => StorageErrorKind::Permanent,
    }
}

/// The code of the answer that `error` is; empty for another error.
pub(super) fn code_of(error: &azure_core::Error) -> &str {
    match error.kind() {
        ErrorKind::HttpResponse { error_code: Some(code), .. } => code,
        _ => "",
    }
}

/// The first line of `<Message>`: behind it come ids, and for a refused signature what was signed.
fn message_of(response: &RawResponse) -> String {
    let body: &[u8] = response.body().as_ref();
    let text = String::from_utf8_lossy(body);
    let message = text.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    let line = message.and_then(|(message, _)| message.lines().next()).unwrap_or_default();
    line.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

fn header(headers: &Headers, name: &'static str) -> String {
    let value = headers.get_optional_str(&HeaderName::from_static(name)).unwrap_or_default();
    value.chars().filter(char::is_ascii_graphic).take(80).collect()
}

/// How long the service asks us to wait.
fn retry_after(headers: &Headers) -> Option<Duration> {
    let number = |name| header(headers, name).parse().ok();
    let millis = number("x-ms-retry-after-ms").or_else(|| number("retry-after-ms"));
    millis.map(Duration::from_millis).or_else(|| number("retry-after").map(Duration::from_secs))
}

/// The last cause: what the system or the TLS library said. URLs stand further up only.
pub(super) fn deepest(error: &azure_core::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The first cause of a type.
fn find<T: std::error::Error + 'static>(error: &azure_core::Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use azure_core::http::StatusCode;

    use super::*;

    fn answer(status: u16, code: &str, headers: &[(&'static str, &'static str)], body: &str) -> azure_core::Error {
        let status = StatusCode::from(status);
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(HeaderName::from_static(name), *value);
        }
        let raw_response = Some(Box::new(RawResponse::from_bytes(status, all, body.as_bytes().to_vec())));
        let kind = ErrorKind::HttpResponse { status, error_code: Some(code.to_owned()), raw_response };
        azure_core::Error::with_message(kind, body.to_owned())
    }

    #[test]
    fn each_status_has_its_kind() {
        use StorageErrorKind::{AlreadyThere, Denied, Full, NotFound, OutOfRange, Permanent, Unavailable, Unknown};
        let (put, get, delete) = (Operation::Put, Operation::Get, Operation::Delete);
        for (operation, status, code, kind) in [
            (put, 400, "Md5Mismatch", Unavailable),
            (put, 400, "InvalidOperation", Unavailable),
            (get, 400, "InvalidOperation", Permanent),
            (put, 400, "InvalidHeaderValue", Permanent),
            (get, 401, "InvalidAuthenticationInfo", Denied),
            (get, 403, "AuthenticationFailed", Denied),
            (put, 403, "UnauthorizedBlobOverwrite", AlreadyThere),
            (get, 404, "BlobNotFound", NotFound),
            (get, 404, "ContainerNotFound", NotFound),
            (put, 409, "BlobAlreadyExists", AlreadyThere),
            (put, 409, "BlobImmutableDueToPolicy", AlreadyThere),
            (delete, 409, "BlobImmutableDueToPolicy", Denied),
            (put, 409, "LeaseAlreadyPresent", Permanent),
            (get, 409, "BlobArchived", Permanent),
            (put, 409, "ContainerBeingDeleted", Unavailable),
            (put, 412, "ConditionNotMet", AlreadyThere),
            (put, 412, "LeaseIdMissing", Permanent),
            (get, 416, "InvalidRange", OutOfRange),
            (get, 429, "", Unavailable),
            (put, 500, "InternalError", Unknown),
            (put, 500, "OperationTimedOut", Unknown),
            (put, 503, "ServerBusy", Unavailable),
            (put, 507, "", Full),
        ] {
            let failure = judge(operation, &answer(status, code, &[], ""), None);
            assert_eq!(failure.kind, kind, "{operation:?} {status} {code}");
        }
    }

    #[test]
    fn an_answer_is_told_in_one_line_without_what_was_signed() {
        let body = "<?xml?><Error><Code>AuthenticationFailed</Code><Message>Server failed.\nRequestId:1\n</Message>\
            <AuthenticationErrorDetail>the string PUT sig=hunter2</AuthenticationErrorDetail></Error>";
        let error = answer(403, "AuthenticationFailed", &[("x-ms-request-id", "r-1")], body);
        let failure = judge(Operation::Get, &error, Some(7_200));
        let expected = "the service answered 403 AuthenticationFailed Server failed. (request r-1); its clock is 7200 \
            seconds ahead of ours";
        assert_eq!(failure.source.to_string(), expected);
        assert!(!format!("{failure:?}").contains("hunter2"));
        assert!(!judge(Operation::Get, &error, Some(60)).source.to_string().contains("clock"));
    }

    #[test]
    fn the_service_says_how_long_to_wait() {
        for (name, value, expected) in [
            ("retry-after", "7", Some(Duration::from_secs(7))),
            ("x-ms-retry-after-ms", "250", Some(Duration::from_millis(250))),
            ("retry-after", "Tue, 14 Nov 2023 22:13:30 GMT", None),
        ] {
            let failure = judge(Operation::Put, &answer(503, "ServerBusy", &[(name, value)], ""), None);
            assert_eq!(failure.retry_after, expected, "{name}: {value}");
            assert!(failure.is_answer);
        }
        let of_a_proxy = judge(Operation::Get, &answer(503, "", &[], ""), None);
        assert!(!of_a_proxy.is_answer, "nobody knows whether there is a service");
    }

    #[test]
    fn without_an_answer_only_a_connection_that_never_was_is_certain() {
        let io = || std::io::Error::other("deepest");
        for (kind, expected) in [
            (ErrorKind::Connection, StorageErrorKind::Unavailable),
            (ErrorKind::Io, StorageErrorKind::Unknown),
            (ErrorKind::DataConversion, StorageErrorKind::Permanent),
        ] {
            let error = azure_core::Error::with_error(kind, io(), "https://h/?sig=hunter2");
            let failure = judge(Operation::Put, &error, None);
            assert_eq!(failure.kind, expected);
            let shown = format!("{} {failure:?}", failure.source);
            assert!(shown.contains("deepest") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
