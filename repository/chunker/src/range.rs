//! Cutting a byte range of a large file without knowing the cuts before it.
//!
//! A range follows its own chain of cuts from its *anchor*: the first candidate in the look-back
//! before its start or, without one, its first byte. Past its end it follows its own chain and that
//! of the next range's anchor, found by the same rule, until both share a cut at or behind its end:
//! from there on the next range's cuts are its own. Whether the own chain is the file's is not known
//! here but proven by [`stitch`](super::stitch()), range after range.
//!
//! - A file's start is a cut: a look-back that reaches it makes the range exact.
//! - A file's end is a cut of every chain.
//! - Chunks that start before the range are the left neighbour's: neither given out nor needed.
//! - A chunk may span more than the range; then the range has no chunk of its own, one cut is both
//!   the first at or behind its start and the shared one, and a look-back may begin before the
//!   neighbour's range.

use super::cutter::Chain;
use super::{Chunker, WINDOW};

/// Bytes looked at in one go, at most: what is looked at in vain behind the last cut that counts.
const STRIDE: usize = 1 << 20;

/// How far a range looks beyond its borders, in bytes.
///
/// They decide where anchors are, so all ranges of one file need the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeamLimits {
    /// The distance before a start in which its anchor may lie.
    pub look_back: u64,
    /// The distance behind a range's end at which it stops looking for a shared cut. Less than the
    /// largest chunk counts as that, so that there always is an own cut at or behind the end.
    pub give_up_after: u64,
}

impl Default for SeamLimits {
    /// On random data two chains meet after 0.8 MiB in the median, 12.3 MiB at most in 20,000 seams.
    fn default() -> Self {
        Self { look_back: 16 << 20, give_up_after: 64 << 20 }
    }
}

/// The bytes `[start, end)` of a file of `size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// First byte.
    pub start: u64,
    /// First byte behind the range; more than `start`.
    pub end: u64,
    /// The file's length, at least `end`.
    pub size: u64,
    /// `start` is known to be a cut of the file: the file's start, or the last proven cut of a range
    /// whose successor has to be done again.
    pub exact: bool,
}

/// A range that cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// No bytes, or bytes that the file does not have.
    #[error("{start}..{end} is no range of a file of {size} bytes")]
    Bounds {
        /// As given.
        start: u64,
        /// As given.
        end: u64,
        /// As given.
        size: u64,
    },
}

/// The bytes `[start, end)` of a file that are one blob, unless the range's chain proves false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of the first byte in the file.
    pub start: u64,
    /// Offset behind the last byte.
    pub end: u64,
}

/// What was found at the end of a range. Both cuts are at or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// From this cut on the next range's chain is this range's, or the file ends here.
    Proven {
        /// The first such cut at or behind the range's end.
        cut: u64,
    },
    /// The two chains shared no cut before it was given up.
    Unproven {
        /// The last cut of the own chain before that: where the next range has to start again.
        last_cut: u64,
    },
}

impl RangeEnd {
    /// The cut up to which the range's own chain is known.
    pub fn cut(self) -> u64 {
        match self {
            Self::Proven { cut } | Self::Unproven { last_cut: cut } => cut,
        }
    }
}

/// What a range reports when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeCuts {
    /// The range.
    pub range: FileRange,
    /// The cuts from the first at or behind the start to that of `ended`, ascending, at least one;
    /// between each two lies a chunk that was given out.
    pub cuts: Vec<u64>,
    /// How it ended.
    pub ended: RangeEnd,
    /// The cuts are the file's whatever the range before says: the chain began at a known cut.
    pub exact: bool,
}

impl RangeCuts {
    /// The own chain's first cut at or behind the range's start: where its first chunk starts.
    pub fn first_cut(&self) -> u64 {
        self.cuts.first().copied().unwrap_or(self.range.start)
    }
}

/// A chain that is looking for its anchor or, with that found, for cuts.
#[derive(Clone, Debug)]
enum Follower {
    /// Looks at the ends behind `examined` and up to `last`, which is the anchor if none is a candidate.
    Seeking {
        examined: u64,
        last: u64,
    },
    Following(Chain),
}

