//! A restore job from its request to its figures (DESIGN 3.9).
//!
//! # Stages
//! See [`proto::restore`]. A stage starts when the former has no open task and no holder; the last removes what the job
//! left in the target, also after a failure.
//!
//! # Crash and repetition
//! A restore keeps no checkpoints: done again, it leaves alone what is as wanted. A lost message is found by a probe.

mod effect;
mod event;
mod lists;
mod run;
mod stages;
mod state;
#[cfg(test)]
mod state_tests;

use std::io::BufRead;
use std::time::Duration;

use fleet::metrics::JobKind;
use fleet::queue::Route;
use futures::FutureExt;
use proto::auth::MessageKey;
use proto::handles::UnixTime;
use proto::id::{Id, JobId};
use proto::job::{Budget, RestoreRequest};
use proto::name::RawName;
use proto::report::Problem;
use proto::restore::{RestoreCounts, RestoreFacts};
use repository::blob_index::BlobIndex;
use repository::format::node::Kind;
use repository::format::snapshot::Snapshot;
use repository::format::tree::TreeReader;
use repository::locks::{LockRequest, RepositoryLock};
use repository::repository::FileKind;
use tokio::sync::watch;
use tracing::Instrument;

pub use self::effect::Effect;
pub use self::event::Event;
use self::run::Runner;
pub use self::state::{JobSettings, State};
use crate::Doors;
use crate::backup::new_job_id;
use crate::error::JobError;
use crate::job::Progress;
use crate::leadership::Leadership;
use crate::metrics::Counted;
use crate::publish::{close_doors, open_doors};
use crate::waiting::{ended_elsewhere, take_lock, while_locked_if};

/// How a coordinator runs restore jobs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The job's id; a fresh one without it.
    pub job: Option<JobId>,
    /// The workers that shall do it.
    pub pool: String,
    /// The lock, which must be shared; none with `--no-lock`.
    pub lock: Option<LockRequest>,
    /// Everything runs in one process: nobody else delivers a task twice.
    pub embedded: bool,
    /// How much one task may do. Without it one task does all: right where one worker is.
    pub budget: Option<Budget>,
    /// How long to wait for a lock that others hold.
    pub retry_lock: Option<Duration>,
    /// How long to wait for a live worker.
    pub wait_workers: Duration,
    /// Of a coordinator that leads several jobs.
    pub leadership: Option<Leadership>,
}

/// What a restore brought about.
#[derive(Clone, Debug)]
pub struct RestoreDone {
    /// The job.
    pub job: JobId,
    /// The snapshot.
    pub snapshot: Id,
    /// The tree that was restored: that of the subfolder.
    pub tree: Id,
    /// Figures: files, directories, bytes written, unchanged and fetched, deleted entries, errors.
    pub counts: RestoreCounts,
    /// What could not be restored, or not entirely; the first of each task, `counts.errors` has the number.
    pub problems: Vec<Problem>,
    /// Tasks.
    pub progress: Progress,
    /// When the job began.
    pub started_at: UnixTime,
    /// When it ended.
    pub ended_at: UnixTime,
}

impl RestoreDone {
    /// Everything was restored as the snapshot has it.
    pub fn is_complete(&self) -> bool {
        self.counts.errors == 0
    }
}

/// Runs a restore.
///
/// # Errors
/// Why it ended early. Entries that could not be restored are no error: see [`RestoreDone::problems`].
pub async fn run(
    doors: &Doors,
    request: &RestoreRequest,
    settings: &Settings,
    progress: &watch::Sender<Progress>,
) -> Result<RestoreDone, JobError> {
    let started_at = doors.clock.now();
    let job = settings.job.clone().unwrap_or_else(|| new_job_id(doors));
    let restore = Restore { doors, request, settings, job: &job, started_at };
    let Some(wanted) = settings.lock.clone() else { return restore.run(None, progress).await };
    let lock = take_lock(doors, wanted, settings.retry_lock, &job, settings.leadership.as_ref()).await?;
    let done = restore.run(Some(&lock), progress).await;
    if let Err(error) = lock.release().await {
        tracing::warn!(%error, "the lock was not removed");
    }
    done
}

struct Restore<'a> {
    doors: &'a Doors,
    request: &'a RestoreRequest,
    settings: &'a Settings,
    job: &'a JobId,
    started_at: UnixTime,
}

