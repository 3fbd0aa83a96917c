//! The marker in the target: who sees it sees the same target, and in which stage its job is (DESIGN 3.9).
//!
//! It is a file of one byte: the stage. A worker raises it when it begins a task of a later stage, and refuses tasks
//! of an earlier one: a task that was delivered twice must not replace what a later stage made.

use std::sync::Arc;

use proto::handles::RandomExt;
use proto::id::JobId;
use proto::name::RawName;
use proto::names::{RESTORE_MARKER_PREFIX, restore_marker};
use proto::report::NotMyView;
use sources::restore_target::{PrepareOptions, RestoreError, RestoreErrorKind, RestoreTarget};

use super::tools::{Full, Halt, Tools, chain};
use crate::error::WorkerError;

/// Whether an entry of the target's directory is a marker of any job.
pub(super) fn is_marker(name: &[u8]) -> bool {
    name.starts_with(RESTORE_MARKER_PREFIX.as_bytes())
}

/// One task's view of the marker.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    pub(super) name: RawName,
    stage: u32,
}

impl Marker {
    /// Puts a new marker into the target.
    pub(super) async fn make(tools: &Arc<Tools>, job: &JobId, stage: u32) -> Result<Self, Halt> {
        let tail: [u8; 8] = tools.site.repository.random().bytes();
        let name = restore_marker(job, u64::from_le_bytes(tail));
        let marker = Self { name: name.into_bytes().into(), stage };
        marker.write(tools).await?;
        Ok(marker)
    }

    /// Finds the job's marker, and begins a task of `stage`.
    pub(super) async fn find(tools: &Arc<Tools>, name: &RawName, stage: u32) -> Result<Self, Halt> {
        let marker = Self { name: name.clone(), stage };
        if marker.read(tools).await? < stage {
            marker.write(tools).await?;
        }
        Ok(marker)
    }

    /// Ends the task if the job is in a later stage by now, or the target is another one.
    pub(super) async fn look_again(&self, tools: &Arc<Tools>) -> Result<(), Halt> {
        self.read(tools).await.map(|_| ())
    }

    async fn read(&self, tools: &Arc<Tools>) -> Result<u32, Halt> {
        let (at_work, name) = (tools.clone(), self.name.0.clone());
        let read = tools.site.cpu.read(move || {
            let Some(target) = at_work.target() else { return Ok(None) };
            let mut byte = [0];
            let mut file = match target.open_file(&name) {
                Err(error) if error.kind == RestoreErrorKind::Vanished => return Ok(None),
                file => file?,
            };
            file.read_at(0, &mut byte)?;
            Ok::<_, RestoreError>(Some(u32::from(byte[0])))
        });
        match read.await? {
            Ok(Some(stage)) if stage > self.stage => Err(self.refuse("a later stage has begun")),
            Ok(Some(stage)) => Ok(stage),
            Ok(None) => Err(self.refuse("the target of this job is not there")),
            Err(error) => Err(self.refuse(&chain(&error))),
        }
    }

    async fn write(&self, tools: &Arc<Tools>) -> Result<(), Halt> {
        let (at_work, name, stage) = (tools.clone(), self.name.0.clone(), self.stage as u8);
        let write = tools.site.cpu.read(move || {
            let Some(target) = at_work.target() else { return Ok(()) };
            target.prepare_file(&name, 1, PrepareOptions::default())?.file.write_at(0, &[stage])
        });
        match write.await? {
            Ok(()) => Ok(()),
            Err(error) if error.kind == RestoreErrorKind::Full => Err(Full(error).into()),
            Err(error) => Err(Halt::Job(format!("nothing can be written to the target: {}", chain(&error)))),
        }
    }

    fn refuse(&self, message: &str) -> Halt {
        Halt::Worker(WorkerError::NotMyView(Box::new(NotMyView {
            path: self.name.clone(),
            target_root: true,
            seen: None,
            mount: false,
            outside: false,
            targets_seen: Vec::new(),
            message: message.to_owned(),
        })))
    }
}

/// Removes every marker of these jobs.
pub(super) async fn remove_markers(tools: &Arc<Tools>, jobs: &[JobId]) -> Result<(), Halt> {
    if jobs.is_empty() {
        return Ok(());
    }
    let (at_work, jobs) = (tools.clone(), jobs.to_vec());
    let remove = move || at_work.target().map_or(Ok(()), |target| remove_markers_of(target, &jobs));
    match tools.site.cpu.read(remove).await? {
        Ok(()) => Ok(()),
        Err(error) => Err(Halt::Job(format!("the marker stays in the target: {}", chain(&error)))),
    }
}

fn remove_markers_of(target: &dyn RestoreTarget, jobs: &[JobId]) -> Result<(), RestoreError> {
    let of_jobs: Vec<String> = jobs.iter().map(|job| format!("{RESTORE_MARKER_PREFIX}{job}-")).collect();
    let is_of_them = |name: &[u8]| of_jobs.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
    for name in target.list(b"")?.iter().filter(|name| is_of_them(name)) {
        target.remove_tree(name, &mut |_| {})?;
    }
    Ok(())
}
