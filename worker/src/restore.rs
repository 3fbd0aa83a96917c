//! Restores: scopes of a snapshot's tree are written back to a directory (DESIGN 3.9).
//!
//! # Order
//! Within a scope: directories before what is in them, content and other entries side by side, further names of files
//! after their first, a directory's metadata after all that is in it. What several tasks have a hand in is left to
//! later stages: see [`proto::restore`].
//!
//! # Repetition
//! Every step looks first and leaves alone what is as wanted, so a task that is done again, or by two workers at once,
//! changes nothing more, and restoring over a finished restore writes nothing.
//!
//! # Memory
//! Trees are streamed, and content is dealt with in windows of bounded size; of a file only its ids are held. Files
//! with several names are remembered until their task ends.

mod content;
mod file;
mod marker;
mod others;
mod plan;
mod selection;
mod stages;
mod targets;
mod tools;
mod walk;
mod window;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proto::id::{Id, JobId};
use proto::report::{NotMyView, Outcome, Problem};
use proto::restore::{RestoreFacts, RestoreWork};
use proto::task::Task;
use repository::blob_index::BlobIndex;
use sources::restore_target::{RestoreErrorKind, RestoreTarget};
use tokio::sync::{Mutex, Semaphore};

use self::marker::{Marker, remove_markers};
use self::selection::Selection;
pub use self::targets::{HostTargets, RootTargets, Targets};
use self::tools::{Halt, Site, Tools, chain};
use crate::error::WorkerError;
use crate::stop::Stop;
use crate::worker::Shared;

/// Files that are kept open between two writes to them.
const FILES_KEPT_OPEN: usize = 256;
/// Jobs that are kept; the oldest is forgotten.
const JOBS_KEPT: usize = 4;

/// The restores that a worker has tasks of.
#[derive(Default)]
pub(crate) struct Restores {
    targets: OnceLock<Arc<dyn Targets>>,
    open: Mutex<BTreeMap<JobId, OpenRestore>>,
}

#[derive(Clone)]
struct OpenRestore {
    facts_id: Id,
    facts: Arc<RestoreFacts>,
    site: Arc<Site>,
}

/// One task on its way.
struct AtWork<'a> {
    shared: &'a Shared,
    task: &'a Task,
    tools: Arc<Tools>,
    /// None in a dry run.
    marker: Option<Marker>,
}

impl Restores {
    /// Says where restores may write to. The first call counts.
    pub(crate) fn allow(&self, targets: Arc<dyn Targets>) {
        let _ = self.targets.set(targets);
    }

    /// Does a task.
    ///
    /// # Errors
    /// `NotMyView` if the target is another one here, or the job is in a later stage.
    pub(crate) async fn perform(
        &self,
        shared: &Shared,
        task: &Task,
        work: &RestoreWork,
    ) -> Result<(Outcome, Vec<Problem>), WorkerError> {
        match self.perform_or_halt(shared, task, work).await {
            Ok(done) => Ok(done),
            Err(Halt::Job(reason)) => Ok((Outcome::Failed { reason }, Vec::new())),
            Err(Halt::Worker(error)) => Err(error),
        }
    }

    async fn perform_or_halt(
        &self,
        shared: &Shared,
        task: &Task,
        work: &RestoreWork,
    ) -> Result<(Outcome, Vec<Problem>), Halt> {
        let restore = self.restore(shared, task).await?;
        let tools = Arc::new(Tools::new(restore.site.clone()));
        let marker = match &restore.facts.marker {
            _ if tools.request().dry_run || matches!(work, RestoreWork::Close) => None,
            Some(name) => Some(Marker::find(&tools, name, task.stage).await?),
            None => {
                // Whose marker is gone does not go on: a job that was done before must not write beside this one.
                remove_markers(&tools, &restore.facts.request.instead_of).await?;
                Some(Marker::make(&tools, &task.job, task.stage).await?)
            }
        };
        let at_work = AtWork { shared, task, tools: tools.clone(), marker };
        let mut restored = at_work.perform(work).await?;
        if restore.facts.marker.is_none() {
            restored.marker = at_work.marker.map(|marker| marker.name);
        }
        let mut tally = tools.tally();
        restored.counts = tally.counts;
        let problems = std::mem::take(&mut tally.problems);
        drop(tally);
        Ok((Outcome::Restored(Box::new(restored)), problems))
    }

