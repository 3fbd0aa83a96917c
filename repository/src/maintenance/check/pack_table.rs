//! Every pack and blob that the index files name: 60 bytes for each blob.

use proto::id::Id;
use sha2::{Digest, Sha256};

use super::finding::{Finding, FindingKind};
use crate::format::index::IndexedPack;
use crate::format::pack::{BlobType, PackEntry, pack_length};
use crate::repository::FileKind;

/// One pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// Its id.
    pub id: Id,
    /// The length that follows from its blobs.
    pub length: u64,
    first: u32,
    count: u32,
}

impl PackRow {
    /// The number of its blobs.
    pub fn blob_count(&self) -> u32 {
        self.count
    }

    /// Numbers of its blobs, in the order of their offsets.
    pub(super) fn positions(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.count
    }
}

/// Packs by id, and blobs by number: those of a pack stand in a row.
pub struct PackTable {
    /// By id.
    packs: Vec<PackRow>,
    /// Numbers of packs by their first blob.
    by_first: Vec<u32>,
    /// Some of them belong to no pack: those that several index files repeat.
    entries: Vec<PackEntry>,
    /// A hash table of numbers of blobs; at most two thirds are taken.
    slots: Box<[u32]>,
}

const EMPTY: u32 = u32::MAX;

impl PackTable {
    /// All packs, by id.
    pub fn packs(&self) -> &[PackRow] {
        &self.packs
    }

    /// The blobs of a pack, by offset; none for a pack that no index names.
    pub fn entries_of(&self, pack: &Id) -> &[PackEntry] {
        match self.packs.binary_search_by_key(pack, |row| row.id) {
            Ok(number) => self.entries_in(&self.packs[number]),
            Err(_) => &[],
        }
    }

    /// The blobs of one of this table's packs, by offset.
    pub fn entries_in(&self, row: &PackRow) -> &[PackEntry] {
        &self.entries[row.first as usize..][..row.count as usize]
    }

    /// Copies of blobs in all packs.
    pub fn blob_count(&self) -> u64 {
        self.packs.iter().map(|row| u64::from(row.count)).sum()
    }

    /// Numbers of blobs lie below this.
    pub(super) fn positions_end(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn entry(&self, position: u32) -> &PackEntry {
        &self.entries[position as usize]
    }

    /// The pack that holds the blob of this number.
    pub(super) fn pack_at(&self, position: u32) -> &PackRow {
        let after = self.by_first.partition_point(|&number| self.packs[number as usize].first <= position);
        &self.packs[self.by_first[after - 1] as usize]
    }

    /// The numbers of all copies of a blob, always in the same order.
    pub(super) fn find(&self, kind: BlobType, id: &Id) -> impl Iterator<Item = u32> {
        let mask = self.slots.len() - 1;
        let start = hash(kind, id);
        let taken = (0..self.slots.len()).map(move |step| self.slots[start.wrapping_add(step) & mask]);
        let (wanted, id) = (kind, *id);
        taken.take_while(|&position| position != EMPTY).filter(move |&position| {
            let entry = self.entry(position);
            entry.id == id && entry.kind == wanted
        })
    }

    fn new(packs: Vec<PackRow>, entries: Vec<PackEntry>) -> Self {
        let mut by_first: Vec<u32> = (0..packs.len() as u32).collect();
        by_first.sort_unstable_by_key(|&number| packs[number as usize].first);
        let count: usize = packs.iter().map(|row| row.count as usize).sum();
        let mut slots = vec![EMPTY; (count + count / 2 + 1).next_power_of_two()].into_boxed_slice();
        let mask = slots.len() - 1;
        for row in &packs {
            for position in row.positions() {
                let entry = &entries[position as usize];
                let mut slot = hash(entry.kind, &entry.id) & mask;
                while slots[slot] != EMPTY {
                    slot = (slot + 1) & mask;
                }
                slots[slot] = position;
            }
        }
        Self { packs, by_first, entries, slots }
    }
}

/// Ids are digests: any eight bytes of them are spread evenly.
fn hash(kind: BlobType, id: &Id) -> usize {
    let (bytes, _) = id.as_bytes().split_first_chunk::<8>().expect("an id has 32 bytes");
    let number = u64::from_le_bytes(*bytes);
    match kind {
        BlobType::Data => number as usize,
        BlobType::Tree => !number as usize,
    }
}

/// What one index file says about one pack.
struct Statement {
    pack: Id,
    file: u32,
    first: u32,
    count: u32,
    digest: Id,
}

/// Collects what index files say.
#[derive(Default)]
pub(super) struct PackTableBuilder {
    files: Vec<Id>,
    statements: Vec<Statement>,
    entries: Vec<PackEntry>,
}

impl PackTableBuilder {
    /// Adds an index file. Numbers of blobs have 32 bits: more would take 200 GB of memory.
    pub(super) fn add(&mut self, file: Id, packs: Vec<IndexedPack>) {
        let number = self.files.len() as u32;
        self.files.push(file);
        let blobs = packs.iter().map(|pack| pack.blobs.len()).sum();
        self.entries.reserve(blobs);
        for pack in packs {
            self.state(pack.id, number, pack.blobs);
        }
    }

