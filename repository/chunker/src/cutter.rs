//! Following one chain of cuts through the bytes of a file.

use super::Chunker;

/// A chain of cuts in absolute offsets of a file, given its bytes window by window.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    chunk_start: u64,
    /// Ends up to this one need not be looked at again for the current chunk.
    examined: u64,
}

impl Chain {
    /// A chain whose first chunk starts at `chunk_start`.
    pub(super) fn at(chunk_start: u64) -> Self {
        Self { chunk_start, examined: chunk_start }
    }

    /// The next cut that the bytes of `window` show, which start at `offset` in the file. The file
    /// ends with the window if `end_of_file`.
    ///
    /// Windows come in order; one overlaps what came before by 63 bytes or more, or starts at or
    /// before the current chunk. Call it again with the same window until it returns nothing.
    pub(super) fn next_cut(&mut self, chunker: &Chunker, window: &[u8], offset: u64, end_of_file: bool) -> Option<u64> {
        let window_end = offset + window.len() as u64;
        let longest = self.chunk_start + chunker.sizes.maximum;
        let first = (self.examined + 1).max(self.chunk_start + chunker.sizes.minimum);
        let last = window_end.min(longest);
        if first <= last {
            // Both differences are at most the window's length.
            let (from, until) = (first.saturating_sub(offset) as usize, (last - offset) as usize);
            if let Some(end) = chunker.first_candidate(&window[..until], from) {
                return Some(self.cut(offset + end as u64));
            }
            self.examined = last;
        }
        if longest <= window_end {
            return Some(self.cut(longest));
        }
        if end_of_file && self.chunk_start < window_end {
            return Some(self.cut(window_end));
        }
        None
    }

    fn cut(&mut self, end: u64) -> u64 {
        *self = Self::at(end);
        end
    }
}

/// Cuts one whole file. Looks at no byte twice however small the pieces are in which a file is
/// read, and at none below the least chunk size.
#[derive(Clone, Debug)]
pub struct Cutter {
    chunker: Chunker,
    /// Counts from the current chunk's start.
    chain: Chain,
}

impl Cutter {
    pub(super) fn new(chunker: Chunker) -> Self {
        Self { chunker, chain: Chain::at(0) }
    }

    /// The length of the current chunk, as soon as `pending` shows it.
    ///
    /// `pending` is what is there of the file from the current chunk's first byte on, and is never
    /// shorter than in the call before, unless that returned a length: then the next chunk starts
    /// behind it. `end_of_file` says that the file ends with `pending`. `None` means: more bytes are
    /// needed, or, at the end of the file, that `pending` is empty and there is no further chunk.
    pub fn next_cut(&mut self, pending: &[u8], end_of_file: bool) -> Option<usize> {
        let cut = self.chain.next_cut(&self.chunker, pending, 0, end_of_file)?;
        self.chain = Chain::at(0);
        Some(cut as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{data, plain_ends, small_chunker};
    use super::Chain;

    #[test]
    fn a_cut_is_known_with_its_last_byte() {
        let constant = [1; 1024];
        let mut cutter = small_chunker().cutter();
        assert_eq!(cutter.next_cut(&constant[..1023], false), None);
        assert_eq!(cutter.next_cut(&constant, false), Some(1024));
        let zeros = [0; 128];
        assert_eq!(cutter.next_cut(&zeros[..127], false), None);
        assert_eq!(cutter.next_cut(&zeros, false), Some(128));
        assert_eq!(cutter.next_cut(&[], true), None);
    }

    #[test]
    fn no_end_is_looked_at_twice() {
        let constant = [1; 1000];
        let mut chain = Chain::at(5000);
        for length in [500, 700, 1000] {
            assert_eq!(chain.next_cut(&small_chunker(), &constant[..length], 5000, false), None);
            assert_eq!(chain.examined, 5000 + length as u64);
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_cuts_of_the_rule(
            data in data(20_000),
            pieces in prop::collection::vec(0usize..3000, 1..20),
            late_end in any::<bool>(),
        ) {
            let mut cutter = small_chunker().cutter();
            let (mut start, mut filled, mut ends) = (0, 0, Vec::new());
            for piece in pieces.iter().cycle() {
                filled = (filled + piece + 1).min(data.len());
                // A reader may learn of the end with the last bytes, or only by reading nothing after them.
                let end_of_file = filled == data.len() && !late_end;
                while let Some(length) = cutter.next_cut(&data[start..filled], end_of_file) {
                    start += length;
                    ends.push(start as u64);
                }
                if filled == data.len() {
                    break;
                }
            }
            while let Some(length) = cutter.next_cut(&data[start..], true) {
                start += length;
                ends.push(start as u64);
            }
            prop_assert_eq!(ends, plain_ends(&small_chunker(), &data));
        }
    }
}
