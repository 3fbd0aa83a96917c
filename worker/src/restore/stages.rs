//! The tasks of a restore, one function each.

use std::sync::Arc;

use bytes::Bytes;
use fleet::objects::ObjectsExt;
use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use proto::handles::UnixTime;
use proto::id::Id;
use proto::report::{Payload, ProblemKind};
use proto::restore::{
    FurtherName, LargeFile, LinkedFile, NamedNode, RestoreRange, RestoreScope, RestoreWork, Restored, decode_list,
    encode_list,
};
use proto::task::Task;
use serde::de::DeserializeOwned;
use sources::restore_target::WantedMetadata;
use sources::source::FileKind;

use super::AtWork;
use super::content::restore_window;
use super::file::{FileJob, Frame};
use super::marker::remove_markers;
use super::others::{finish_in_order, make_link};
use super::tools::{Directory, Halt, Tools, parent, wanted_metadata};
use super::walk::{Leaf, Rest, Step, Walker, decode};
use super::window::{Limits, Link, Links, Window, Windows, pieces_of};
use crate::error::WorkerError;

/// Windows that are worked on at once: one is fetched while another is written.
const WINDOWS_AT_ONCE: usize = 2;
/// A task that is no scope never stops early for its deadline; this long is never.
const NO_DEADLINE_SECONDS: u64 = u32::MAX as u64;

/// What all windows of a task left to others.
#[derive(Default)]
struct Left {
    rest: Rest,
    linked: Vec<LinkedFile>,
}

impl AtWork<'_> {
    /// Does the task; its figures are in the tools.
    pub(super) async fn perform(&self, work: &RestoreWork) -> Result<Restored, Halt> {
        match work {
            RestoreWork::Scope(scope) => self.restore_scope(scope).boxed().await,
            RestoreWork::Range(range) => self.write_range(range).boxed().await,
            RestoreWork::Files(files) => self.write_files(files).boxed().await,
            RestoreWork::Metadata(entries) => self.set_metadata(entries).await,
            RestoreWork::Links(links) => self.make_links(links).await,
            RestoreWork::Close => self.close().await,
        }
    }

    async fn restore_scope(&self, scope: &RestoreScope) -> Result<Restored, Halt> {
        let links = if scope.whole { Links::AtOnce } else { Links::Kept };
        let walker = Walker::begin(&self.tools, &scope.part, links == Links::Kept).await?;
        let stop = self.stop(scope.budget.soft_deadline_seconds);
        let limits = Limits { budget: (!scope.whole).then(|| scope.budget.clone()), stop };
        let left = self.run(Windows::of_walk(&self.tools, walker, limits, links)).await?;
        let (directories, large) = {
            let mut tally = self.tools.tally();
            (std::mem::take(&mut tally.directories), std::mem::take(&mut tally.large))
        };
        let objects = &self.shared.doors.objects;
        let mut large_files = Vec::with_capacity(large.len());
        for (file, named, was_there) in large {
            let content: Vec<u8> = file.content.iter().flat_map(|id| *id.as_bytes()).collect();
            large_files.push(LargeFile {
                path: named.path,
                node: named.node,
                content: objects.payload(&self.task.job, content).await?,
                ranges: self.ranges(&file, scope.budget.range_bytes_for(file.size)),
                was_there,
            });
        }
        Ok(Restored {
            open: left.rest.parts,
            directories: self.list(&directories).await?,
            large_files,
            linked: self.list(&left.linked).await?,
            ..Restored::default()
        })
    }

    /// Where the ranges of a large file begin: offset and first blob.
    fn ranges(&self, file: &FileJob, range_bytes: u64) -> Vec<(u64, u64)> {
        let pieces = pieces_of(&self.tools, &file.content, 0).unwrap_or_default();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            if ranges.last().is_none_or(|(start, _)| piece.offset - start >= range_bytes.max(1)) {
                ranges.push((piece.offset, number as u64));
            }
        }
        ranges
    }

    async fn write_range(&self, range: &RestoreRange) -> Result<Restored, Halt> {
        let ids = self.shared.doors.objects.load(&self.task.job, &range.content).await?;
        let content = range_content(&ids, range)?;
        let tools = &self.tools;
        let pieces = match pieces_of(tools, &content, range.offset) {
            Ok(pieces) => pieces,
            Err(missing) => {
                let message = format!("its blob {missing} is in no pack that the index knows");
                tools.problem(ProblemKind::NotRestored, &range.path.0, message);
                return Ok(Restored::default());
            }
        };
        let size = pieces.iter().map(|piece| u64::from(piece.entry.plain_length())).sum();
        let directory = Directory::new(parent(&range.path.0).to_vec());
        let frame = Frame::Part { start: range.offset, was_there: range.was_there };
        let file = Arc::new(FileJob::new(range.path.0.clone(), directory, frame, size, content, (1, (0, 0))));
        self.run(Windows::of_file(tools, file, pieces, self.no_limits())).await?;
        Ok(Restored::default())
    }

    async fn write_files(&self, files: &Payload) -> Result<Restored, Halt> {
        let files: Vec<NamedNode> = self.load(files).await?;
        let mut steps = Vec::with_capacity(files.len());
        for named in files {
            let node = decode(&named)?;
            let directory = Directory::new(parent(&named.path.0).to_vec());
            steps.push(Step::Entry(Box::new(Leaf { directory, node })));
        }
        self.run(Windows::of_steps(&self.tools, steps, self.no_limits(), Links::Ignored)).await?;
        Ok(Restored::default())
    }

    async fn set_metadata(&self, entries: &Payload) -> Result<Restored, Halt> {
        let entries: Vec<NamedNode> = self.load(entries).await?;
        self.look_again().await?;
        let tools = self.tools.clone();
        let set = move || {
            for named in entries {
                let node = decode(&named)?;
                tools.set_metadata(&named.path.0, &wanted_metadata(&node))?;
            }
            Ok::<(), Halt>(())
        };
        self.tools.site.cpu.read(set).await??;
        Ok(Restored::default())
    }

    async fn make_links(&self, links: &Payload) -> Result<Restored, Halt> {
        let links: Vec<FurtherName> = self.load(links).await?;
        self.look_again().await?;
        let tools = self.tools.clone();
        let make = move || links.into_iter().try_for_each(|link| make_link(&tools, &further_name(link)));
        self.tools.site.cpu.read(make).await??;
        Ok(Restored::default())
    }

    async fn close(&self) -> Result<Restored, Halt> {
        let mut jobs = self.tools.request().instead_of.clone();
        jobs.push(self.task.job.clone());
        remove_markers(&self.tools, &jobs).await?;
        Ok(Restored::default())
    }

    /// Restores window by window.
    async fn run(&self, windows: Windows) -> Result<Left, Halt> {
        let mut restored = restored_windows(self.tools.clone(), windows);
        let mut left = Left::default();
        while let Some(window) = restored.next().await {
            let window = window?;
            finish_in_order(&self.tools, window.links, window.leaves).await?;
            left.linked.extend(window.linked);
            left.rest.parts.extend(window.rest.unwrap_or_default().parts);
            self.look_again().await?;
        }
        Ok(left)
    }

    fn no_limits(&self) -> Limits {
        Limits { budget: None, stop: self.stop(NO_DEADLINE_SECONDS) }
    }

    async fn list<T: serde::Serialize + Sync>(&self, list: &[T]) -> Result<Payload, WorkerError> {
        Ok(self.shared.doors.objects.payload(&self.task.job, encode_list(list)).await?)
    }

    async fn load<T: DeserializeOwned>(&self, list: &Payload) -> Result<Vec<T>, WorkerError> {
        let bytes = self.shared.doors.objects.load(&self.task.job, list).await?;
        decode_list(&bytes).map_err(|error| malformed(self.task, &error.to_string()))
    }
}

