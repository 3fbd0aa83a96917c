//! Coordinators that take submissions, and what becomes of these.

use coordinator::backup::new_job_id;
use proto::follow::{FailureClass, JobDocument, JobPhase};
use proto::id::{Id, JobId};
use proto::job::{Request, Submission};
use repository::locks::{RepositoryLock, fleet_hostname};

use super::*;
use crate::coordinators::Coordinator;
use crate::site::POOL;

mod handover;
mod packs;
mod repeated_restores;
mod restores;
mod submissions;

impl Stage {
    async fn coordinate(&self, name: &str) -> Coordinator {
        self.site.coordinate(name, &[POOL]).await
    }

    /// A submission of this request under a new id.
    async fn submission(&self, request: Request) -> Submission {
        let doors = self.site.coordinator_doors(&self.site.actor("client")).await;
        Submission {
            job: new_job_id(&doors),
            repository: doors.repository.id(),
            idempotency_key: None,
            pool: POOL.to_owned(),
            submitted_at: self.site.clock.now(),
            request,
        }
    }

    async fn backup_submission(&self) -> Submission {
        self.submission(Request::Backup(Box::new(self.request.clone()))).await
    }

    async fn publish(&self, request: Request) -> Submission {
        let submission = self.submission(request).await;
        self.site.publish_job(&submission).await;
        submission
    }

    async fn publish_backup(&self) -> Submission {
        self.publish(Request::Backup(Box::new(self.request.clone()))).await
    }

    /// Waits until the document of a job is so.
    async fn until_shown(&self, job: &JobId, holds: impl Fn(&JobDocument) -> bool) -> JobDocument {
        let start = self.site.clock.monotonic();
        loop {
            let document = self.site.document(job).await;
            if let Some(document) = document.clone().filter(|document| holds(document)) {
                return document;
            }
            assert!(self.site.clock.monotonic() - start < PATIENCE, "job {job} stays at {document:?}");
            self.sleep(1).await;
        }
    }

    /// Waits until a job, or the one that goes on in its place, is over.
    async fn followed(&self, job: &JobId) -> JobDocument {
        let mut job = job.clone();
        loop {
            let document = self.until_shown(&job, |document| document.state.is_final()).await;
            match document.superseded_by.clone() {
                Some(by) => job = by,
                None => return document,
            }
        }
    }

    /// Waits until the record of the job has an object that begins like this.
    async fn until_on_record(&self, job: &JobId, record: &str) {
        let prefix = stored(&format!("jobs/{job}/{record}"));
        self.until(record, || self.site.memory.content().keys().any(|name| name.starts_with(&prefix))).await;
    }

    fn snapshots(&self) -> usize {
        self.site.memory.content().keys().filter(|name| name.starts_with("snapshots/")).count()
    }

    /// The snapshot of a finished backup is what a run without faults comes to.
    async fn assert_shown_as_without_faults(&self, document: &JobDocument) -> Id {
        assert_eq!(document.state, JobPhase::Done, "{:?}", document.failure);
        let result = document.result.as_ref().unwrap();
        let id = |field: &str| result[field].as_str().unwrap().parse::<Id>().unwrap();
        let reference = Reference::of(&self.site).await.unwrap();
        let flat = self.assert_undamaged().await.flatten(&id("snapshot_id")).await.unwrap();
        assert_eq!(difference(&flat, &reference.flat), None);
        assert_eq!(id("tree"), reference.tree);
        id("snapshot_id")
    }
}

/// Why a job has no result.
#[track_caller]
fn failure(document: &JobDocument) -> (FailureClass, &str) {
    let failure = document.failure.as_ref().unwrap();
    (failure.class, &failure.message)
}
