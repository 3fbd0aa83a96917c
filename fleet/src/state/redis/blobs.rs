//! Known blobs as many small sets of integers, which Redis keeps as sorted arrays: 9 MiB for a million.
//!
//! # What may be lost
//! A set that is full is begun anew, so that all of them together stay below [`SHARDS`] x [`SHARD_BLOBS_MAX`] blobs of 8
//! bytes: 64 MiB a repository. What is forgotten is stored twice, and what nobody stored for a day is forgotten.

use proto::id::Id;
use proto::names::state::Keys;

use super::link::Link;
use super::scripts::ADD_BLOBS;
use crate::state::StateError;

/// Sets of one repository.
const SHARDS: u64 = 16_384;
/// The default of `set-max-intset-entries`: a longer set takes ten times the memory.
const SHARD_BLOBS_MAX: usize = 512;
/// Blobs that are asked for in one go.
const BATCH: usize = 1_000;
/// A set that nobody adds to is forgotten after a day.
const LIVES_SECONDS: u64 = 24 * 3600;

/// The set that has `blob`, and how it stands there.
fn place(keys: &Keys, repository: &Id, blob: u64) -> (String, i64) {
    // Any bits will do: a blob's short name is part of a digest.
    (keys.blobs(repository, blob % SHARDS), blob.cast_signed())
}

pub(super) async fn add(link: &Link, keys: &Keys, repository: &Id, blobs: &[u64]) -> Result<(), StateError> {
    for batch in blobs.chunks(BATCH) {
        let mut script = ADD_BLOBS.prepare_invoke();
        script.arg(SHARD_BLOBS_MAX).arg(LIVES_SECONDS);
        for blob in batch {
            let (key, value) = place(keys, repository, *blob);
            script.key(key).arg(value);
        }
        link.ask::<()>(script).await?;
    }
    Ok(())
}

pub(super) async fn known(link: &Link, keys: &Keys, repository: &Id, blobs: &[u64]) -> Result<Vec<bool>, StateError> {
    let mut known = Vec::with_capacity(blobs.len());
    for batch in blobs.chunks(BATCH) {
        let mut asked = redis::pipe();
        for blob in batch {
            let (key, value) = place(keys, repository, *blob);
            asked.cmd("SISMEMBER").arg(key).arg(value);
        }
        known.extend(link.ask::<Vec<bool>>(asked).await?);
    }
    Ok(known)
}