impl Follower {
    /// The chain of a range that starts at `start`, and whether it begins at a known cut.
    fn from_anchor(start: u64, look_back: u64) -> (Self, bool) {
        let reach = look_back.saturating_add(WINDOW as u64);
        if start <= reach {
            return (Self::from_cut(0), true);
        }
        // The first candidate's window begins with the look-back's first byte.
        (Self::Seeking { examined: start - look_back - 1, last: start }, false)
    }

    fn from_cut(cut: u64) -> Self {
        Self::Seeking { examined: cut, last: cut }
    }

    /// The first offset that is needed.
    fn read_from(&self) -> u64 {
        match self {
            Self::Seeking { examined, last } if examined < last => (examined + 1).saturating_sub(WINDOW as u64),
            Self::Seeking { last, .. } => *last,
            Self::Following(_) => 0,
        }
    }

    /// Appends all cuts that `window` shows to `cuts`, the anchor included.
    fn advance(&mut self, chunker: &Chunker, window: &[u8], offset: u64, end_of_file: bool, cuts: &mut Vec<u64>) {
        let window_end = offset + window.len() as u64;
        if let Self::Seeking { examined, last } = self {
            let until = window_end.min(*last);
            let mut anchor = None;
            if *examined < until && offset < until {
                let from = (*examined + 1).saturating_sub(offset) as usize;
                anchor =
                    chunker.first_candidate(&window[..(until - offset) as usize], from).map(|end| offset + end as u64);
                *examined = until;
            }
            let Some(anchor) = anchor.or((window_end >= *last).then_some(*last)) else { return };
            cuts.push(anchor);
            *self = Self::Following(Chain::at(anchor));
        }
        if let Self::Following(chain) = self {
            while let Some(cut) = chain.next_cut(chunker, window, offset, end_of_file) {
                cuts.push(cut);
            }
        }
    }
}

/// Cuts one range of a file, fed its bytes in order from [`RangeCutter::read_from`] on.
///
/// Keeps no data but the last 64 bytes. Its caller needs to keep the bytes from
/// [`RangeCutter::keep_from`] on: at most one chunk and what was fed last.
#[derive(Clone, Debug)]
pub struct RangeCutter {
    chunker: Chunker,
    range: FileRange,
    exact: bool,
    /// Where bytes are of no more use: the file's end or so far behind the range that it is given up.
    limit: u64,
    own: Follower,
    /// The next range's chain, until it is known to have met the own one. Of no use at the file's end.
    next: Option<Follower>,
    position: u64,
    /// The up to 64 bytes before `position`.
    tail: Vec<u8>,
    cuts: Vec<u64>,
    ended: Option<RangeEnd>,
}

impl RangeCutter {
    /// A cutter for `range`.
    pub fn new(chunker: Chunker, range: FileRange, limits: SeamLimits) -> Result<Self, RangeError> {
        let FileRange { start, end, size, exact } = range;
        if start >= end || end > size {
            return Err(RangeError::Bounds { start, end, size });
        }
        let (own, exact) =
            if exact { (Follower::from_cut(start), true) } else { Follower::from_anchor(start, limits.look_back) };
        let next = (end < size).then(|| Follower::from_anchor(end, limits.look_back).0);
        let position = next.iter().map(Follower::read_from).fold(own.read_from(), u64::min);
        let give_up_after = limits.give_up_after.max(chunker.sizes.maximum);
        let limit = size.min(end.saturating_add(give_up_after));
        let (tail, cuts) = (Vec::with_capacity(WINDOW), Vec::new());
        Ok(Self { chunker, range, exact, limit, own, next, position, tail, cuts, ended: None })
    }

    /// The offset of the next byte to be fed; of the first one, before any was.
    pub fn read_from(&self) -> u64 {
        self.position
    }

