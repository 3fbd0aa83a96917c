//! Walks all trees of all snapshots, each once.
//!
//! What is to be read waits as numbers in the pack table, where the blobs of a pack stand in a row.
//! A request takes a window of a pack, in which every tree is done that is known to be needed,
//! also those that only turn up meanwhile: a writer stores children before their parents, so one
//! or two requests for each few MiB do for most packs. Memory: a bit for each blob, four bytes for
//! each tree that waits, and the windows.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};

use super::files::Root;
use super::finding::{Finding, FindingKind, chain};
use super::nodes::{TreeContent, check_tree};
use super::pack_table::PackTable;
use super::report::{Recorder, Stage};
use crate::crypto::MasterKey;
use crate::format::pack::BlobType;
use crate::maintenance::executor::Resources;
use crate::repository::{FileKind, Repository, RepositoryError};
use crate::storage::{StorageError, StorageErrorKind};

/// Stored bytes of a window, unless a single tree is larger.
const WINDOW_BYTES: u64 = 4 << 20;

/// Walks the trees below `roots`. So many windows are read `at_once` (at least 1).
///
/// # Errors
/// `Storage`, `Stopping`; damage goes to the recorder.
pub(super) async fn check_trees(
    repository: &Repository,
    resources: &Resources,
    table: Arc<PackTable>,
    roots: Vec<Root>,
    at_once: usize,
    recorder: &mut Recorder,
) -> Result<(), RepositoryError> {
    recorder.began(Stage::Trees, None).await;
    let claimed = BitSet::new(table.positions_end());
    let key = repository.master_key().clone();
    let walk = Walk { repository, resources, shared: Arc::new(Shared { table, key, claimed }) };
    let (mut waiting, findings) = walk.start(roots);
    recorder.found(findings).await;
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < at_once.max(1)
            && let Some(window) = walk.shared.next_window(&mut waiting)
        {
            running.push(walk.read_window(window));
        }
        let Some(seen) = running.next().await else { return Ok(()) };
        let seen = seen?;
        waiting.extend(seen.discovered);
        recorder.report.trees += seen.trees;
        recorder.report.nodes += seen.nodes;
        recorder.found(seen.findings).await;
        recorder.advanced(Stage::Trees, seen.trees).await;
    }
}

/// Trees of one pack that are read with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    positions: RangeInclusive<u32>,
    /// Trees to be done, by position.
    wanted: Vec<u32>,
}

/// What came out of one window.
#[derive(Debug, Default)]
struct Seen {
    trees: u64,
    nodes: u64,
    findings: Vec<Finding>,
    /// Trees elsewhere that nobody else has claimed.
    discovered: Vec<u32>,
    /// Trees that could not be opened, and why.
    failed: Vec<(u32, String)>,
}

struct Walk<'a> {
    repository: &'a Repository,
    resources: &'a Resources,
    shared: Arc<Shared>,
}

struct Shared {
    table: Arc<PackTable>,
    key: Arc<MasterKey>,
    /// Trees that were done, are being done or wait.
    claimed: BitSet,
}

