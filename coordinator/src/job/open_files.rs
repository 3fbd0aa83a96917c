//! Large files that are read in ranges (DESIGN 3.4).

use proto::id::{Id, Round};
use proto::name::RawName;
use proto::report::{OpenFile, Payload, Problem, ProblemKind, RangeResult};
use proto::task::{FileIdentity, RangeWork, Work};
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::partitions::Origin;
use super::seams::{RangePart, Stitched};
use super::state::{DirKey, FileKey, OpenTask, Piece, Place, ReportKey, State};

/// Stands for the chunks before the first range, where a proof lists the starts of ranges.
const DONE_CHUNKS: u64 = u64::MAX;

/// A chunk in a report: where it ends (8 bytes) and its id (32).
const CHUNK_RECORD_BYTES: u64 = 40;

/// A large file that is not finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct File {
    dir: DirKey,
    name: RawName,
    path: RawName,
    node: Vec<u8>,
    is_in_parent: bool,
    identity: FileIdentity,
    done: (Payload, u64),
    ranges: Vec<OpenRange>,
    /// Of the task that left it open.
    round: Round,
    /// The chunks in `done` are as unproven as the report that brought them.
    awaits_done: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct OpenRange {
    start: u64,
    end: u64,
    exact: bool,
    result: Option<RangeResult>,
    proven: bool,
}

impl File {
    /// How the ranges saw the file, before and after.
    fn seen(&self) -> impl Iterator<Item = FileIdentity> {
        let results = self.ranges.iter().filter_map(|range| range.result.as_ref());
        results.flat_map(|result| [result.identity_before, result.identity_after])
    }

    /// Another inode is another file.
    fn is_replaced(&self) -> bool {
        self.seen().any(|identity| identity.inode != self.identity.inode)
    }

    /// Another size or time is listed.
    fn is_changed(&self) -> bool {
        self.seen().any(|identity| identity != self.identity)
    }
}

impl State {
    pub(super) fn place_file(&mut self, dir: DirKey, open: OpenFile, origin: &Origin<'_>) {
        let key = self.new_key();
        let size = open.identity.size;
        let ranges = cut_ranges(open.done_to, size, self.settings.budget.range_bytes_for(size));
        let file = File {
            dir,
            name: open.name.clone(),
            path: open.path,
            node: open.node,
            is_in_parent: open.is_in_parent,
            identity: open.identity,
            done: (open.done, open.done_to),
            ranges,
            round: origin.round,
            awaits_done: false,
        };
        self.insert_open_piece(dir, open.name, Piece::File);
        let starts: Vec<u64> = file.ranges.iter().map(|range| range.start).collect();
        self.files.insert(key, file);
        for start in starts {
            self.open_range(key, start, origin.round, origin.borrow);
        }
        if let (Some(proof), true) = (origin.proof.and_then(|key| self.proofs.get_mut(&key)), open.done_to > 0)
            && let Some(file) = self.files.get_mut(&key)
        {
            proof.ranges.push((key, DONE_CHUNKS));
            file.awaits_done = true;
        }
    }

    fn open_range(&mut self, key: FileKey, start: u64, round: Round, borrow: bool) {
        let Some(file) = self.files.get(&key) else { return };
        let Some(range) = file.ranges.iter().find(|range| range.start == start) else { return };
        let work = Work::Range(RangeWork {
            path: file.path.clone(),
            start: range.start,
            end: range.end,
            exact: range.exact,
            identity: file.identity,
            borrow,
        });
        self.open_task(work, round, Place::Range(key, start));
    }

    pub(super) fn accept_range(&mut self, place: &Place, result: RangeResult, proof: Option<ReportKey>) {
        let Place::Range(key, start) = place else {
            return self.fail("a scope of the tree was answered as a range".into());
        };
        let Some(file) = self.files.get_mut(key) else { return };
        let Some(range) = file.ranges.iter_mut().find(|range| range.start == *start) else { return };
        range.result = Some(result);
        range.proven = proof.is_none();
        if let Some(proof) = proof.and_then(|key| self.proofs.get_mut(&key)) {
            proof.ranges.push((*key, *start));
        }
        self.stitch_if_complete(*key);
    }

    pub(super) fn prove_range(&mut self, key: FileKey, start: u64) {
        if let Some(file) = self.files.get_mut(&key)
            && let Some(range) = file.ranges.iter_mut().find(|range| range.start == start)
        {
            range.proven = true;
        }
        if let (Some(file), DONE_CHUNKS) = (self.files.get_mut(&key), start) {
            file.awaits_done = false;
        }
        self.stitch_if_complete(key);
    }

