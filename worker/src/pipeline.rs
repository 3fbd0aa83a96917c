//! Wires the stages of an archive task; every capacity stands here.
//!
//! ```text
//! walk --batches--> read + hash --chunks--> dedupe -> seal --blobs--> packer --packs--> upload
//!      128 steps    BATCHES_AT_ONCE          1 MiB a thread          2 open a type    4 at once
//!      or 4 MiB     in order out
//!      BATCHES_WAITING
//!                       |
//!                       +--nodes--> tree builder --trees--> dedupe -> seal -> packer
//!                                                 TREES_AT_ONCE
//! ```

use std::sync::Arc;

use fleet::cpu::Panicked;
use futures::stream::{self, FuturesUnordered};
use futures::{Stream, StreamExt};
use proto::report::{Archived, Counts, Item, Missing, PROBLEMS_MAX, Problem, ProblemKind, RootView};
use proto::task::{ArchiveWork, Scope};
use repository::format::node::Node;
use repository::format::pack::BlobType;
use sources::source::{FileKind, Metadata};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::dedupe::{Ledger, NewBlob};
use crate::devices::Devices;
use crate::error::WorkerError;
use crate::job::JobContext;
use crate::meter::Meter;
use crate::read::{ReadFile, read_batch};
use crate::stop::Stop;
use crate::tree::{Built, TreeBuilder, node_of};
use crate::walk::{
    Batch, Entry, FileSystem, STREAMED_FROM_BYTES, Step, Walker, check_any, check_roots, second_opinion,
};

mod long_file;
mod root_view;

pub(crate) use long_file::{encode_chunks, identity_of};

/// Batches that wait to be read and stored, beside the one that the walk is at.
const BATCHES_WAITING: usize = 1;
/// Batches that are read and stored at once, in one task: 4 x 4 MiB.
const BATCHES_AT_ONCE: usize = 4;
/// Trees that are stored at once, in one task.
const TREES_AT_ONCE: usize = 16;

/// What became of an archive task.
pub(crate) struct ArchiveDone {
    pub(crate) archived: Archived,
    pub(crate) ledger: Ledger,
    pub(crate) problems: Vec<Problem>,
}

/// One step with what was stored for it.
enum Done {
    Enter { node: Box<Node>, entry: Box<Entry>, parents: Vec<proto::id::Id> },
    Node(Box<Node>),
    Leave,
    Open(Item),
    Missing(Missing),
}

/// A batch that is done.
#[derive(Default)]
struct BatchDone {
    steps: Vec<Done>,
    ledger: Ledger,
    problems: Vec<Problem>,
}

/// Walks and stores one scope.
///
/// # Errors
/// `NotMyView` or `NotMounted` if this worker sees something else than who split it off, before or after.
pub(crate) async fn archive(
    context: &Arc<JobContext>,
    work: &ArchiveWork,
    stop: &Stop,
) -> Result<ArchiveDone, WorkerError> {
    check_roots(context, &work.scope)?;
    // The root task makes the host's facts: its own nodes need them. When targets are done again, they are known.
    let is_root = matches!(work.scope, Scope::Root { .. }) && context.facts.host.is_none();
    let devices = Devices::new(context.facts.host.as_ref());
    let context = if is_root { root_view::with_own_host(context).await? } else { context.clone() };
    let views = if is_root { root_view::target_views(&context).await? } else { Vec::new() };
    if is_root {
        check_any(&context, &views).await?;
    }
    let walker = Walker::begin(context.clone(), work, stop.clone(), devices).await?;
    let task = Task { context, work: work.clone(), stop: stop.clone() };
    let stored = walk(walker).map(|batch| task.store(batch)).buffered(BATCHES_AT_ONCE);
    futures::pin_mut!(stored);
    let mut assembly = Assembly::new(&task);
    let mut trees = FuturesUnordered::new();
    let mut made = None;
    loop {
        tokio::select! {
            biased;
            Some(tree) = trees.next(), if !trees.is_empty() => assembly.ledger.merge(tree?),
            batch = stored.next(), if trees.len() < TREES_AT_ONCE => match batch {
                None => break,
                Some(batch) => {
                    let (batch, devices) = batch?;
                    made = devices;
                    let new = assembly.take(batch).await?;
                    if !new.is_empty() {
                        trees.push(task.context.store(BlobType::Tree, new, work.borrow));
                    }
                }
            },
        }
    }
    while let Some(tree) = trees.next().await {
        assembly.ledger.merge(tree?);
    }
    let root = match is_root {
        true => Some(root_view::root_view(&task.context, made.unwrap_or_default(), views).await?),
        false => None,
    };
    assembly.finish(root).await
}

