//! restic's content defined chunker: where a file is cut into the blobs that are stored.
//!
//! A chunk `[s, e)` ends at the smallest `e` with `e - s >= 512 KiB` at which the last 64 bytes'
//! fingerprint has 20 zero bits, or with `e - s = 8 MiB`; what is left at the end of the file is its
//! last chunk. An end that satisfies the mask is a *candidate*: it depends on 64 bytes only, so
//! candidates can be looked for anywhere and in any order, and two chains of cuts that share one
//! cut are equal from there on. `range` builds on that to cut one file in several places at once.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod cutter;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod planes;
mod polynomial;
mod rabin;
mod range;
mod stitch;

use std::fmt;
use std::sync::Arc;

pub use cutter::Cutter;
pub use polynomial::{Polynomial, PolynomialError};
pub use range::{Chunk, FileRange, RangeCuts, RangeCutter, RangeEnd, RangeError, SeamLimits};
pub use stitch::{Piece, Stitch, StitchError, chunk_ends, stitch};

use lanes::Finder;
use rabin::Tables;

/// The bytes on which a candidate depends.
pub const WINDOW: usize = 64;

/// The least size of a chunk that is not the last of its file, in bytes.
pub const MIN_SIZE: usize = 512 * 1024;

/// The largest size of a chunk in bytes.
pub const MAX_SIZE: usize = 8 * 1024 * 1024;

/// The bits that are zero in a candidate's fingerprint: one in 2^20 ends is one, on random data.
const MASK: u64 = (1 << 20) - 1;

/// Least and largest chunk, and how rare candidates are.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// At least [`WINDOW`], so that a candidate's bytes all lie in its own chunk.
    minimum: u64,
    maximum: u64,
    mask: u64,
}

impl Sizes {
    /// What every restic repository uses.
    const RESTIC: Self = Self { minimum: MIN_SIZE as u64, maximum: MAX_SIZE as u64, mask: MASK };
}

/// Finds candidates for one repository's polynomial. Cheap to clone.
#[derive(Clone)]
pub struct Chunker {
    finder: Arc<Finder>,
    sizes: Sizes,
    polynomial: Polynomial,
}

impl Chunker {
    /// A chunker that cuts as restic does in a repository with this polynomial.
    pub fn new(polynomial: Polynomial) -> Self {
        Self::with_sizes(polynomial, Sizes::RESTIC)
    }

    fn with_sizes(polynomial: Polynomial, sizes: Sizes) -> Self {
        Self { finder: Arc::new(Finder::new(Tables::new(polynomial), sizes.mask)), sizes, polynomial }
    }

    /// The repository's polynomial.
    pub fn polynomial(&self) -> Polynomial {
        self.polynomial
    }

    /// Appends every candidate in `max(from, 64)..=data.len()` to `ends`, ascending: each `end` whose
    /// bytes `data[end - 64..end]` satisfy the mask. In a run of zeros that is every end.
    pub fn candidates(&self, data: &[u8], from: usize, ends: &mut Vec<usize>) {
        self.finder.candidates(data, from, ends);
    }

    /// The smallest candidate in `max(from, 64)..=data.len()`.
    pub fn first_candidate(&self, data: &[u8], from: usize) -> Option<usize> {
        self.finder.first_candidate(data, from)
    }

    /// Cuts one file from its first byte on.
    pub fn cutter(&self) -> Cutter {
        Cutter::new(self.clone())
    }
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunker").field("polynomial", &self.polynomial).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod vector_tests;