    /// What the tasks of the job share.
    async fn restore(&self, shared: &Shared, task: &Task) -> Result<OpenRestore, Halt> {
        let mut open = self.open.lock().await;
        let known = open.get(&task.job);
        if let Some(known) = known.filter(|known| known.facts_id == task.facts) {
            return Ok(known.clone());
        }
        let bytes = shared.doors.objects.get(&task.job, &task.facts).await?;
        let facts: RestoreFacts = serde_json::from_slice(&bytes)
            .map_err(|error| WorkerError::Malformed { what: format!("its facts: {error}") })?;
        let index = known.filter(|known| known.facts.index_files == facts.index_files);
        let site = match index {
            Some(known) if known.facts.request == facts.request => known.site.clone(),
            _ => Arc::new(self.open_site(shared, task, &facts).await?),
        };
        let restore = OpenRestore { facts_id: task.facts, facts: Arc::new(facts), site };
        open.insert(task.job.clone(), restore.clone());
        while open.len() > JOBS_KEPT {
            open.pop_first(); // ids of jobs ascend with time
        }
        Ok(restore)
    }

    async fn open_site(&self, shared: &Shared, task: &Task, facts: &RestoreFacts) -> Result<Site, Halt> {
        let doors = &shared.doors;
        let selection = Selection::compile(&facts.request).map_err(|error| Halt::Job(error.to_string()))?;
        let target = self.open_target(shared, facts).await?;
        let index = BlobIndex::load(&doors.repository, &facts.index_files, doors.cache.as_deref()).await?;
        tracing::debug!(job = %task.job, blobs = index.len(), "the index is loaded");
        Ok(Site {
            request: facts.request.clone(),
            selection,
            index: Arc::new(index),
            repository: doors.repository.clone(),
            target,
            cpu: doors.cpu.clone(),
            meter: shared.meter.clone(),
            handles: Arc::new(Semaphore::new(FILES_KEPT_OPEN)),
        })
    }

    async fn open_target(&self, shared: &Shared, facts: &RestoreFacts) -> Result<Option<Arc<dyn RestoreTarget>>, Halt> {
        let path = facts.request.target.clone();
        let refuse = |message: &str| {
            Halt::Worker(WorkerError::NotMyView(Box::new(NotMyView {
                path: path.clone(),
                target_root: true,
                seen: None,
                mount: false,
                outside: false,
                targets_seen: Vec::new(),
                message: message.to_owned(),
            })))
        };
        let Some(targets) = self.targets.get().cloned() else {
            return Err(refuse("this worker may not restore"));
        };
        // Only the first task of a job may make the target: a worker that lacks it later sees another one.
        let may_create = !facts.request.dry_run && facts.marker.is_none();
        let target_path = path.0.clone();
        match shared.doors.cpu.read(move || targets.open(&target_path, may_create)).await? {
            Ok(None) if !facts.request.dry_run => Err(refuse("the target of this job is not there")),
            Ok(target) => Ok(target),
            Err(error) if error.kind == RestoreErrorKind::NotAllowed => Err(refuse(&chain(&error))),
            Err(error) => Err(Halt::Job(format!("the target cannot be used: {}", chain(&error)))),
        }
    }
}

impl AtWork<'_> {
    fn stop(&self, soft_deadline_seconds: u64) -> Stop {
        let deadline = Duration::from_secs(soft_deadline_seconds);
        Stop::new(self.shared.drain.clone(), self.shared.doors.clock.clone(), deadline)
    }

    /// Ends the task if its job was cancelled or is in a later stage.
    async fn look_again(&self) -> Result<(), Halt> {
        if self.shared.doors.state.cancel_requested(&self.task.job).await.unwrap_or(false) {
            return Err(Halt::Job("the job was cancelled".to_owned()));
        }
        match &self.marker {
            Some(marker) => marker.look_again(&self.tools).await,
            None => Ok(()),
        }
    }
}