/// Walks beside everything else; dropping the stream ends the walk.
fn walk(mut walker: Walker) -> impl Stream<Item = Result<(Batch, MadeDevices), WorkerError>> {
    let (batches, next) = mpsc::channel(BATCHES_WAITING);
    let mut walking = JoinSet::new();
    let walk = async move {
        while let Some(batch) = walker.next_batch().await? {
            let made = walker.devices.made().cloned();
            if batches.send((batch, made)).await.is_err() {
                break;
            }
        }
        Ok::<(), WorkerError>(())
    };
    walking.spawn(walk.in_current_span());
    stream::try_unfold((next, walking), |(mut next, mut walking)| async move {
        if let Some(batch) = next.recv().await {
            return Ok(Some((batch, (next, walking))));
        }
        match walking.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(None),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => Err(Panicked.into()),
        }
    })
}

/// One archive task.
struct Task {
    context: Arc<JobContext>,
    work: ArchiveWork,
    stop: Stop,
}

type MadeDevices = Option<std::collections::BTreeMap<proto::name::RawName, u64>>;

impl Task {
    async fn store(
        &self,
        batch: Result<(Batch, MadeDevices), WorkerError>,
    ) -> Result<(BatchDone, MadeDevices), WorkerError> {
        let (batch, made) = batch?;
        let is_long = |step: &Step| matches!(step, Step::Leaf(entry) if must_read(entry) && entry.metadata.size >= STREAMED_FROM_BYTES);
        let mut done = BatchDone::default();
        let (mut steps, long) = match batch.steps.last().is_some_and(is_long) {
            true => {
                let mut steps = batch.steps;
                let last = steps.pop();
                (steps, last)
            }
            false => (batch.steps, None),
        };
        let read = self.read(&mut steps).await?;
        self.finish_steps(steps, read, &mut done).await?;
        if let Some(Step::Leaf(entry)) = long {
            self.store_long(entry, &mut done).await?;
        }
        Ok((done, made))
    }

    /// Reads the files that must be read; their entries come back with what was read.
    async fn read(
        &self,
        steps: &mut Vec<Step>,
    ) -> Result<Vec<Result<ReadFile, sources::source::SourceError>>, WorkerError> {
        if !steps.iter().any(|step| matches!(step, Step::Leaf(entry) if must_read(entry))) {
            return Ok(Vec::new());
        }
        let (source, chunker, taken) =
            (self.context.source.clone(), self.context.chunker.clone(), std::mem::take(steps));
        let (back, read) = self
            .context
            .cpu
            .read(move || {
                let entries: Vec<&Entry> = taken
                    .iter()
                    .filter_map(|step| match step {
                        Step::Leaf(entry) if must_read(entry) => Some(&**entry),
                        _ => None,
                    })
                    .collect();
                let read = read_batch(&source, &chunker, &entries);
                (taken, read)
            })
            .await?;
        *steps = back;
        Ok(read)
    }

    /// Stores the chunks of a batch, and makes its nodes.
    async fn finish_steps(
        &self,
        steps: Vec<Step>,
        read: Vec<Result<ReadFile, sources::source::SourceError>>,
        done: &mut BatchDone,
    ) -> Result<(), WorkerError> {
        let mut read = read.into_iter();
        let mut chunks = Vec::new();
        for step in steps {
            match step {
                Step::Enter { entry, parents } => {
                    let node = Box::new(self.node(&entry, &entry.metadata));
                    done.steps.push(Done::Enter { node, entry, parents });
                }
                Step::Leave => done.steps.push(Done::Leave),
                Step::Open(item) => done.steps.push(Done::Open(item)),
                Step::Note(problem) => done.note(problem),
                Step::Vanished => done.vanished(),
                Step::Leaf(entry) if must_read(&entry) => match read.next() {
                    Some(Ok(file)) => self.finish_read(*entry, file, &mut chunks, done),
                    Some(Err(error)) => self.not_read(*entry, error, done),
                    None => return Err(WorkerError::Inconsistent),
                },
                Step::Leaf(entry) => self.finish_unread(*entry, done),
            }
        }
        let stored = self.context.store(BlobType::Data, chunks, self.work.borrow).await?;
        done.ledger.merge(stored);
        Ok(())
    }

    fn node(&self, entry: &Entry, metadata: &Metadata) -> Node {
        node_of(&entry.name, metadata, entry.device, &self.context.facts, &self.context.zone)
    }

    fn finish_read(&self, entry: Entry, file: ReadFile, chunks: &mut Vec<NewBlob>, done: &mut BatchDone) {
        let content = file.chunks.iter().map(|chunk| chunk.id).collect();
        chunks.extend(file.chunks);
        self.finish_file(&entry, &file.metadata, content, file.bytes, done);
    }

