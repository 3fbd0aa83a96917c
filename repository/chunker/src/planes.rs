//! Candidates found in as many streams at once as a vector register has bytes.
//!
//! The fingerprints of all streams are held as planes: one vector has the lowest byte of each, the
//! next one the second, and so on. Scaled by `x^3` a fingerprint has 56 bits, seven whole bytes, and
//! a step of the rolling hash needs no bit to cross from one byte to another:
//! - shifting by 8 is a renaming of the planes;
//! - what the byte that falls out at the top, or that leaves the window, adds to each of the seven
//!   is a linear map of that byte: an 8x8 matrix of bits;
//! - the entering byte, scaled, touches the two lowest planes.
//!
//! The mask's 20 bits are bits 3 to 22 of the scaled number: the lowest three planes.

use super::rabin::Tables;
use super::{Polynomial, WINDOW};

/// Bytes of a scaled fingerprint.
const PLANES: usize = 7;

/// By how many bits a fingerprint is scaled, so that its degree is a multiple of 8.
const SCALE: u32 = 8 * PLANES as u32 - Polynomial::DEGREE;

/// Bytes of each stream that are turned into rows in one go.
pub(super) const ROWS: usize = 16;

/// The planes in which a mask may have bits.
const MASKED_PLANES: usize = 3;

/// Groups of rows that a window has.
const WINDOW_GROUPS: usize = WINDOW / ROWS;

/// The most groups of [`ROWS`] ends that a stream looks at in one block; a warm-up takes four more. A
/// block is looked at to its end even if its last stream finds something at once. Odd, like
/// every number of groups used: at distances of large powers of two the streams would fight for
/// the same few lines of the first-level cache.
const GROUPS_MAX: usize = 129;

/// The least number of groups for which a block pays.
const GROUPS_MIN: usize = 15;

/// One byte of each stream, and what an instruction set does with it.
///
/// # Safety of implementations and calls
/// Every method needs the instruction set of its implementation. All are inlined into functions that
/// enable it, and those are reached only after it was detected.
pub(super) trait Plane: Copy {
    /// How many streams there are, at most 64.
    const LANES: usize;
    /// A linear map of bytes.
    type Map: Copy;
    /// A plane made ready for maps.
    type Operand: Copy;

    /// The map that takes the byte `1 << n` to `images[n]`.
    fn map(images: [u8; 8]) -> Self::Map;
    fn splat(byte: u8) -> Self;
    /// Byte `16 * n + b` is `data[offset + n * distance + b]`, for `n` below `LANES / 16`.
    fn load(data: &[u8], offset: usize, distance: usize) -> Self;
    fn operand(self) -> Self::Operand;
    fn apply(map: &Self::Map, operand: Self::Operand) -> Self;
    /// Each byte times `x^3`: what stays within it, and what crosses into the byte above.
    fn scaled(self) -> (Self, Self);
    fn xor(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    /// The low halves of each 16 bytes of both, byte by byte in turn.
    fn interleave_low(self, other: Self) -> Self;
    /// The same with the high halves.
    fn interleave_high(self, other: Self) -> Self;
    /// The streams whose byte is zero, stream `n` as bit `n`.
    fn zeros(self) -> u64;
}

/// What a byte adds to each plane.
type Maps<P> = [<P as Plane>::Map; PLANES];

/// The scaled fingerprints of all streams, lowest byte first.
type State<P> = [P; PLANES];

/// A polynomial's maps and a mask.
pub(super) struct Planes<P: Plane> {
    overflow: Maps<P>,
    leaving: Maps<P>,
    mask: [P; MASKED_PLANES],
}

impl<P: Plane> Planes<P> {
    /// Whether the planes that are looked at hold all bits of `mask`.
    pub(super) fn can_test(mask: u64) -> bool {
        mask << SCALE < 1 << (8 * MASKED_PLANES)
    }

    #[inline(always)]
    pub(super) fn new(tables: &Tables, mask: u64) -> Self {
        let maps = |table: &[u64; 256]| {
            std::array::from_fn(|plane| {
                P::map(std::array::from_fn(|bit| {
                    let image = table[1 << bit] & ((1 << Polynomial::DEGREE) - 1);
                    (image << SCALE).to_le_bytes()[plane]
                }))
            })
        };
        Self {
            overflow: maps(&tables.overflow),
            leaving: maps(&tables.leaving),
            mask: std::array::from_fn(|plane| P::splat((mask << SCALE).to_le_bytes()[plane])),
        }
    }

