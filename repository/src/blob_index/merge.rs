//! Several runs into one, without what does not count.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use proto::id::Id;

use super::layout::{
    BlobRow, FileRow, Header, PACKS_MAX, PackRow, blob_id, pack_number, pack_row, read_pack, renumbered, write_run,
};
use super::run::LiveRun;

/// Which runs to merge: those that are mostly dead, and, if there are more than `runs_max`, the
/// smallest ones, as long as the next is at most twice as large as those before it together. So a
/// blob is written again only when the run that it is in has grown by half.
pub(super) fn choose(runs: &[LiveRun], runs_max: usize) -> Vec<usize> {
    let sizes: Vec<usize> = runs.iter().map(LiveRun::blob_count).collect();
    let mut chosen: Vec<usize> = (0..runs.len()).filter(|number| runs[*number].is_mostly_dead()).collect();
    if runs.len() > runs_max {
        let small = smallest(&sizes);
        chosen.extend(small.into_iter().filter(|number| !runs[*number].is_mostly_dead()));
    }
    chosen
}

fn smallest(sizes: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|number| sizes[*number]);
    let mut sum = 0;
    let grows_with = |(position, number): &(usize, usize)| {
        let fits = *position < 2 || sizes[*number] <= 2 * sum;
        sum += sizes[*number];
        fits
    };
    order.into_iter().enumerate().take_while(grows_with).map(|(_, number)| number).collect()
}

/// Writes what counts in `sources` as one run; gives its checksum. `None` if one run cannot hold it.
///
/// # Errors
/// Those of `output`.
pub(super) fn merge(output: impl Write, sources: &[&LiveRun], repository: &Id) -> io::Result<Option<Id>> {
    let mut files: Vec<FileRow> = Vec::new();
    let mut packs: Vec<PackRow> = Vec::new();
    let mut blobs = 0;
    let mut numbers = Vec::with_capacity(sources.len());
    for source in sources {
        numbers.push(gather(source, &mut files, &mut packs));
        blobs += source.blob_count();
    }
    let (true, Ok(blobs)) = (packs.len() <= PACKS_MAX, u32::try_from(blobs)) else { return Ok(None) };
    let header = Header { repository: *repository, files: files.len() as u32, packs: packs.len() as u32, blobs };
    let rows = Merged::new(sources, &numbers);
    write_run(output, &header, files, packs, rows).map(Some)
}

/// A number for packs that do not count.
const DEAD: u32 = u32::MAX;

/// Appends the files and packs of a run that count; gives the packs' new numbers by their old ones.
fn gather(source: &LiveRun, files: &mut Vec<FileRow>, packs: &mut Vec<PackRow>) -> Vec<u32> {
    let mut file_numbers = Vec::with_capacity(source.run().files().len());
    for (number, row) in source.run().files().iter().enumerate() {
        file_numbers.push(files.len() as u32);
        if source.is_live_file(number) {
            files.push(*row);
        }
    }
    let renumber = |row: &PackRow| {
        let (id, length, file) = read_pack(row);
        if !source.is_live_file(file as usize) {
            return DEAD;
        }
        packs.push(pack_row(&id, length, file_numbers[file as usize]));
        packs.len() as u32 - 1
    };
    source.run().packs().iter().map(renumber).collect()
}

/// The blobs of several runs that count, by id.
struct Merged<'a> {
    sources: Vec<(&'a [BlobRow], &'a [u32])>,
    /// The next blob of each source that has one: id, number of the source.
    next: BinaryHeap<Reverse<(&'a [u8], usize)>>,
}

impl<'a> Merged<'a> {
    fn new(sources: &[&'a LiveRun], numbers: &'a [Vec<u32>]) -> Self {
        let rows = sources.iter().zip(numbers).map(|(source, numbers)| (source.run().blobs(), &numbers[..]));
        let mut merged = Self { sources: rows.collect(), next: BinaryHeap::new() };
        (0..sources.len()).for_each(|source| merged.advance(source));
        merged
    }

    /// Passes over blobs that do not count.
    fn advance(&mut self, source: usize) {
        let (rows, numbers) = &mut self.sources[source];
        let rest: &'a [BlobRow] = rows;
        let dead = rest.iter().take_while(|row| numbers[pack_number(row) as usize] == DEAD).count();
        *rows = &rest[dead..];
        if let Some(row) = rest.get(dead) {
            self.next.push(Reverse((blob_id(row), source)));
        }
    }
}

impl Iterator for Merged<'_> {
    type Item = BlobRow;

    fn next(&mut self) -> Option<BlobRow> {
        let Reverse((_, source)) = self.next.pop()?;
        let (rows, numbers) = &mut self.sources[source];
        let (row, rest) = rows.split_first()?;
        let row = renumbered(row, numbers[pack_number(row) as usize]);
        *rows = rest;
        self.advance(source);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_runs_are_merged_and_large_ones_left() {
        assert_eq!(smallest(&[1_000_000, 40, 50, 10]), [3, 1, 2]);
        assert_eq!(smallest(&[5, 1_000]), [0, 1], "two at least, or their number would not shrink");
        assert_eq!(smallest(&[8, 8, 8, 8, 100]), [0, 1, 2, 3]);
        assert_eq!(smallest(&[0, 0, 1]), [0, 1]);
    }
}
