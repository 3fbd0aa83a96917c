//! Takes over the lock of a job whose coordinator fell silent, without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::handles::Clock;
use proto::id::Id;

use super::error::LockError;
use super::files::{LockFiles, Reading};
use super::take::write_visibly;
use super::{LOST_AFTER, LockRequest, Moment, RepositoryLock};

/// Writes the own lock; it is held if one of `previous` was still good after that.
pub(super) async fn take_over(
    files: LockFiles,
    request: LockRequest,
    clock: Arc<dyn Clock>,
    previous: &[Id],
) -> Result<RepositoryLock, LockError> {
    let previous: BTreeSet<Id> = previous.iter().copied().collect();
    let gap = || LockError::Gap { job: request.job.as_ref().map(ToString::to_string).unwrap_or_default() };
    if files.list().await?.keys().all(|id| !previous.contains(id)) {
        return Err(gap());
    }
    let written = Moment::now(&*clock);
    let (id, sealed) = files.seal(&request.lock(written.wall))?;
    let result = match write_visibly(&files, &id, sealed).await {
        Ok(()) => find_good(&files, &request, &*clock, &previous, &id).await,
        Err(error) => Err(error),
    };
    // Writing and looking may have taken too long themselves.
    let result = result.map(|there| there.filter(|_| written.is_young(&*clock)));
    match result {
        Ok(Some(there)) => {
            // What cannot be removed now goes with the next refresh.
            for last in &there {
                files.discard(last).await;
            }
            Ok(RepositoryLock::new(files, request, clock, (id, written), there))
        }
        unusable => {
            files.discard(&id).await;
            Err(unusable.err().unwrap_or_else(gap))
        }
    }
}

/// The files of `previous` that are there, if the own one is and one of them is as good as the own
/// one wants to be.
async fn find_good(
    files: &LockFiles,
    request: &LockRequest,
    clock: &dyn Clock,
    previous: &BTreeSet<Id>,
    own: &Id,
) -> Result<Option<BTreeSet<Id>>, LockError> {
    let listed: BTreeMap<Id, u64> = files.list().await?;
    if !listed.contains_key(own) {
        return Err(LockError::Removed { name: LockFiles::name(own) });
    }
    let there: BTreeSet<Id> = previous.iter().filter(|id| listed.contains_key(id)).copied().collect();
    for id in &there {
        let Reading::Lock(lock) = files.read(id, listed[id]).await? else { continue };
        let same_job = lock.longshore_job.as_deref() == request.job.as_ref().map(|job| job.as_str());
        let strong_enough = lock.exclusive || !request.exclusive;
        if same_job && strong_enough && clock.now().since(lock.time) < LOST_AFTER {
            return Ok(Some(there));
        }
    }
    Ok(None)
}
