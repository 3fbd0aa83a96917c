//! Shows the locks of a repository, and removes those that nobody holds.

use std::collections::BTreeMap;
use std::future::Future;

use futures::future::join_all;
use proto::handles::UnixTime;
use proto::id::Id;

use super::error::{DamagedLock, LockError};
use super::files::{LockFiles, Reading};
use crate::format::lock::Lock;
use crate::repository::Repository;

/// Locks that are read at the same time.
const READERS: usize = 8;

/// A lock file.
#[derive(Debug)]
pub struct FoundLock {
    /// Its id.
    pub id: Id,
    /// Its length.
    pub stored_bytes: u64,
    /// What is in it.
    pub content: LockContent,
}

/// What a lock file turned out to be.
#[derive(Debug)]
pub enum LockContent {
    /// A lock.
    Lock {
        /// As its holder wrote it.
        lock: Lock,
        /// Whether its holder is gone. It blocks all the same.
        stale: bool,
    },
    /// No bytes: an upload that was broken off. Blocks nobody.
    Empty,
    /// Something that cannot be read. Blocks everybody.
    Damaged(DamagedLock),
}

/// Every lock file of the repository, by id. `hostname` is this host and `is_alive` asked whether
/// it has a process: locks of dead ones are stale.
///
/// # Errors
/// `Storage`.
pub async fn list_locks(
    repository: &Repository,
    now: UnixTime,
    hostname: &str,
    is_alive: impl Fn(i64) -> bool,
) -> Result<Vec<FoundLock>, LockError> {
    list(&LockFiles::of(repository), now, hostname, is_alive).await
}

/// Removes the locks that [`list_locks`] calls stale, and says which. Damaged and empty files stay,
/// as with restic.
///
/// # Errors
/// `Storage`; some may be removed.
pub async fn remove_stale_locks(
    repository: &Repository,
    now: UnixTime,
    hostname: &str,
    is_alive: impl Fn(i64) -> bool,
) -> Result<Vec<Id>, LockError> {
    remove_stale(&LockFiles::of(repository), now, hostname, is_alive).await
}

/// Removes every lock file, whoever holds it, and says which. Holders of ours notice at their next
/// look and start anew; others do not.
///
/// # Errors
/// `Storage`; some may be removed.
pub async fn remove_all_locks(repository: &Repository) -> Result<Vec<Id>, LockError> {
    remove_all(&LockFiles::of(repository)).await
}

/// Removes the locks of jobs that have ended (those with a `result` in their record), which any
/// coordinator may do, and says which. `has_ended` is asked once for each job that a lock names;
/// what it cannot find out is `false`.
///
/// # Errors
/// `Storage`; some may be removed.
pub async fn remove_ended_locks<F>(
    repository: &Repository,
    has_ended: impl FnMut(String) -> F,
) -> Result<Vec<Id>, LockError>
where
    F: Future<Output = bool>,
{
    remove_ended(&LockFiles::of(repository), has_ended).await
}

pub(super) async fn list(
    files: &LockFiles,
    now: UnixTime,
    hostname: &str,
    is_alive: impl Fn(i64) -> bool,
) -> Result<Vec<FoundLock>, LockError> {
    let listed: Vec<(Id, u64)> = files.list().await?.into_iter().collect();
    let mut found = Vec::with_capacity(listed.len());
    for some in listed.chunks(READERS) {
        let readings = join_all(some.iter().map(|(id, bytes)| read(files, *id, *bytes))).await;
        for (&(id, stored_bytes), reading) in some.iter().zip(readings) {
            let content = match reading? {
                None => LockContent::Empty,
                Some(Reading::Vanished) => continue,
                Some(Reading::Damaged(damaged)) => LockContent::Damaged(damaged),
                Some(Reading::Lock(lock)) => LockContent::Lock { stale: lock.is_stale(now, hostname, &is_alive), lock },
            };
            found.push(FoundLock { id, stored_bytes, content });
        }
    }
    Ok(found)
}

async fn read(files: &LockFiles, id: Id, stored_bytes: u64) -> Result<Option<Reading>, LockError> {
    if stored_bytes == 0 { Ok(None) } else { Ok(Some(files.read(&id, stored_bytes).await?)) }
}

pub(super) async fn remove_stale(
    files: &LockFiles,
    now: UnixTime,
    hostname: &str,
    is_alive: impl Fn(i64) -> bool,
) -> Result<Vec<Id>, LockError> {
    let mut found = list(files, now, hostname, is_alive).await?;
    found.retain(|found| matches!(found.content, LockContent::Lock { stale: true, .. }));
    remove(files, found.iter().map(|found| found.id).collect()).await
}

pub(super) async fn remove_all(files: &LockFiles) -> Result<Vec<Id>, LockError> {
    remove(files, files.list().await?.into_keys().collect()).await
}

pub(super) async fn remove_ended<F>(
    files: &LockFiles,
    mut has_ended: impl FnMut(String) -> F,
) -> Result<Vec<Id>, LockError>
where
    F: Future<Output = bool>,
{
    let found = list(files, UnixTime::default(), "", |_| true).await?;
    let mut of_job: BTreeMap<String, Vec<Id>> = BTreeMap::new();
    for found in found {
        if let LockContent::Lock { lock: Lock { longshore_job: Some(job), .. }, .. } = found.content {
            of_job.entry(job).or_default().push(found.id);
        }
    }
    let mut removed = Vec::new();
    for (job, ids) in of_job {
        if has_ended(job).await {
            removed.extend(remove(files, ids).await?);
        }
    }
    Ok(removed)
}

/// Removes them in order, and gives them back.
async fn remove(files: &LockFiles, ids: Vec<Id>) -> Result<Vec<Id>, LockError> {
    for id in &ids {
        files.remove(id).await?;
    }
    Ok(ids)
}