    pub(super) fn reopen_range(&mut self, key: FileKey, start: u64, round: Round, borrow: bool) {
        let Some(file) = self.files.get_mut(&key) else { return };
        if start == DONE_CHUNKS {
            return self.read_whole(key);
        }
        if let Some(range) = file.ranges.iter_mut().find(|range| range.start == start) {
            (range.result, range.proven) = (None, false);
            self.open_range(key, start, round, borrow);
        }
    }

    fn stitch_if_complete(&mut self, key: FileKey) {
        let Some(file) = self.files.get(&key) else { return };
        if file.awaits_done || !file.ranges.iter().all(|range| range.proven && range.result.is_some()) {
            return;
        }
        let parts = file.ranges.iter().filter_map(|range| {
            let result = range.result.clone()?;
            Some(RangePart { start: range.start, end: range.end, exact: range.exact, result })
        });
        let (node, size) = (file.node.clone(), file.identity.size);
        let (done, ranges) = (file.done.clone(), parts.collect());
        if file.is_replaced() {
            return self.read_whole(key);
        }
        self.perform(Effect::StitchFile { file: key, node, size, done, ranges });
    }

    pub(super) fn place_stitched(&mut self, key: FileKey, outcome: Stitched) {
        self.answered();
        match outcome {
            Stitched::Node { node, matched, dropped } => {
                self.progress.seams_matched += matched;
                self.progress.seam_chunks_dropped += dropped;
                if let Some(file) = self.files.remove(&key) {
                    self.count_file(&file);
                    if file.is_changed() {
                        self.counts.changed_while_read += 1;
                        let message = "the file changed while it was read; the next run reads it again".to_owned();
                        let kind = ProblemKind::ChangedWhileRead;
                        self.note_problems(vec![Problem { kind, path: file.path, message }]);
                    }
                    self.place_done(file.dir, node);
                }
            }
            Stitched::Again { start, from } => self.redo_range(key, start, from),
            Stitched::Untiled => self.read_whole(key),
        }
    }

    fn count_file(&mut self, file: &File) {
        self.counts.entries += 1;
        self.counts.bytes_processed += file.identity.size;
        match file.is_in_parent {
            true => self.counts.files_changed += 1,
            false => self.counts.files_new += 1,
        }
    }

    /// Does the range that begins at `start` again, from the proven cut `from`.
    fn redo_range(&mut self, key: FileKey, start: u64, from: u64) {
        self.progress.seams_redone += 1;
        let Some(file) = self.files.get_mut(&key) else { return };
        let round = file.round;
        if let Some(range) = file.ranges.iter_mut().find(|range| range.start == start) {
            // Its chunks are stored; none of them need be in the file.
            let chunks = range.result.as_ref().map_or(0, |result| result.chunks.len() / CHUNK_RECORD_BYTES);
            self.progress.seam_chunks_dropped += chunks;
            *range = OpenRange { start: from, end: range.end, exact: true, result: None, proven: false };
            self.open_range(key, from, round, true);
        }
    }

    pub(super) fn read_whole(&mut self, key: FileKey) {
        let Some(file) = self.files.remove(&key) else { return };
        self.progress.files_read_whole += 1;
        let of_file = |task: &OpenTask| matches!(&task.place, Place::Range(file, _) if *file == key);
        let tasks: Vec<Id> = self.tasks.iter().filter(|(_, task)| of_file(task)).map(|(id, _)| *id).collect();
        for task in tasks {
            self.remove_task(task);
        }
        self.reopen_whole_file(file.dir, file.name, file.round + 1);
    }
}

/// Ranges of about `length` bytes from `from` to `size`; a rest that is shorter belongs to the range before it.
fn cut_ranges(from: u64, size: u64, length: u64) -> Vec<OpenRange> {
    let length = length.max(1);
    let count = (size.saturating_sub(from) / length).max(1);
    let bound = |index: u64| if index == count { size } else { from + index * length };
    (0..count)
        .map(|index| OpenRange {
            start: bound(index),
            end: bound(index + 1),
            exact: index == 0,
            result: None,
            proven: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile_the_file_and_none_is_short() {
        for (from, size, length) in [(0, 10, 3), (0, 1, 5), (4, 100, 7), (0, 0, 1), (5, 17, 6)] {
            let ranges = cut_ranges(from, size, length);
            assert!(ranges[0].exact && ranges[0].start == from);
            assert_eq!(ranges.last().map(|range| range.end), Some(size));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start && !pair[1].exact));
            assert!(ranges.len() == 1 || ranges.iter().all(|range| range.end - range.start >= length));
        }
    }
}