impl Restore<'_> {
    /// The lock is kept whatever the job waits for meanwhile.
    async fn run(
        &self,
        lock: Option<&RepositoryLock>,
        progress: &watch::Sender<Progress>,
    ) -> Result<RestoreDone, JobError> {
        let (doors, job) = (self.doors, self.job);
        let (tree, mut runner) = while_locked_if(lock, self.prepare().boxed()).await?;
        let counted = Counted::of(JobKind::Restore, &doors.clock);
        let span = tracing::error_span!("job", job = %job);
        let ended = while_locked_if(lock, self.run_prepared(&mut runner, progress).boxed()).instrument(span).await;
        counted.end_restore(&ended, runner.state.counts());
        let done = ended.map(|()| RestoreDone {
            job: job.clone(),
            snapshot: self.request.snapshot,
            tree,
            counts: *runner.state.counts(),
            problems: runner.state.problems().to_vec(),
            progress: runner.state.progress(),
            started_at: self.started_at,
            ended_at: doors.clock.now(),
        });
        drop(runner);
        // A fleet's job is closed once it has its result: until then the request to cancel it is somebody's wish.
        if self.settings.leadership.is_none() {
            close_doors(doors, job).await;
        }
        done
    }

    async fn prepare(&self) -> Result<(Id, Runner), JobError> {
        let (doors, job) = (self.doors, self.job.clone());
        let listed = doors.repository.list(FileKind::Index).await?;
        let mut index_files: Vec<Id> = listed.into_iter().map(|(id, _)| id).collect();
        index_files.sort_unstable();
        let tree = self.find_tree(&index_files).await?;
        let facts = RestoreFacts { index_files, request: self.request.clone(), marker: None };
        let state = State::new(JobSettings {
            job: job.clone(),
            tree,
            budget: self.settings.budget.clone().unwrap_or_default(),
            whole: self.settings.budget.is_none(),
            dry_run: self.request.dry_run,
            embedded: self.settings.embedded,
        });
        let route = Route::normal(&self.settings.pool);
        let generation = open_doors(doors, &job, &route, self.settings.wait_workers).await?;
        let key = MessageKey::derive(&*doors.repository.master_key().material(), &doors.repository.id());
        Ok((tree, Runner::new(doors.clone(), job, route, key, facts, state, generation, self.settings)))
    }

    async fn run_prepared(&self, runner: &mut Runner, progress: &watch::Sender<Progress>) -> Result<(), JobError> {
        tokio::select! {
            biased;
            ended = runner.run(progress) => ended,
            error = ended_elsewhere(self.doors, self.job), if self.settings.leadership.is_some() => Err(error),
        }
    }

    /// The tree of the subfolder.
    async fn find_tree(&self, index_files: &[Id]) -> Result<Id, JobError> {
        let repository = &self.doors.repository;
        let json = repository.load_file(FileKind::Snapshot, &self.request.snapshot).await?;
        let snapshot = Snapshot::decode(&json).map_err(|error| JobError::internal("the snapshot", &error))?;
        let mut tree = snapshot.tree;
        let names: Vec<&[u8]> =
            self.request.path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            return Ok(tree);
        }
        let index = BlobIndex::load(repository, index_files, self.doors.cache.as_deref()).await?;
        for name in names {
            let reader = repository.open_tree(&index, &tree).await?;
            let wanted = name.to_vec();
            let found = self.doors.cpu.read(move || find_directory(reader, &wanted)).await?;
            tree = found.map_err(|error| JobError::internal("a tree of the snapshot", &error))?.ok_or_else(|| {
                let path = RawName::from(self.request.path.as_bytes());
                JobError::Failed {
                    reason: format!("snapshot {} has no directory {path}", self.request.snapshot.short()),
                }
            })?;
        }
        Ok(tree)
    }
}

fn find_directory(
    reader: Box<dyn BufRead + Send>,
    wanted: &[u8],
) -> Result<Option<Id>, repository::format::tree::TreeReadError> {
    let mut reader = TreeReader::new(reader);
    while let Some(raw) = reader.next_raw()? {
        let (name, kind) = raw.name_and_kind()?;
        if name == wanted {
            return Ok(if kind == Kind::Dir { raw.decode()?.subtree } else { None });
        }
    }
    Ok(None)
}