    /// How many more bytes may be needed, at most; zero as soon as the range is done.
    pub fn bytes_wanted_max(&self) -> u64 {
        if self.ended.is_some() { 0 } else { self.limit - self.position }
    }

    /// The first offset whose byte may be in a chunk that is still to be given out.
    pub fn keep_from(&self) -> u64 {
        match self.cuts.last() {
            Some(&cut) if self.ended.is_none() => cut,
            _ => self.position.max(self.range.start),
        }
    }

    /// Takes the bytes at [`RangeCutter::read_from`], as many as there are at hand, and appends to
    /// `chunks` those which they complete. Bytes that are not needed any more are ignored.
    pub fn feed(&mut self, block: &[u8], chunks: &mut Vec<Chunk>) {
        let block = &block[..block.len().min(usize::try_from(self.bytes_wanted_max()).unwrap_or(usize::MAX))];
        let offset = self.position;
        if !self.tail.is_empty() && !block.is_empty() {
            // The ends whose windows lie on both sides of the border between two blocks.
            let tail_length = self.tail.len();
            let mut seam = std::mem::take(&mut self.tail);
            seam.extend_from_slice(&block[..block.len().min(WINDOW)]);
            self.examine(&seam, offset - tail_length as u64, chunks);
            seam.truncate(tail_length);
            self.tail = seam;
        }
        while self.ended.is_none() && self.position < offset + block.len() as u64 {
            let done = (self.position - offset) as usize;
            self.examine(&block[..block.len().min(done + STRIDE)], offset, chunks);
        }
        if block.len() >= WINDOW {
            self.tail.clear();
        }
        self.tail.extend_from_slice(&block[block.len().saturating_sub(WINDOW)..]);
        let excess = self.tail.len().saturating_sub(WINDOW);
        self.tail.drain(..excess);
    }

    /// How the range ended; nothing while more bytes are needed, or when the file proved shorter.
    pub fn ended(&self) -> Option<RangeEnd> {
        self.ended
    }

    /// The report, if the range is done.
    pub fn finish(self) -> Option<RangeCuts> {
        Some(RangeCuts { range: self.range, cuts: self.cuts, ended: self.ended?, exact: self.exact })
    }

    /// Follows the chains to the end of `window`: then all of their cuts up to there are known.
    fn examine(&mut self, window: &[u8], offset: u64, chunks: &mut Vec<Chunk>) {
        self.position = offset + window.len() as u64;
        let end_of_file = self.position == self.range.size;
        let (mut own, mut next) = (Vec::new(), Vec::new());
        self.own.advance(&self.chunker, window, offset, end_of_file, &mut own);
        let mut shared = None;
        if let Some(follower) = &mut self.next {
            follower.advance(&self.chunker, window, offset, end_of_file, &mut next);
            shared = own.iter().copied().find(|cut| next.binary_search(cut).is_ok());
        }
        // Chains that have met stay together, so the own one tells all. At the file's end there is no
        // other one, and no cut behind the range's end but that of the file.
        let met_from = if self.next.is_none() { Some(0) } else { shared };
        if met_from.is_some() {
            self.next = None;
        }
        for cut in own {
            self.accept(cut, met_from.is_some_and(|met_from| met_from <= cut), chunks);
            if self.ended.is_some() {
                return;
            }
        }
        if self.position == self.limit {
            self.ended = self.cuts.last().map(|&last_cut| RangeEnd::Unproven { last_cut });
        }
    }

    /// Takes the own chain's next cut; `met` if the next range's chain has it too.
    fn accept(&mut self, cut: u64, met: bool, chunks: &mut Vec<Chunk>) {
        if cut < self.range.start {
            return;
        }
        if let Some(&start) = self.cuts.last() {
            chunks.push(Chunk { start, end: cut });
        }
        self.cuts.push(cut);
        if cut == self.range.size || (met && cut >= self.range.end) {
            self.ended = Some(RangeEnd::Proven { cut });
        }
    }
}

#[cfg(test)]
#[path = "range_tests.rs"]
pub(super) mod tests;