    /// Looks through as many whole blocks of the ends after `before` (64 or more) as there are.
    /// Returns the smallest candidate, or the last end that was looked at.
    #[inline(always)]
    pub(super) fn scan(&self, tables: &Tables, mask: u64, data: &[u8], before: usize) -> Result<usize, usize> {
        let mut before = before;
        loop {
            let groups = ((data.len() - before) / (P::LANES * ROWS)).min(GROUPS_MAX);
            if groups < GROUPS_MIN {
                return Err(before);
            }
            let groups = groups - (1 - groups % 2);
            let block = Block { data, before, stretch: groups * ROWS };
            if let Some(end) = self.scan_block(tables, mask, block) {
                return Ok(end);
            }
            before += P::LANES * groups * ROWS;
        }
    }

    /// The smallest candidate of a block.
    #[inline(always)]
    fn scan_block(&self, tables: &Tables, mask: u64, block: Block<'_>) -> Option<usize> {
        // A ring: the groups of the current window, and the one that enters.
        let mut ring = [[P::splat(0); ROWS]; WINDOW_GROUPS + 1];
        let mut state = [P::splat(0); PLANES];
        for (group, rows) in ring[..WINDOW_GROUPS].iter_mut().enumerate() {
            block.rows(group, rows);
            for &entering in rows.iter() {
                state = self.append(state, entering);
            }
        }
        let (mut slot, mut first, mut lanes) = (WINDOW_GROUPS, None, P::LANES);
        for group in 0..block.stretch / ROWS {
            block.rows(WINDOW_GROUPS + group, &mut ring[slot]);
            let entering = slot;
            slot = (slot + 1) % ring.len();
            let mut least = P::splat(0xff);
            for (&leaving, &entering) in ring[slot].iter().zip(&ring[entering]) {
                state = self.roll(state, leaving, entering);
                let mut masked = P::splat(0);
                for (plane, mask) in state.iter().zip(&self.mask) {
                    masked = masked.or(plane.and(*mask));
                }
                least = least.min(masked);
            }
            let lane = least.zeros().trailing_zeros() as usize;
            // A lower stream lies wholly before a higher one, so its hit counts, whenever it comes.
            if lane < lanes {
                let start = block.start(lane) + group * ROWS;
                first = tables.first_candidate(mask, &block.data[..start + ROWS], start + 1);
                lanes = lane;
                if lane == 0 {
                    break;
                }
            }
        }
        first
    }

    /// One byte more, and none less.
    #[inline(always)]
    fn append(&self, state: State<P>, entering: P) -> State<P> {
        let top = state[PLANES - 1].operand();
        let (low, high) = entering.scaled();
        let mut next = [low, high.xor(state[0]), state[1], state[2], state[3], state[4], state[5]];
        for (plane, map) in next.iter_mut().zip(&self.overflow) {
            *plane = plane.xor(P::apply(map, top));
        }
        next
    }

    /// One byte further on.
    #[inline(always)]
    fn roll(&self, state: State<P>, leaving: P, entering: P) -> State<P> {
        let mut next = self.append(state, entering);
        let leaving = leaving.operand();
        for (plane, map) in next.iter_mut().zip(&self.leaving) {
            *plane = plane.xor(P::apply(map, leaving));
        }
        next
    }
}

/// Ends that are looked at together: `LANES` stretches, one behind the other, one stream each.
#[derive(Clone, Copy)]
struct Block<'a> {
    data: &'a [u8],
    /// The end before the first one; at least a window.
    before: usize,
    /// Ends of each stream.
    stretch: usize,
}

impl Block<'_> {
    /// The end before the first one of a stream.
    #[inline(always)]
    fn start(&self, lane: usize) -> usize {
        self.before + lane * self.stretch
    }

    /// The bytes of all streams in one group of rows, counted from a window before their starts: row
    /// `n` has byte `n` of each.
    #[inline(always)]
    fn rows<P: Plane>(&self, group: usize, rows: &mut [P; ROWS]) {
        let offset = self.before - WINDOW + group * ROWS;
        for (column, row) in rows.iter_mut().enumerate() {
            *row = P::load(self.data, offset + column * self.stretch, ROWS * self.stretch);
        }
        // Four perfect shuffles transpose 16 times 16 bytes, in each part of 16 bytes for itself.
        for _ in 0..ROWS.ilog2() {
            let vectors = *rows;
            for pair in 0..ROWS / 2 {
                let (low, high) = (vectors[pair], vectors[pair + ROWS / 2]);
                rows[2 * pair] = low.interleave_low(high);
                rows[2 * pair + 1] = low.interleave_high(high);
            }
        }
    }
}
