//! From the cuts of ranges to the cuts of the file.

use std::ops::Range;

use super::range::RangeCuts;

/// Chunks of one range that are the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index into the given ranges.
    pub range: usize,
    /// Which of the range's chunks, counted in the order in which its cutter gave them out: chunk `n`
    /// lies between `cuts[n]` and `cuts[n + 1]`.
    pub chunks: Range<usize>,
}

/// What the results of ranges, taken together, prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stitch {
    /// The chunks of the whole file, in order.
    Complete(Vec<Piece>),
    /// Everything fits so far. The ranges given do not reach the file's end.
    Incomplete {
        /// The cut up to which the file's chunks are known.
        proven_to: u64,
    },
    /// A range's chain has not met the file's. Its bytes from `from` to its old end have to be cut
    /// again, as an exact range, whose result takes its place.
    Redo {
        /// Index into the given ranges.
        range: usize,
        /// The last proven cut, at or behind the range's start and before its end.
        from: u64,
    },
}

/// Results that cannot come from the ranges of one file that stood still.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StitchError {
    /// The first range does not begin with the file.
    #[error("the first range starts at {start}, not at the start of the file")]
    NoStart {
        /// The first cut of the first range.
        start: u64,
    },
    /// A range's cuts do not ascend, lie outside the file, or do not reach over its end.
    #[error("the cuts of range {range} contradict its bounds or each other")]
    Inconsistent {
        /// Index into the given ranges.
        range: usize,
    },
    /// The ranges are of files of different sizes, or not in order.
    #[error("range {range} does not follow the one before it in the same file")]
    Order {
        /// Index into the given ranges.
        range: usize,
    },
}

/// Joins the results of the first ranges of a file (of all of them, in the end), given in the order
/// in which they lie in the file.
///
/// The first range is exact. When all cuts up to `c` are the file's and `c` is among the cuts of a
/// later range, then all cuts of that range behind `c` are the file's too: a cut depends only on what
/// lies between it and the one before.
pub fn stitch(ranges: &[RangeCuts]) -> Result<Stitch, StitchError> {
    validate(ranges)?;
    let mut pieces = Vec::new();
    let mut proven_to = 0;
    for (range, result) in ranges.iter().enumerate() {
        match result.cuts.binary_search(&proven_to) {
            Ok(first) => {
                let last = result.cuts.len() - 1;
                if first < last {
                    pieces.push(Piece { range, chunks: first..last });
                }
                proven_to = result.ended.cut();
            }
            // The range before knows all about this one: a chunk spans it, or it was given up behind it.
            Err(_) if proven_to >= result.range.end => {}
            Err(_) => return Ok(Stitch::Redo { range, from: proven_to }),
        }
        if proven_to == result.range.size {
            return Ok(Stitch::Complete(pieces));
        }
    }
    Ok(Stitch::Incomplete { proven_to })
}

/// The ends of the chunks that `pieces` name, ascending.
pub fn chunk_ends(ranges: &[RangeCuts], pieces: &[Piece]) -> Vec<u64> {
    let ends = pieces.iter().filter_map(|piece| {
        let cuts = &ranges.get(piece.range)?.cuts;
        cuts.get(piece.chunks.start + 1..=piece.chunks.end)
    });
    ends.flatten().copied().collect()
}

fn validate(ranges: &[RangeCuts]) -> Result<(), StitchError> {
    if let Some(first) = ranges.first()
        && first.first_cut() != 0
    {
        return Err(StitchError::NoStart { start: first.first_cut() });
    }
    for (range, result) in ranges.iter().enumerate() {
        let bounds = result.range;
        let ascending = result.cuts.is_sorted_by(|a, b| a < b);
        let last = result.ended.cut();
        let inside = result.first_cut() >= bounds.start && last >= bounds.end && last <= bounds.size;
        if !ascending || !inside || result.cuts.last() != Some(&last) {
            return Err(StitchError::Inconsistent { range });
        }
    }
    for (index, pair) in ranges.windows(2).enumerate() {
        let (before, after) = (pair[0].range, pair[1].range);
        if before.size != after.size || after.start < before.end {
            return Err(StitchError::Order { range: index + 1 });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "stitch_tests.rs"]
mod tests;
