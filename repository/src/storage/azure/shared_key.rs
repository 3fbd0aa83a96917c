//! Signing with an account key: what the service calls Shared Key. The client knows tokens only, so it is a policy that
//! comes last, when all headers are there; each try is signed by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::{AUTHORIZATION, HeaderName};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};
use azure_core::time::{OffsetDateTime, to_rfc7231};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use proto::handles::Clock;
use sha2::Sha256;

use super::settings::AccountKey;

/// The headers that are signed by their value, in the service's order. Between content type and the conditions stands
/// the date, which is empty: `x-ms-date` counts instead.
const BEFORE_DATE: [&str; 5] =
    ["content-encoding", "content-language", "content-length", "content-md5", "content-type"];
const AFTER_DATE: [&str; 5] = ["if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"];

/// Signs requests.
pub(super) struct SharedKeyPolicy {
    account: String,
    key: AccountKey,
    clock: Arc<dyn Clock>,
}

impl SharedKeyPolicy {
    pub(super) fn new(account: &str, key: AccountKey, clock: Arc<dyn Clock>) -> Self {
        Self { account: account.to_owned(), key, clock }
    }

    fn sign(&self, request: &mut Request) {
        let now = OffsetDateTime::from_unix_timestamp(self.clock.now().seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        request.insert_header(HeaderName::from_static("x-ms-date"), to_rfc7231(&now));
        let mut mac = match Hmac::<Sha256>::new_from_slice(self.key.bytes()) {
            Ok(mac) => mac,
            Err(_) => unreachable!("a key of HMAC may have any length"),
        };
        mac.update(string_to_sign(&self.account, request).as_bytes());
        let signature = BASE64.encode(&mac.finalize().into_bytes());
        request.insert_header(AUTHORIZATION, format!("SharedKey {}:{signature}", self.account));
    }
}

impl fmt::Debug for SharedKeyPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedKeyPolicy").field("account", &self.account).finish_non_exhaustive()
    }
}

#[async_trait]
impl Policy for SharedKeyPolicy {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        self.sign(request);
        next[0].send(context, request, &next[1..]).await
    }
}

/// What is signed: method, standard headers, `x-ms-` headers, account, path and query.
/// <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>
fn string_to_sign(account: &str, request: &Request) -> String {
    let headers: BTreeMap<&str, &str> =
        request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let length = request.body().len().filter(|len| *len > 0).map(|len| len.to_string()).unwrap_or_default();
    let standard = |name: &&str| match *name {
        "content-length" => length.clone(),
        name => headers.get(name).copied().unwrap_or_default().to_owned(),
    };
    let mut lines = vec![request.method().to_string()];
    lines.extend(BEFORE_DATE.iter().map(standard));
    lines.push(String::new());
    lines.extend(AFTER_DATE.iter().map(standard));
    let own = headers.iter().filter(|(name, _)| name.starts_with("x-ms-"));
    lines.extend(own.map(|(name, value)| format!("{name}:{}", value.trim())));
    lines.push(format!("/{account}{}", request.url().path()));
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.url().query_pairs() {
        query.entry(name.to_lowercase()).or_default().push(value.into_owned());
    }
    for (name, mut values) in query {
        values.sort_unstable();
        lines.push(format!("{name}:{}", values.join(",")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use azure_core::http::{Method, Url};
    use proto::handles::UnixTime;

    use super::*;
    use crate::storage::test_handles::JumpingClock;

    fn request() -> Request {
        let url = "https://name.blob.core.windows.net/box/a%20b/c?restype=container&comp=list&Prefix=x%2Fy&comp=a";
        let mut request = Request::new(Url::parse(url).unwrap(), Method::Put);
        request.insert_header("x-ms-version", "2025-11-05");
        request.insert_header("content-type", "application/xml");
        request.insert_header("if-none-match", "*");
        request.insert_header("x-ms-blob-type", "BlockBlob ");
        request.insert_header("accept", "not signed");
        request.set_body(b"12345".to_vec());
        request
    }

    #[test]
    fn the_text_that_is_signed_has_the_order_of_the_documentation() {
        let expected = "PUT\n\n\n5\n\napplication/xml\n\n\n\n*\n\n\nx-ms-blob-type:BlockBlob\nx-ms-version:2025-11-05\n\
             /name/box/a%20b/c\ncomp:a,list\nprefix:x/y\nrestype:container";
        assert_eq!(string_to_sign("name", &request()), expected);
        let mut empty = request();
        empty.set_body(Vec::new());
        assert!(string_to_sign("name", &empty).starts_with("PUT\n\n\n\n\n"), "no length for no body");
    }

    #[test]
    fn a_signed_request_carries_date_and_signature_and_no_key() {
        let clock = Arc::new(JumpingClock::default());
        let policy = SharedKeyPolicy::new("name", AccountKey::parse("aHVudGVyMg==").unwrap(), clock.clone());
        let mut signed = request();
        policy.sign(&mut signed);
        let header = |name: &'static str| signed.headers().get_str(&HeaderName::from_static(name)).unwrap().to_owned();
        assert!(header("authorization").starts_with("SharedKey name:"), "{signed:?}");
        assert_eq!(header("authorization").len(), "SharedKey name:".len() + 44);
        let date = azure_core::time::parse_rfc7231(&header("x-ms-date")).unwrap();
        assert_eq!(UnixTime::from_seconds(date.unix_timestamp()).seconds, clock.now().seconds);
        assert!(!format!("{policy:?} {signed:?}").contains("hunter2"));
    }
}
