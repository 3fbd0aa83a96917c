//! Looks for damage in a repository: everything that stock restic's `check` finds, by the name of
//! the file that has it.
//!
//! In stages: small files; index files; names and lengths of packs; all trees of all snapshots, with
//! the pieces that files refer to; and, if wanted, the content of packs. The last stage is a list of
//! packs ([`plan`]) and what is done for each ([`verify_pack`]), so that a fleet can share it out.
//!
//! # What it needs
//! Nobody may remove anything meanwhile: an exclusive lock. Files that are added do no harm, except
//! that their packs may be said to be in no index.
//!
//! # Memory
//! 60 bytes for each blob in the index, 50 for each pack, and what the [`Resources`] grant.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use proto::id::Id;
use tokio::sync::mpsc::Sender;

use crate::format::index::IndexedPack;
use crate::maintenance::executor::Resources;
use crate::repository::{Repository, RepositoryError};

mod files;
mod finding;
mod nodes;
mod pack_table;
mod packs;
mod plan;
mod report;
mod trees;
mod verify;

pub use finding::{Finding, FindingKind, Severity};
pub use pack_table::{PackRow, PackTable};
pub use plan::{BadSubset, PackRead, ReadData, Subset, plan};
pub use report::{CheckEvent, CheckReport, KEPT_MAX_PER_KIND, Stage};
pub use verify::verify_pack;

/// How to check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckOptions {
    /// How much of the content of packs to read.
    pub read_data: ReadData,
    /// Packs and pieces of tree packs that are read at once (at least 1). What they hold is bounded
    /// by the [`Resources`] too.
    pub reads_at_once: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { read_data: ReadData::None, reads_at_once: 4 }
    }
}

/// Checks a repository. `events` are told in order while it runs; the check waits for who is slow
/// to take them, and goes on if nobody does any more.
///
/// # Errors
/// `Storage` if it is away: the same call may succeed later. `Stopping`. Damage is not an error.
pub async fn check(
    repository: &Repository,
    options: &CheckOptions,
    resources: &Resources,
    events: Option<Sender<CheckEvent>>,
) -> Result<CheckReport, RepositoryError> {
    let Structure { table, reads, mut recorder } = check_structure(repository, options, resources, events).await?;
    read_packs(repository, options, resources, &table, reads, &mut recorder).await?;
    Ok(recorder.report)
}

/// A repository whose structure was checked. Somebody else reads its packs ([`verify_pack`]), and says what came of it.
pub struct Structure {
    table: Arc<PackTable>,
    reads: Vec<PackRead>,
    recorder: report::Recorder,
}

impl Structure {
    /// The packs that are to be read, by id.
    pub fn reads(&self) -> &[PackRead] {
        &self.reads
    }

    /// Leaves out the packs of which `wanted` says no.
    pub fn retain(&mut self, wanted: impl Fn(&PackRead) -> bool) {
        self.reads.retain(wanted);
    }

    /// What the index says of a pack.
    pub fn indexed(&self, pack: &Id) -> IndexedPack {
        IndexedPack { id: *pack, blobs: self.table.entries_of(pack).to_vec() }
    }

    /// So many packs with so many bytes were read, and this was found.
    pub async fn note_read(&mut self, packs: u64, bytes: u64, findings: Vec<Finding>) {
        self.recorder.report.packs_read += packs;
        self.recorder.report.bytes_read += bytes;
        self.recorder.found(findings).await;
        self.recorder.advanced(Stage::Data, bytes).await;
    }

    /// What was found so far.
    pub fn report(&self) -> &CheckReport {
        &self.recorder.report
    }
}

/// Checks everything but the content of packs, and chooses which of them are to be read.
///
/// # Errors
/// As of [`check`].
pub async fn check_structure(
    repository: &Repository,
    options: &CheckOptions,
    resources: &Resources,
    events: Option<Sender<CheckEvent>>,
) -> Result<Structure, RepositoryError> {
    let mut recorder = report::Recorder::new(events);
    let roots = files::check_files(repository, &mut recorder).await?;
    // Packs are listed after the index was loaded: a pack is there before an index names it.
    let files::LoadedIndex { table, is_whole } = files::load_index(repository, resources, &mut recorder).await?;
    recorder.report.packs = table.packs().len() as u64;
    recorder.report.blobs = table.blob_count();
    recorder.began(Stage::Packs, Some(recorder.report.packs)).await;
    let listed = packs::list_packs(repository).await?;
    let (findings, missing) = packs::compare(&table, listed, is_whole);
    recorder.found(findings).await;
    recorder.advanced(Stage::Packs, recorder.report.packs).await;
    let table = Arc::new(table);
    if is_whole {
        let (table, at_once) = (table.clone(), options.reads_at_once);
        trees::check_trees(repository, resources, table, roots, at_once, &mut recorder).await?;
    } else {
        // Whatever is not found may be in the files that cannot be read.
        recorder.report.trees_skipped = true;
    }
    let reads = plan(&table, &missing, options.read_data, &**repository.random());
    Ok(Structure { table, reads, recorder })
}

async fn read_packs(
    repository: &Repository,
    options: &CheckOptions,
    resources: &Resources,
    table: &PackTable,
    reads: Vec<PackRead>,
    recorder: &mut report::Recorder,
) -> Result<(), RepositoryError> {
    if options.read_data == ReadData::None {
        return Ok(());
    }
    recorder.began(Stage::Data, Some(reads.iter().map(|read| read.length).sum())).await;
    let verify = |read: PackRead| async move {
        let findings = verify_pack(repository, resources, &read.pack, table.entries_of(&read.pack)).await?;
        Ok::<_, RepositoryError>((read, findings))
    };
    let mut verified = stream::iter(reads).map(verify).buffer_unordered(options.reads_at_once.max(1));
    while let Some(result) = verified.next().await {
        let (read, findings) = result?;
        recorder.report.packs_read += 1;
        recorder.report.bytes_read += read.length;
        recorder.found(findings).await;
        recorder.advanced(Stage::Data, read.length).await;
    }
    Ok(())
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod tree_walk_tests;
#[cfg(test)]
mod verify_tests;
