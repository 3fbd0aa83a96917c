//! Walks a scope of the tree, depth first and in the order of names, under a budget.
//!
//! Gives [`Step`]s. When the budget is spent, the walk gives what is left of every directory that it is in as open
//! items: names only, to be handed out to whoever is free.

mod ahead;
mod frame;
mod scope;

pub(crate) use self::scope::{FileSystem, check_any, check_near, check_root, check_roots, mount_points};

use proto::id::Id;
use proto::job::{Budget, TargetNode, TargetPlace};
use proto::name::RawName;
use proto::report::{Item, NewDevice, NotMyView, OpenNames, Problem, ProblemKind};
use proto::task::{Names as NamesOnWire, View};
use repository::format::node::Node;
use sources::paths;
use sources::source::{FileKind, Metadata, SourceError, SourceErrorKind};
use std::collections::BTreeSet;
use std::sync::Arc;

use self::ahead::{Looker, Place};
use self::frame::{Children, Frame};
use crate::devices::{Crossing, Devices};
use crate::error::WorkerError;
use crate::job::JobContext;
use crate::parent::Found;
use crate::stop::Stop;

/// Steps in one batch.
const STEPS_PER_BATCH: usize = 128;
/// Bytes of files that one batch reads.
const BYTES_PER_BATCH: u64 = 4 << 20;
/// Directories in each other that one task enters: MessagePack readers give up at 1024 levels, of which each takes 4.
const DEPTH_MAX: usize = 128;
/// Longer files are read piece by piece, in a batch of their own.
pub(crate) const STREAMED_FROM_BYTES: u64 = 4 << 20;

/// One entry that was seen.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Name in the tree.
    pub(crate) name: Vec<u8>,
    /// Where the source has it.
    pub(crate) source: Vec<u8>,
    pub(crate) metadata: Metadata,
    /// Number of its file system in the snapshot.
    pub(crate) device: u64,
    /// The best parent's node.
    pub(crate) parent: Option<Box<Node>>,
    /// The number that the parent snapshot has for its file system.
    pub(crate) parent_device: Option<u64>,
    /// The file is as the parent has it, and all its blobs are in G.
    pub(crate) unchanged: bool,
    /// Another file system than that of the directory above.
    pub(crate) crosses: bool,
}

/// What the walk meets, in order.
#[derive(Debug)]
pub(crate) enum Step {
    /// A directory begins.
    Enter { entry: Box<Entry>, parents: Vec<Id> },
    /// Anything but a directory.
    Leaf(Box<Entry>),
    /// The directory that was entered last ends.
    Leave,
    /// Something of this directory is left open.
    Open(Item),
    /// To be listed with the result.
    Note(Problem),
    /// An entry was gone when it was looked at.
    Vanished,
}

/// Steps that are done together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) steps: Vec<Step>,
    bytes: u64,
}

/// What one task may still do.
struct Spending {
    budget: Budget,
    entries: u64,
    changed_entries: u64,
    bytes: u64,
}

impl Spending {
    fn is_spent(&self) -> bool {
        self.entries >= self.budget.entries
            || self.changed_entries >= self.budget.changed_entries
            || self.bytes >= self.budget.bytes
    }

    fn spend(&mut self, entry: &Entry) {
        self.entries += 1;
        if entry.metadata.kind == FileKind::File && !entry.unchanged {
            self.changed_entries += 1;
            self.bytes += entry.metadata.size;
        }
    }
}

/// The walk through one scope.
pub(crate) struct Walker {
    context: Arc<JobContext>,
    looker: Looker,
    stop: Stop,
    spending: Spending,
    frames: Vec<Frame>,
    pub(crate) devices: Devices,
    /// What is there now is believed, whatever the parent snapshot or the root worker has mounted there.
    believed: BTreeSet<RawName>,
    last_word: bool,
    stopping: bool,
    batch: Batch,
}

