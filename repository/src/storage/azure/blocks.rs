//! Puts: one request for what is short, blocks side by side for what is long.
//!
//! # Create-only
//! Both ends of a put (Put Blob, Put Block List) carry `If-None-Match: *`. Blocks that were staged and not named by a list
//! are nothing that anybody sees; the service drops them when the name is created, or after a week.
//!
//! # Ids of blocks
//! Staged blocks belong to the name, not to who staged them. Each put therefore begins its ids with eight random bytes, so
//! that two writers of one name do not mix theirs. All ids have 16 bytes: the service wants equal lengths for one name, and
//! 16 is what the SDKs and restic use.

use std::num::NonZero;

use azure_core::http::{Etag, NoFormat, RequestContent};
use azure_storage_blob::models::{
    BlockBlobClientCommitBlockListOptions, BlockBlobClientUploadOptions, BlockLookupList,
};
use azure_storage_blob::{BlobClient, BlockBlobClient};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use proto::handles::RandomExt;

use super::deadline::{within, within_body};
use super::errors::{code_of, judge};
use super::{Azure, STATUS_TIME_MAX};
use crate::storage::Body;
use crate::storage::error::{Failure, StorageErrorKind};
use crate::storage::operation::Operation;

/// How bodies are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockSizes {
    /// Up to here one request does: each is billed.
    pub(super) one_request_max: u64,
    /// The length of each block but the last.
    pub(super) block: u64,
}

impl Default for BlockSizes {
    /// The service takes 50,000 blocks: 390 GiB of these, more than any object of a repository.
    fn default() -> Self {
        Self { one_request_max: 32 << 20, block: 8 << 20 }
    }
}

/// Blocks of one put that are on their way at once.
const BLOCKS_AT_ONCE: usize = 4;

impl Azure {
    pub(super) async fn create_blob(&self, name: &str, body: &Body) -> Result<(), Failure> {
        let blob = self.blob(name);
        if body.len() <= self.block_sizes.one_request_max {
            self.put_whole(&blob.block_blob_client(), name, body).await
        } else {
            self.put_in_blocks(&blob, name, body).await
        }
    }

    async fn put_whole(&self, blob: &BlockBlobClient, name: &str, body: &Body) -> Result<(), Failure> {
        let bytes = read(body, 0..body.len()).await?;
        let len = bytes.len() as u64;
        let options = BlockBlobClientUploadOptions {
            // So that the client does not cut it.
            partition_size: NonZero::new(len.max(1)),
            tier: self.tier_of(name),
            ..BlockBlobClientUploadOptions::default().if_not_exists()
        };
        let call = blob.upload(content(bytes), Some(options));
        let put = within_body(&*self.clock, &self.moving, len, call).await?;
        put.map(drop).map_err(|error| self.put_failure(&error))
    }

    async fn put_in_blocks(&self, blob: &BlobClient, name: &str, body: &Body) -> Result<(), Failure> {
        let blocks = blob.block_blob_client();
        let attempt: [u8; 8] = self.random.bytes();
        let ids: Vec<Vec<u8>> = (0..body.len().div_ceil(self.block_sizes.block))
            .map(|number| [attempt, number.to_be_bytes()].concat())
            .collect();
        // Boxed, as else the compiler cannot see that they may go to another thread.
        let staged = ids.iter().enumerate().map(|(number, id)| self.stage(&blocks, body, number as u64, id).boxed());
        stream::iter(staged.collect::<Vec<_>>()).buffer_unordered(BLOCKS_AT_ONCE).try_collect::<()>().await?;
        self.commit(blob, &blocks, name, ids).await
    }

    async fn stage(&self, blob: &BlockBlobClient, body: &Body, number: u64, id: &[u8]) -> Result<(), Failure> {
        let start = number * self.block_sizes.block;
        let bytes = read(body, start..body.len().min(start + self.block_sizes.block)).await?;
        let len = bytes.len() as u64;
        let call = blob.stage_block(id, len, content(bytes), None);
        let staged = within_body(&*self.clock, &self.moving, len, call).await?;
        staged.map(drop).map_err(|error| self.put_failure(&error))
    }

    async fn commit(
        &self,
        blob: &BlobClient,
        blocks: &BlockBlobClient,
        name: &str,
        ids: Vec<Vec<u8>>,
    ) -> Result<(), Failure> {
        let list = BlockLookupList { latest: Some(ids), ..BlockLookupList::default() };
        let list = list.try_into().map_err(|error| self.put_failure(&error))?;
        let options = BlockBlobClientCommitBlockListOptions {
            if_none_match: Some(Etag::from("*")),
            tier: self.tier_of(name),
            ..BlockBlobClientCommitBlockListOptions::default()
        };
        let call = blocks.commit_block_list(list, Some(options));
        match within(&*self.clock, STATUS_TIME_MAX, call).await? {
            Ok(_) => Ok(()),
            // Somebody created the name meanwhile, and our blocks went away with that; or they did for another reason.
            Err(error) if matches!(code_of(&error), "InvalidBlockList" | "InvalidBlobOrBlock") => {
                match self.length(blob).await {
                    Ok(_) => Err(StorageErrorKind::AlreadyThere.into()),
                    Err(_) => Err(Failure { kind: StorageErrorKind::Unavailable, ..self.put_failure(&error) }),
                }
            }
            Err(error) => Err(self.put_failure(&error)),
        }
    }

    fn put_failure(&self, error: &azure_core::Error) -> Failure {
        judge(Operation::Put, error, self.service_clock.offset_seconds())
    }
}

fn content(bytes: Bytes) -> RequestContent<Bytes, NoFormat> {
    // Not `RequestContent::from`, which takes a vector.
    bytes.into()
}

/// The bytes of `range`; a spooled file is read on a thread that may block.
async fn read(body: &Body, range: std::ops::Range<u64>) -> Result<Bytes, Failure> {
    match body {
        Body::Memory(_) => Ok(body.read(range)?),
        Body::Spooled { .. } => {
            let body = body.clone();
            match tokio::task::spawn_blocking(move || body.read(range)).await {
                Ok(bytes) => Ok(bytes?),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime ends before the thread began.
                Err(error) => Err(Failure::new(StorageErrorKind::Unavailable, error)),
            }
        }
    }
}
