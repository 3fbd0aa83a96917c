//! A checksum on every body: the service refuses what was damaged on its way, and so do we.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::headers::HeaderName;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Body, Context, Request};
use bytes::Bytes;
use data_encoding::BASE64;
use md5::{Digest, Md5};

use super::crc64::crc64;
use super::settings::Checksum;

/// From here on a checksum is computed on a thread of its own: 64 KiB of MD5 take a tenth of a millisecond.
const INLINE_BYTES_MAX: usize = 64 << 10;

impl Checksum {
    /// The checksum as it stands in headers (decoded).
    pub(super) fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(bytes).to_vec(),
            Self::Crc64 => crc64(bytes).to_le_bytes().to_vec(),
        }
    }

    /// The header that carries it.
    fn header(self) -> HeaderName {
        match self {
            Self::Md5 => HeaderName::from_static("content-md5"),
            Self::Crc64 => HeaderName::from_static("x-ms-content-crc64"),
        }
    }

    /// [`Checksum::of`], off the threads that wait for the network where it takes long.
    pub(super) async fn of_body(self, bytes: Bytes) -> Vec<u8> {
        if bytes.len() <= INLINE_BYTES_MAX {
            return self.of(&bytes);
        }
        match tokio::task::spawn_blocking(move || self.of(&bytes)).await {
            Ok(checksum) => checksum,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime ends: nobody will look at it.
            Err(_) => Vec::new(),
        }
    }
}

/// Puts the checksum of each body into its request's headers. The client of the service does so for blocks only, and
/// only when it is told the value; this is one place for all bodies.
#[derive(Debug)]
pub(super) struct ChecksumPolicy(pub(super) Checksum);

#[async_trait]
impl Policy for ChecksumPolicy {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        if let Body::Bytes(bytes) = request.body()
            && !bytes.is_empty()
        {
            let checksum = self.0.of_body(bytes.clone()).await;
            request.insert_header(self.0.header(), BASE64.encode(&checksum));
        }
        next[0].send(context, request, &next[1..]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_checksums_are_as_the_service_has_them() {
        // RFC 1321, A.5.
        assert_eq!(BASE64.encode(&Checksum::Md5.of(b"abc")), "kAFQmDzST7DWlj99KOF/cg==");
        let expected = crc64(b"abc").to_le_bytes();
        assert_eq!(Checksum::Crc64.of(b"abc"), expected);
        let long = Bytes::from(vec![7; INLINE_BYTES_MAX + 1]);
        for checksum in [Checksum::Md5, Checksum::Crc64] {
            assert_eq!(checksum.of_body(long.clone()).await, checksum.of(&long));
        }
    }
}
