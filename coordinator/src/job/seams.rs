//! Putting the ranges of a large file together: exact by induction, never assumed (DESIGN 3.4).

use proto::id::Id;
use proto::report::{Fragment, RangeResult};

/// One range with its result.
#[derive(Clone, Debug)]
pub struct RangePart {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Its chain began at a proven cut.
    pub exact: bool,
    /// What its worker reported.
    pub result: RangeResult,
}

/// What came of a file's ranges.
#[derive(Clone, Debug)]
pub enum Stitched {
    /// The file is whole.
    Node {
        /// Its node.
        node: Fragment,
        /// Seams at which the chains of cuts met.
        matched: u64,
        /// Chunks that were stored before a shared cut and are not in the file.
        dropped: u64,
    },
    /// The range that begins at `start` must be done again, from the proven cut `from`.
    Again {
        /// Its start.
        start: u64,
        /// The proven cut.
        from: u64,
    },
    /// The chunks do not tile the file: all of it must be read again.
    Untiled,
}

/// A chunk of a range: where it ends, and its id.
pub type ChunkEnd = (u64, Id);

/// The chunks of a file, or what must be done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stitch {
    /// All chunks in order, the number of seams that matched, and of chunks that are not in the file.
    Whole(Vec<ChunkEnd>, u64, u64),
    /// See [`Stitched::Again`].
    Again {
        /// Start of the range.
        start: u64,
        /// The proven cut.
        from: u64,
    },
    /// See [`Stitched::Untiled`].
    Untiled,
}

/// Walks the ranges from left to right. Everything up to `cursor` is exact; a range whose chain has a cut there is
/// exact from there on, because a cut depends only on the bytes behind the cut before it.
///
/// `chunks` are those of each range, in the same order as `ranges`.
pub fn stitch(done: Vec<ChunkEnd>, done_to: u64, ranges: &[RangePart], chunks: &[Vec<ChunkEnd>]) -> Stitch {
    let (mut whole, mut cursor, mut matched, mut dropped) = (done, done_to, 0, 0);
    for (index, (range, chunks)) in ranges.iter().zip(chunks).enumerate() {
        let is_last = index + 1 == ranges.len();
        if cursor >= range.end && !is_last {
            dropped += chunks.len() as u64; // one chunk of the range before covers all of this one
            continue;
        }
        let begins = if cursor == range.result.first_cut {
            Some(0)
        } else {
            chunks.iter().position(|(end, _)| *end == cursor).map(|at| at + 1)
        };
        let Some(begins) = begins else {
            if range.exact && range.start == cursor {
                return Stitch::Untiled; // the file was cut off meanwhile
            }
            if cursor < range.start {
                return Stitch::Untiled;
            }
            return Stitch::Again { start: range.start, from: cursor };
        };
        matched += u64::from(index > 0 && !range.exact);
        dropped += begins as u64;
        whole.extend_from_slice(&chunks[begins..]);
        cursor = whole.last().map_or(cursor, |(end, _)| *end);
        if cursor != range.result.end && !chunks[begins..].is_empty() {
            return Stitch::Untiled;
        }
    }
    Stitch::Whole(whole, matched, dropped)
}

#[cfg(test)]
mod tests {
    use proto::report::Payload;
    use proto::task::FileIdentity;

    use super::*;

    fn range(start: u64, end: u64, exact: bool, first_cut: u64, ends: &[u64]) -> (RangePart, Vec<ChunkEnd>) {
        let identity = FileIdentity { inode: 1, size: 100, modified: (0, 0), changed: (0, 0) };
        let result = RangeResult {
            first_cut,
            chunks: Payload::default(),
            end: ends.last().copied().unwrap_or(first_cut),
            proven: true,
            identity_before: identity,
            identity_after: identity,
        };
        (RangePart { start, end, exact, result }, ends.iter().map(|end| (*end, Id::of(&end.to_le_bytes()))).collect())
    }

    fn run(done_to: u64, parts: Vec<(RangePart, Vec<ChunkEnd>)>) -> Stitch {
        let (ranges, chunks): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        stitch(Vec::new(), done_to, &ranges, &chunks)
    }

    fn ends(stitch: Stitch) -> (Vec<u64>, u64, u64) {
        match stitch {
            Stitch::Whole(chunks, matched, dropped) => (chunks.iter().map(|c| c.0).collect(), matched, dropped),
            other => panic!("not whole: {other:?}"),
        }
    }

    #[test]
    fn a_shared_cut_joins_two_ranges() {
        let joined = run(0, vec![range(0, 50, true, 0, &[20, 45, 60]), range(50, 100, false, 52, &[60, 80, 100])]);
        assert_eq!(ends(joined), (vec![20, 45, 60, 80, 100], 1, 1));
    }

    #[test]
    fn the_first_cut_of_the_next_range_is_a_shared_cut_too() {
        let joined = run(0, vec![range(0, 50, true, 0, &[20, 52]), range(50, 100, false, 52, &[80, 100])]);
        assert_eq!(ends(joined), (vec![20, 52, 80, 100], 1, 0));
    }

    #[test]
    fn without_a_shared_cut_the_next_range_is_done_again() {
        let again = run(0, vec![range(0, 50, true, 0, &[20, 61]), range(50, 100, false, 52, &[60, 80, 100])]);
        assert_eq!(again, Stitch::Again { start: 50, from: 61 });
    }

    #[test]
    fn a_chunk_may_cover_a_whole_range() {
        let joined = run(
            0,
            vec![
                range(0, 30, true, 0, &[20, 80]),
                range(30, 60, false, 31, &[50, 80]),
                range(60, 100, false, 61, &[80, 100]),
            ],
        );
        assert_eq!(ends(joined), (vec![20, 80, 100], 1, 3));
    }

    #[test]
    fn a_file_that_was_cut_off_does_not_tile() {
        let untiled = run(0, vec![range(0, 50, true, 0, &[20, 30]), range(50, 100, false, 30, &[])]);
        assert_eq!(ends(untiled).0, [20, 30], "the file ended at 30 for both");
        let untiled = run(0, vec![range(0, 50, true, 0, &[20, 30]), range(50, 100, false, 50, &[80, 100])]);
        assert_eq!(untiled, Stitch::Untiled);
    }
}