    /// Makes the node of a file that was read, and counts it.
    fn finish_file(
        &self,
        entry: &Entry,
        metadata: &Metadata,
        content: Vec<proto::id::Id>,
        bytes: u64,
        done: &mut BatchDone,
    ) {
        let mut node = self.node(entry, metadata);
        (node.size, node.content) = (bytes, Some(content));
        let counts = &mut done.ledger.counts;
        counts.entries += 1;
        counts.bytes_read += bytes;
        counts.bytes_processed += bytes;
        match &entry.parent {
            None => counts.files_new += 1,
            Some(_) => counts.files_changed += 1,
        }
        if bytes != metadata.size {
            counts.changed_while_read += 1;
            let message = format!("it had {} bytes when it was opened, and {bytes} were read", metadata.size);
            done.note(Problem { kind: ProblemKind::ChangedWhileRead, path: entry.source.clone().into(), message });
        }
        let meter = &self.context.meter;
        Meter::add(&meter.entries, 1);
        Meter::add(&meter.bytes_done, bytes);
        Meter::add(&meter.bytes_read, bytes);
        done.steps.push(Done::Node(Box::new(node)));
    }

    fn finish_unread(&self, mut entry: Entry, done: &mut BatchDone) {
        let mut node = self.node(&entry, &entry.metadata);
        done.ledger.counts.entries += 1;
        Meter::add(&self.context.meter.entries, 1);
        if entry.metadata.kind == FileKind::File {
            let old = entry.parent.take();
            node.size = entry.metadata.size;
            node.content = Some(old.and_then(|old| old.content).unwrap_or_default());
            done.ledger.counts.files_unmodified += 1;
            done.ledger.counts.bytes_processed += node.size;
            Meter::add(&self.context.meter.bytes_done, node.size);
        }
        done.steps.push(Done::Node(Box::new(node)));
    }

    /// A file could not be read: another worker shall try, or it is believed.
    fn not_read(&self, entry: Entry, error: sources::source::SourceError, done: &mut BatchDone) {
        if error.is_vanished() {
            done.vanished();
        } else if self.work.last_word {
            let message = format!("{error}: {}", error.source);
            done.note(Problem { kind: ProblemKind::Unreadable, path: entry.source.into(), message });
        } else {
            done.steps.push(Done::Open(Item::Open(second_opinion(entry.name))));
        }
    }
}

impl BatchDone {
    fn note(&mut self, problem: Problem) {
        if problem.kind == ProblemKind::Unreadable {
            self.ledger.counts.unreadable += 1;
            self.steps.push(Done::Missing(Missing { unreadable: 1, vanished: 0 }));
        }
        self.problems.push(problem);
    }

    fn vanished(&mut self) {
        self.ledger.counts.vanished += 1;
        self.steps.push(Done::Missing(Missing { unreadable: 0, vanished: 1 }));
    }
}

fn must_read(entry: &Entry) -> bool {
    entry.metadata.kind == FileKind::File && !entry.unchanged
}

/// Puts finished batches together, in order.
struct Assembly<'a> {
    task: &'a Task,
    builder: TreeBuilder,
    ledger: Ledger,
    problems: Vec<Problem>,
    /// File systems that the walk entered.
    entered: Vec<FileSystem>,
}

impl<'a> Assembly<'a> {
    fn new(task: &'a Task) -> Self {
        let (builder, ledger) = (TreeBuilder::new(), Ledger::default());
        Self { task, builder, ledger, problems: Vec::new(), entered: Vec::new() }
    }

    /// Takes a batch; returns the trees that it completed.
    async fn take(&mut self, batch: BatchDone) -> Result<Vec<NewBlob>, WorkerError> {
        self.ledger.merge(batch.ledger);
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len()); // all of them are counted
        self.problems.extend(batch.problems.into_iter().take(room));
        let mut trees = Vec::new();
        for step in batch.steps {
            match step {
                Done::Enter { node, entry, parents } => {
                    Meter::add(&self.task.context.meter.entries, 1);
                    if entry.crosses {
                        let place = entry.source.as_slice().into();
                        self.entered.push(FileSystem { place, device: entry.metadata.device });
                    }
                    self.builder.enter(*node, entry, parents);
                }
                Done::Node(node) => self.builder.add(&node),
                Done::Open(item) => self.builder.open(item),
                Done::Missing(missing) => self.builder.miss(missing),
                Done::Leave => trees.extend(self.builder.leave()),
            }
        }
        self.builder.spill(&self.task.context.job, &*self.task.context.objects).await?;
        Ok(trees)
    }

    async fn finish(mut self, root: Option<RootView>) -> Result<ArchiveDone, WorkerError> {
        let counts: &Counts = &self.ledger.counts;
        // What was found, and what could not be had, counts only if the data set is still the one that was split off.
        let lost = counts.vanished > 0 || counts.unreadable > 0;
        Walker::check_again(&self.task.context, &self.task.work, &self.entered, lost).await?;
        let Built { items, counts, missing } = self.builder.finish();
        self.ledger.counts.add(&counts);
        Ok(ArchiveDone { archived: Archived { items, root, missing }, ledger: self.ledger, problems: self.problems })
    }
}
