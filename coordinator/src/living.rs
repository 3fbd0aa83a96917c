//! Whether anybody still does an unfinished job: only what nobody does is taken up by another one (DESIGN 3.8).

use std::collections::BTreeSet;

use proto::id::JobId;
use repository::locks::{LockContent, RepositoryLock, list_locks};

use crate::Doors;
use crate::error::JobError;

/// Who may be at work, as one backup sees it.
pub(crate) struct Living<'a> {
    doors: &'a Doors,
    /// The own lock: it knows which processes of this host live.
    lock: &'a RepositoryLock,
}

impl<'a> Living<'a> {
    pub(crate) fn new(doors: &'a Doors, lock: &'a RepositoryLock) -> Self {
        Self { doors, lock }
    }

    /// Whether nobody leads the job, and its lock is gone or that of a dead holder: whoever wakes up then sees a gap.
    /// What cannot be found out is no.
    pub(crate) async fn have_left(&self, job: &JobId) -> bool {
        match self.find_left(job).await {
            Ok(is_left) => is_left,
            Err(error) => {
                tracing::debug!(%job, error = error.chain(), "nobody knows whether an unfinished job is led");
                false
            }
        }
    }

    async fn find_left(&self, job: &JobId) -> Result<bool, JobError> {
        let coordinators = self.doors.state.coordinators().await?;
        let led: BTreeSet<&JobId> = coordinators.iter().flat_map(|coordinator| &coordinator.leads).collect();
        if led.contains(job) {
            return Ok(false);
        }
        let request = self.lock.request();
        let locks =
            list_locks(&self.doors.repository, self.doors.clock.now(), &request.hostname, request.is_alive).await?;
        let holds = |content: &LockContent| match content {
            LockContent::Lock { lock, stale } => !stale && lock.longshore_job.as_deref() == Some(job.as_str()),
            LockContent::Empty => false,
            LockContent::Damaged(_) => true, // it may be that job's
        };
        Ok(!locks.iter().any(|found| holds(&found.content)))
    }
}
