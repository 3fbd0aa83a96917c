//! Gets: one request for each, checked where the service gives a checksum.

use std::num::NonZero;
use std::ops::Range;

use azure_storage_blob::BlobClient;
use azure_storage_blob::models::{
    BlobClientDownloadOptions, BlobClientDownloadResult, BlobDownloadProperties, HttpRange,
};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use futures::StreamExt;

use super::deadline::within;
use super::errors::{NoAnswer, judge};
use super::settings::Checksum;
use super::{Azure, STATUS_TIME_MAX};
use crate::storage::error::{Failure, StorageErrorKind};
use crate::storage::operation::Operation;
use crate::storage::request::{RequestError, check_range};

/// The service computes the checksum of a range up to here.
const CHECKED_RANGE_BYTES_MAX: u64 = 4 << 20;
/// What one request asks for at most. Longer objects than any of ours come in several, one after the other.
const REQUEST_BYTES_MAX: u64 = 1 << 30;
/// Memory that is reserved before the first byte is there, whatever the answer promises.
const RESERVED_BYTES_MAX: u64 = 64 << 20;

impl Azure {
    pub(super) async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        let blob = self.blob(name);
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            // There is no way to ask for nothing.
            check_range(Some(range.clone()), self.length(&blob).await?)?;
            return Ok(Bytes::new());
        }
        let answer = within(&*self.clock, STATUS_TIME_MAX, blob.download(Some(self.options(range.as_ref())))).await?;
        let answer = answer.map_err(|error| self.get_failure(&error))?;
        let (bytes, properties) = self.collect(answer).await?;
        if let Some(range) = &range {
            let size = range.start + bytes.len() as u64;
            if size < range.end {
                return Err(RequestError::Beyond { end: range.end, size }.into());
            }
        }
        self.verify(bytes, range.is_none(), &properties).await
    }

    fn options(&self, range: Option<&Range<u64>>) -> BlobClientDownloadOptions<'static> {
        let is_short = range.is_some_and(|range| range.end - range.start <= CHECKED_RANGE_BYTES_MAX);
        let asks = |checksum| (is_short && self.checksum == checksum).then_some(true);
        BlobClientDownloadOptions {
            range: range.map(|range| HttpRange::from(range.clone())),
            partition_size: usize::try_from(REQUEST_BYTES_MAX).ok().and_then(NonZero::new),
            parallel: NonZero::new(1),
            range_get_content_md5: asks(Checksum::Md5),
            range_get_content_crc64: asks(Checksum::Crc64),
            ..BlobClientDownloadOptions::default()
        }
    }

    /// The body. It may take long, but not pause long.
    async fn collect(&self, answer: BlobClientDownloadResult) -> Result<(Bytes, BlobDownloadProperties), Failure> {
        let BlobClientDownloadResult { mut body, properties, .. } = answer;
        let promised = properties.content_length.unwrap_or(0).min(RESERVED_BYTES_MAX);
        let mut bytes = BytesMut::with_capacity(usize::try_from(promised).unwrap_or(0));
        while let Some(piece) = within(&*self.clock, STATUS_TIME_MAX, body.next()).await? {
            bytes.extend_from_slice(&piece.map_err(|error| self.get_failure(&error))?);
        }
        Ok((bytes.freeze(), properties))
    }

    /// Refuses bytes that are not what the service sent. For a whole object the checksum is the one that it was put with,
    /// where that was in one request.
    async fn verify(
        &self,
        bytes: Bytes,
        is_whole: bool,
        properties: &BlobDownloadProperties,
    ) -> Result<Bytes, Failure> {
        let of_range = match self.checksum {
            Checksum::Md5 => properties.content_md5.as_ref().map(|sum| (Checksum::Md5, sum)),
            Checksum::Crc64 => properties.content_crc64.as_ref().map(|sum| (Checksum::Crc64, sum)),
        };
        let of_object = properties.blob_content_md5.as_ref().filter(|_| is_whole).map(|sum| (Checksum::Md5, sum));
        let Some((checksum, expected)) = of_range.or(of_object) else { return Ok(bytes) };
        let found = checksum.of_body(bytes.clone()).await;
        if found == *expected {
            return Ok(bytes);
        }
        tracing::debug!(expected = BASE64.encode(expected), found = BASE64.encode(&found), "damaged on its way");
        Err(Failure::new(StorageErrorKind::Unavailable, NoAnswer::Damaged))
    }

    /// The length of an object.
    pub(super) async fn length(&self, blob: &BlobClient) -> Result<u64, Failure> {
        let answer = within(&*self.clock, STATUS_TIME_MAX, blob.get_properties(None)).await?;
        let answer = answer.map_err(|error| self.get_failure(&error))?;
        let name = azure_core::http::headers::HeaderName::from_static("content-length");
        let length = answer.headers().get_optional_str(&name).and_then(|length| length.parse().ok());
        let strange = || NoAnswer::Strange("an object without a length".to_owned());
        length.ok_or_else(|| Failure::new(StorageErrorKind::Permanent, strange()))
    }

    fn get_failure(&self, error: &azure_core::Error) -> Failure {
        judge(Operation::Get, error, self.service_clock.offset_seconds())
    }
}