impl Walk<'_> {
    fn start(&self, roots: Vec<Root>) -> (BTreeSet<u32>, Vec<Finding>) {
        let mut waiting = BTreeSet::new();
        let mut findings = Vec::new();
        for Root { snapshot, tree } in roots {
            match self.shared.table.find(BlobType::Tree, &tree).next() {
                Some(position) if self.shared.claimed.insert(position) => {
                    waiting.insert(position);
                }
                Some(_) => {}
                None => {
                    let detail = format!("its tree {tree} is in no pack of the index");
                    findings.push(Finding::new(FindingKind::TreeMissing, FileKind::Snapshot.name(&snapshot), detail));
                }
            }
        }
        (waiting, findings)
    }

    async fn read_window(&self, window: Window) -> Result<Seen, RepositoryError> {
        let mut is_there = true;
        let mut seen = match self.try_window(window.clone()).await? {
            Ok(seen) => seen,
            // Each of them may still be had alone, or from another pack.
            Err(error) => {
                is_there = error.kind != StorageErrorKind::NotFound;
                let why = chain(&error);
                let failed = window.wanted.iter().map(|&position| (position, why.clone())).collect();
                Seen { failed, ..Seen::default() }
            }
        };
        for (position, why) in std::mem::take(&mut seen.failed) {
            let again = self.try_copies(position, is_there, why).await?;
            seen.trees += again.trees;
            seen.nodes += again.nodes;
            seen.findings.extend(again.findings);
            seen.discovered.extend(again.discovered);
        }
        Ok(seen)
    }

    /// Fetches and does a window. The inner error is one that will not pass.
    async fn try_window(&self, window: Window) -> Result<Result<Seen, StorageError>, RepositoryError> {
        let shared = self.shared.clone();
        let range = shared.bytes_of(&window.positions);
        let name = FileKind::Pack.name(&shared.table.pack_at(*window.positions.start()).id);
        let permit = self.resources.reserve(range.end - range.start).await?;
        let bytes = match self.repository.storage().get(&name, Some(range.clone())).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => return Ok(Err(error)),
        };
        let work = move || {
            let _permit = permit;
            shared.do_window(window, &name, range.start, bytes)
        };
        Ok(Ok(self.resources.compute(work).await?))
    }

    /// Tries one tree once more if its pack `is_there`, and then its other copies.
    async fn try_copies(&self, position: u32, is_there: bool, mut why: String) -> Result<Seen, RepositoryError> {
        let table = &self.shared.table;
        let entry = table.entry(position);
        let name = FileKind::Pack.name(&table.pack_at(position).id);
        let others = table.find(BlobType::Tree, &entry.id).filter(|copy| *copy != position);
        let copies: Vec<u32> = is_there.then_some(position).into_iter().chain(others).collect();
        for copy in copies {
            let tried = self.try_window(Window { positions: copy..=copy, wanted: vec![copy] }).await?;
            match tried {
                Ok(mut seen) => match seen.failed.pop() {
                    None if copy == position => return Ok(seen),
                    None => {
                        let other = FileKind::Pack.name(&table.pack_at(copy).id);
                        let detail = format!("{why}; the copy in {other} is whole");
                        seen.findings.push(Finding::new(FindingKind::TreeCopyUnreadable, name, detail));
                        return Ok(seen);
                    }
                    Some((_, latest)) if copy == position => why = latest,
                    Some(_) => {}
                },
                Err(error) if copy == position => why = chain(&error),
                Err(_) => {}
            }
        }
        let detail = format!("tree {}: {why}", entry.id);
        Ok(Seen { findings: vec![Finding::new(FindingKind::TreeUnreadable, name, detail)], ..Seen::default() })
    }
}

impl Shared {
    /// The bytes of the pack in which the blobs lie, whatever the index says about their order.
    fn bytes_of(&self, positions: &RangeInclusive<u32>) -> std::ops::Range<u64> {
        let start = u64::from(self.table.entry(*positions.start()).offset);
        let ends = positions.clone().map(|position| self.table.entry(position).range().end);
        start..ends.max().unwrap_or(start)
    }

    /// The last tree that waits, and what lies before it in its pack and is or may be needed.
    fn next_window(&self, waiting: &mut BTreeSet<u32>) -> Option<Window> {
        let last = *waiting.last()?;
        let end = self.table.entry(last).range().end;
        let mut first = last;
        for position in (self.table.pack_at(last).positions().start..last).rev() {
            let entry = self.table.entry(position);
            if end - u64::from(entry.offset) > WINDOW_BYTES {
                break;
            }
            let is_open = !self.claimed.contains(position) || waiting.contains(&position);
            if entry.kind == BlobType::Tree && is_open {
                first = position;
            }
        }
        let wanted = waiting.split_off(&first).into_iter().collect();
        Some(Window { positions: first..=last, wanted })
    }

    /// Does every tree of a window that is wanted or turns out to be. `bytes` begin at `start` in
    /// the pack called `name`.
    fn do_window(&self, window: Window, name: &str, start: u64, bytes: Bytes) -> Seen {
        let mut seen = Seen::default();
        let mut wanted = window.wanted;
        while let Some(position) = wanted.pop() {
            let entry = self.table.entry(position);
            let range = entry.range();
            let sealed = bytes.slice((range.start - start) as usize..(range.end - start) as usize);
            let content = match check_tree(&self.table, &self.key, name, entry, sealed) {
                Ok(content) => content,
                Err(why) => {
                    seen.failed.push((position, why));
                    continue;
                }
            };
            let TreeContent { subtrees, nodes, findings } = content;
            seen.trees += 1;
            seen.nodes += nodes;
            seen.findings.extend(findings);
            for subtree in subtrees.into_iter().filter(|&subtree| self.claimed.insert(subtree)) {
                let place = if window.positions.contains(&subtree) { &mut wanted } else { &mut seen.discovered };
                place.push(subtree);
            }
        }
        seen
    }
}

/// A set of small numbers that any number of threads may add to.
struct BitSet {
    words: Box<[AtomicU64]>,
}

impl BitSet {
    /// Room for numbers below `end`.
    fn new(end: u32) -> Self {
        Self { words: (0..end.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether it is new.
    fn insert(&self, number: u32) -> bool {
        let bit = 1 << (number % 64);
        // Nothing else is told by way of a bit.
        self.words[number as usize / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    fn contains(&self, number: u32) -> bool {
        self.words[number as usize / 64].load(Ordering::Relaxed) & (1 << (number % 64)) != 0
    }
}