    fn state(&mut self, pack: Id, file: u32, mut blobs: Vec<PackEntry>) {
        tidy(&mut blobs);
        // A pack without blobs is as good as not named.
        if blobs.is_empty() {
            return;
        }
        let (first, count) = (self.entries.len() as u32, blobs.len() as u32);
        self.statements.push(Statement { pack, file, first, count, digest: digest(&blobs) });
        self.entries.append(&mut blobs);
    }

    /// The table, and what index files disagree on.
    pub(super) fn finish(mut self) -> (PackTable, Vec<Finding>) {
        let mut statements = std::mem::take(&mut self.statements);
        statements.sort_unstable_by_key(|statement| (statement.pack, statement.file, statement.first));
        let mut findings = Vec::new();
        let mut packs = Vec::new();
        for about in statements.chunk_by(|a, b| a.pack == b.pack) {
            let row = self.settle(about, &mut findings);
            let entries = &self.entries[row.first as usize..][..row.count as usize];
            if entries.iter().any(|entry| entry.kind != entries[0].kind) {
                let name = FileKind::Pack.name(&row.id);
                findings.push(Finding::new(FindingKind::PackMixed, name, "it holds both trees and data"));
            }
            packs.push(row);
        }
        (PackTable::new(packs, self.entries), findings)
    }

    /// One pack from all statements about it, of which there is at least one.
    fn settle(&mut self, about: &[Statement], findings: &mut Vec<Finding>) -> PackRow {
        let Statement { pack: id, first, count, .. } = about[0];
        let of = |entries: &[PackEntry], first: u32, count: u32| {
            let length = pack_length(&entries[first as usize..][..count as usize]);
            PackRow { id, length, first, count }
        };
        if about.len() == 1 {
            return of(&self.entries, first, count);
        }
        let by_file: Vec<&[Statement]> = about.chunk_by(|a, b| a.file == b.file).collect();
        let opinions: Vec<Id> = by_file.iter().map(|statements| self.opinion(statements)).collect();
        let agree = opinions.iter().all(|opinion| *opinion == opinions[0]);
        if by_file.len() > 1 {
            let names: Vec<String> =
                by_file.iter().map(|of_file| FileKind::Index.name(&self.files[of_file[0].file as usize])).collect();
            let (kind, what) = match agree {
                true => (FindingKind::PackInSeveralIndexes, "several index files name it"),
                false => (FindingKind::PackSplit, "index files disagree on what it holds"),
            };
            findings.push(Finding::new(kind, FileKind::Pack.name(&id), format!("{what}: {}", names.join(", "))));
        }
        if agree && by_file[0].len() == 1 {
            return of(&self.entries, first, count);
        }
        let union = self.union(about);
        let (first, count) = (self.entries.len() as u32, union.len() as u32);
        self.entries.extend(union);
        of(&self.entries, first, count)
    }

    /// A digest of what one file says about a pack, even if it names it more than once.
    fn opinion(&self, statements: &[Statement]) -> Id {
        match statements {
            [single] => single.digest,
            several => digest(&self.union(several)),
        }
    }

    fn union(&self, statements: &[Statement]) -> Vec<PackEntry> {
        let entries = |statement: &Statement| &self.entries[statement.first as usize..][..statement.count as usize];
        let mut union: Vec<PackEntry> = statements.iter().flat_map(entries).copied().collect();
        tidy(&mut union);
        union
    }
}

fn tidy(blobs: &mut Vec<PackEntry>) {
    blobs.sort_unstable_by_key(|blob| (blob.offset, blob.length, blob.kind, blob.id, blob.uncompressed_length));
    blobs.dedup();
}

fn digest(blobs: &[PackEntry]) -> Id {
    let mut digest = Sha256::new();
    for blob in blobs {
        for number in [blob.kind as u32, blob.offset, blob.length, blob.uncompressed_length.unwrap_or(0)] {
            digest.update(number.to_le_bytes());
        }
        digest.update(blob.id.as_bytes());
    }
    Id::from_bytes(digest.finalize().into())
}

#[cfg(test)]
#[path = "pack_table_tests.rs"]
mod tests;
