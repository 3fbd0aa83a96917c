//! Gets: one request for each, checked where the service gives a checksum.
//!
//! # What decides
//! The checksum of a range is computed by the service as it reads: another one than ours means damage on the way, and the
//! get may be tried again. That of a whole object was given by whoever put it, and may be wrong itself. So bytes that do
//! not fit it are read once more: if they are the same, they are what is stored, and its reader judges them by their own
//! digest.

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
        let (bytes, properties) = self.ask(&blob, range.as_ref()).await?;
        let Some(range) = range else { return self.settle(&blob, bytes, &properties).await };
        let size = range.start + bytes.len() as u64;
        if size < range.end {
            return Err(RequestError::Beyond { end: range.end, size }.into());
        }
        let damage = self.difference(&bytes, false, &properties).await;
        if damage.is_some() { Err(damaged()) } else { Ok(bytes) }
    }

    async fn ask(
        &self,
        blob: &BlobClient,
        range: Option<&Range<u64>>,
    ) -> Result<(Bytes, BlobDownloadProperties), Failure> {
        let answer = within(&*self.clock, STATUS_TIME_MAX, blob.download(Some(self.options(range)))).await?;
        self.collect(answer.map_err(|error| self.get_failure(&error))?).await
    }

    /// The bytes of a whole object, read again if they do not fit the checksum that it was put with.
    async fn settle(
        &self,
        blob: &BlobClient,
        bytes: Bytes,
        properties: &BlobDownloadProperties,
    ) -> Result<Bytes, Failure> {
        let Some(first) = self.difference(&bytes, true, properties).await else { return Ok(bytes) };
        drop(bytes); // one of them at a time
        let (bytes, properties) = self.ask(blob, None).await?;
        match self.difference(&bytes, true, &properties).await {
            None => Ok(bytes),
            Some(second) if second == first => Ok(bytes), // the stored checksum is wrong, or what is stored
            Some(_) => Err(damaged()),
        }
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

    /// The checksum of `bytes`, if it is another one than the service says.
    async fn difference(&self, bytes: &Bytes, is_whole: bool, properties: &BlobDownloadProperties) -> Option<Vec<u8>> {
        let told = match self.checksum {
            Checksum::Md5 => properties.content_md5.as_ref().map(|sum| (Checksum::Md5, sum)),
            Checksum::Crc64 => properties.content_crc64.as_ref().map(|sum| (Checksum::Crc64, sum)),
        };
        let of_object = properties.blob_content_md5.as_ref().filter(|_| is_whole).map(|sum| (Checksum::Md5, sum));
        let (checksum, expected) = told.or(of_object)?;
        let found = checksum.of_body(bytes.clone()).await;
        if found == *expected {
            return None;
        }
        tracing::debug!(expected = BASE64.encode(expected), found = BASE64.encode(&found), "another checksum");
        Some(found)
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

fn damaged() -> Failure {
    Failure::new(StorageErrorKind::Unavailable, NoAnswer::Damaged)
}