impl Walker {
    /// The next steps; `None` when the scope is walked.
    ///
    /// # Errors
    /// `NotMyView` when this worker sees something else; anything that ends the task.
    pub(crate) async fn next_batch(&mut self) -> Result<Option<Batch>, WorkerError> {
        while self.batch.steps.len() < STEPS_PER_BATCH && self.batch.bytes < BYTES_PER_BATCH {
            // The first entry is always done, so that every task brings the job on.
            self.stopping |= (self.spending.is_spent() || self.stop.is_due()) && self.spending.entries > 0;
            let Some(frame) = self.frames.last_mut() else { break };
            match &mut frame.children {
                Children::Targets(targets) => match targets.pop_front() {
                    Some(target) => self.visit_target(target).await?,
                    None => self.leave(),
                },
                Children::Listed(_) if self.stopping => self.leave_rest_open().await?,
                Children::Listed(_) => self.visit_next().await?,
            }
            if self.batch.steps.last().is_some_and(is_streamed) {
                break;
            }
        }
        if self.batch.steps.is_empty() {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.batch)))
    }

    fn push(&mut self, step: Step) {
        self.batch.steps.push(step);
    }

    fn leave(&mut self) {
        if let Some(frame) = self.frames.pop()
            && frame.is_entered
        {
            self.push(Step::Leave);
        }
    }

    /// Looks at the next name of the directory on top.
    async fn visit_next(&mut self) -> Result<(), WorkerError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let Some((name, seen)) = frame.next_entry(&self.looker).await? else {
            self.leave();
            return Ok(());
        };
        let path = paths::child(&frame.path, &name);
        if frame.tags.rejects(&name) || self.context.excludes.rejects_path(&path) {
            return Ok(());
        }
        let place = paths::child(&frame.source, &name);
        match seen {
            Ok(metadata) if self.context.excludes.rejects_entry(&path, &metadata, frame.local_device) => Ok(()),
            Ok(metadata) => self.visit(name, path, place, metadata, true).await,
            Err(error) => {
                self.unreadable(name, error);
                Ok(())
            }
        }
    }

    /// Looks at something at or above a target.
    async fn visit_target(&mut self, target: TargetNode) -> Result<(), WorkerError> {
        let (source, place) = (self.context.source.clone(), target.source.0.clone());
        let seen = self.context.cpu.read(move || source.metadata(&place)).await?;
        let name = target.name.0.clone();
        match (target.place, seen) {
            (TargetPlace::Above(children), Ok(metadata)) => {
                self.enter_above(name, target.source.0, metadata, children).await
            }
            (TargetPlace::Target { path, explicit }, Ok(metadata)) => {
                let excluded = |context: &JobContext| {
                    context.excludes.rejects_path(&path.0)
                        || context.excludes.rejects_entry(&path.0, &metadata, metadata.device)
                };
                if !explicit && excluded(&self.context) {
                    return Ok(());
                }
                self.visit(name, path.0, target.source.0, metadata, false).await
            }
            // A target was there when it was asked for: that it is gone is no matter of chance.
            (_, Err(error)) => {
                if self.last_word {
                    self.note(ProblemKind::Unreadable, &error.path, format!("{error}: {}", error.source));
                } else {
                    self.push(Step::Open(Item::Open(second_opinion(name))));
                }
                Ok(())
            }
        }
    }

    async fn enter_above(
        &mut self,
        name: Vec<u8>,
        source: Vec<u8>,
        metadata: Metadata,
        children: Vec<TargetNode>,
    ) -> Result<(), WorkerError> {
        let found = self.find_parents(&name);
        let device = self.device_number(&source, &metadata, &found).unwrap_or(metadata.device);
        let parents = self.context.open_parents(&found.subtrees()).await;
        let frame =
            Frame::above(source.clone(), metadata.device, device, parents, children).on_parent_device(found.device());
        self.enter(name, source, metadata, device, found);
        self.frames.push(frame);
        Ok(())
    }

    /// Takes one entry that is not left out.
    async fn visit(
        &mut self,
        name: Vec<u8>,
        path: Vec<u8>,
        source: Vec<u8>,
        metadata: Metadata,
        inside: bool,
    ) -> Result<(), WorkerError> {
        let found = self.find_parents(&name);
        if inside && self.is_missing_mount(&source, &metadata, &found) {
            return Err(not_mounted(&source, &metadata));
        }
        let Some(device) = self.device_number(&source, &metadata, &found) else {
            let parent_device = found.device();
            let new = NewDevice { name: name.into(), path: source.into(), device: metadata.device, parent_device };
            self.push(Step::Open(Item::Device(new)));
            return Ok(());
        };
        for warning in &metadata.warnings {
            self.note(ProblemKind::Incomplete, &source, warning.message.clone());
        }
        match metadata.kind {
            // A report nests as its open directories do: what is too deep becomes a task of its own.
            FileKind::Directory if self.frames.len() >= DEPTH_MAX => {
                let open = OpenNames { second_opinion: false, ..second_opinion(name) };
                self.push(Step::Open(Item::Open(open)));
                Ok(())
            }
            FileKind::Directory => self.visit_directory(name, path, source, metadata, device, found).await,
            FileKind::Socket => Ok(()), // restic leaves sockets out
            FileKind::Unknown => {
                self.note(ProblemKind::Unreadable, &source, "its type is not known".to_owned());
                Ok(())
            }
            _ => {
                self.leaf(name, source, metadata, device, found);
                Ok(())
            }
        }
    }

    async fn visit_directory(
        &mut self,
        name: Vec<u8>,
        path: Vec<u8>,
        source: Vec<u8>,
        metadata: Metadata,
        device: u64,
        found: Found,
    ) -> Result<(), WorkerError> {
        let below = Place { source: &source, path: &path, device: metadata.device };
        let looked = match self.frames.last_mut() {
            Some(frame) => frame.look(&self.looker, &name, below).await?,
            None => self.looker.look(below).await?,
        };
        match looked {
            Ok(looked) => {
                for warning in &looked.tags.warnings {
                    tracing::warn!("{warning}");
                }
                let parents = self.context.open_parents(&found.subtrees()).await;
                let frame = Frame::listed(source.clone(), path, metadata.device, device, parents, looked)
                    .on_parent_device(found.device());
                self.enter(name, source, metadata, device, found);
                self.frames.push(frame);
            }
            Err(error) => self.unreadable(name, error),
        }
        Ok(())
    }

    fn enter(&mut self, name: Vec<u8>, source: Vec<u8>, metadata: Metadata, device: u64, found: Found) {
        let (parents, parent_device) = (found.subtrees(), found.device());
        let parent = found.nodes.into_iter().next().map(Box::new);
        let crosses = self.frames.last().is_some_and(|frame| frame.local_device != metadata.device);
        let unchanged = false;
        let entry = Box::new(Entry { name, source, metadata, device, parent, parent_device, unchanged, crosses });
        self.spending.spend(&entry);
        self.push(Step::Enter { entry, parents });
    }

    fn leaf(&mut self, name: Vec<u8>, source: Vec<u8>, metadata: Metadata, device: u64, found: Found) {
        let comparison = self.context.comparison;
        let same = found.nodes.iter().position(|node| comparison.is_unchanged(node, &metadata));
        let complete = same.filter(|at| self.context.has_content(&found.nodes[*at]));
        if same.is_some() && complete.is_none() {
            let message = "blobs of the parent's file are not in the index; the file is read again".to_owned();
            self.note(ProblemKind::ParentBlobMissing, &source, message);
        }
        let mut nodes = found.nodes;
        let chosen = complete.unwrap_or(0);
        let parent = (chosen < nodes.len()).then(|| Box::new(nodes.swap_remove(chosen)));
        let (unchanged, parent_device, crosses) = (complete.is_some(), None, false);
        let entry = Box::new(Entry { name, source, metadata, device, parent, parent_device, unchanged, crosses });
        self.spending.spend(&entry);
        self.batch.bytes += if entry.unchanged { 0 } else { entry.metadata.size };
        self.push(Step::Leaf(entry));
    }

    /// What the parents have under `name` in the directory on top.
    fn find_parents(&mut self, name: &[u8]) -> Found {
        self.frames.last_mut().map_or_else(Found::default, |frame| Found::find(&mut frame.parents, name))
    }

    /// The entry's number in the snapshot; none if the job's map lacks its file system.
    fn device_number(&mut self, source: &[u8], metadata: &Metadata, found: &Found) -> Option<u64> {
        // The root of the tree is on no file system: its device number is 0, which no other one is.
        if let Some(frame) = self.frames.last()
            && metadata.device == frame.local_device
        {
            return Some(frame.device);
        }
        let is_at_target = self.frames.last().is_some_and(|frame| frame.source.is_empty());
        let crossing = match is_at_target {
            true => self.devices.at_target(source, metadata.device, found.device()),
            false => self.devices.cross(source, metadata.device, found.device()),
        };
        match crossing {
            Crossing::Number(number) => Some(number),
            Crossing::Unknown => None,
        }
    }

    /// Whether the map, or the parent snapshot, has another file system here where this worker has none.
    fn is_missing_mount(&self, source: &[u8], metadata: &Metadata, found: &Found) -> bool {
        let Some(frame) = self.frames.last() else { return false };
        if metadata.device != frame.local_device || self.believed.contains(&RawName::from(source)) {
            return false;
        }
        let had_another = match (found.directory_device(), frame.parent_device) {
            (Some(here), Some(around)) => metadata.kind == FileKind::Directory && here != around,
            _ => false,
        };
        had_another || self.devices.begins_at(source)
    }

    /// Leaves what is not done of the directory on top to others.
    async fn leave_rest_open(&mut self) -> Result<(), WorkerError> {
        let per_item = usize::try_from(self.spending.budget.changed_entries).unwrap_or(usize::MAX).max(1);
        let job = self.context.job.clone();
        if let Some(frame) = self.frames.last_mut() {
            let items = frame.open_rest(&job, &*self.context.objects, per_item).await?;
            self.batch.steps.extend(items.into_iter().map(|open| Step::Open(Item::Open(open))));
        }
        self.leave();
        Ok(())
    }

    /// An entry of the directory on top cannot be read: it is left to another worker, or believed.
    fn unreadable(&mut self, name: Vec<u8>, error: SourceError) {
        if error.is_vanished() {
            return self.push(Step::Vanished);
        }
        self.spending.entries += 1;
        if self.last_word || error.kind == SourceErrorKind::NotAllowed {
            return self.note_unreadable(error);
        }
        self.push(Step::Open(Item::Open(second_opinion(name))));
    }

    fn note_unreadable(&mut self, error: SourceError) {
        if error.is_vanished() {
            return self.push(Step::Vanished);
        }
        let message = format!("{error}: {}", error.source);
        self.note(ProblemKind::Unreadable, &error.path, message);
    }

    fn note(&mut self, kind: ProblemKind, path: &[u8], message: String) {
        self.push(Step::Note(Problem { kind, path: RawName::from(path), message }));
    }
}

/// Whether the step's file is too long to be read together with others.
fn is_streamed(step: &Step) -> bool {
    matches!(step, Step::Leaf(entry) if !entry.unchanged
        && entry.metadata.kind == FileKind::File
        && entry.metadata.size >= STREAMED_FROM_BYTES)
}

/// One name that another worker shall try.
pub(crate) fn second_opinion(name: Vec<u8>) -> OpenNames {
    let name = RawName::from(name);
    OpenNames {
        names: NamesOnWire::Listed(vec![name.clone()]),
        count: 1,
        bounds: (name.clone(), name),
        second_opinion: true,
    }
}

/// How an entry looks, for others to compare.
pub(crate) fn view_of(metadata: &Metadata) -> View {
    View { inode: metadata.inode, file_type: metadata.st_mode & 0o170_000 }
}

fn not_mounted(source: &[u8], metadata: &Metadata) -> WorkerError {
    WorkerError::NotMounted(Box::new(NotMyView {
        path: RawName::from(source),
        target_root: false,
        seen: Some(view_of(metadata)),
        mount: true,
        outside: false,
        targets_seen: Vec::new(),
        message: "the data set has a file system mounted here, this worker has not".to_owned(),
    }))
}