/// Cuts windows and restores them, in order. Boxed, for the futures of a whole window are large.
fn restored_windows(tools: Arc<Tools>, windows: Windows) -> BoxStream<'static, Result<Window, Halt>> {
    let cut = stream::try_unfold(windows, |mut windows| async move {
        let window = windows.next().await?;
        Ok::<_, Halt>(window.map(|window| (window, windows)))
    });
    let restored = cut.map(move |window| {
        let tools = tools.clone();
        async move { restore_window(tools, window?).await }
    });
    restored.buffered(WINDOWS_AT_ONCE).boxed()
}

fn malformed(task: &Task, what: &str) -> WorkerError {
    WorkerError::Malformed { what: format!("a list of task {}: {what}", task.id.short()) }
}

/// The blobs of a range.
fn range_content(ids: &Bytes, range: &RestoreRange) -> Result<Vec<Id>, WorkerError> {
    let at = |blob: u64| usize::try_from(blob).ok().and_then(|blob| blob.checked_mul(32));
    let slice = match (at(range.from), at(range.to)) {
        (Some(from), Some(to)) => ids.get(from..to),
        _ => None,
    };
    let slice = slice.ok_or_else(|| WorkerError::Malformed { what: format!("a range of {}", range.path) })?;
    let id = |bytes: &[u8]| bytes.try_into().map(Id::from_bytes).ok();
    Ok(slice.chunks_exact(32).filter_map(id).collect())
}

fn further_name(link: FurtherName) -> Link {
    // Of the metadata only the time is looked at: the first name has brought all.
    let (seconds, nanos) = link.modified;
    let wanted = WantedMetadata {
        kind: FileKind::File,
        permissions: 0,
        uid: 0,
        gid: 0,
        modified: UnixTime { seconds, nanos },
        accessed: UnixTime::default(),
        extended_attributes: Vec::new(),
    };
    Link { existing: link.existing.0, path: link.path.0, wanted }
}
