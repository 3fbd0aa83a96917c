//! Randomness for tests: fixed bytes, and a repeatable stream.

use std::sync::atomic::{AtomicU64, Ordering};

use proto::handles::Random;
use proto::id::Id;

/// Repeats the same 16 bytes.
pub(crate) struct FixedRandom(pub(crate) [u8; 16]);

impl Random for FixedRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for (to, from) in buffer.iter_mut().zip(self.0.iter().cycle()) {
            *to = *from;
        }
    }
}

/// A stream that follows from a seed.
pub(crate) struct SeededRandom {
    seed: u64,
    blocks: AtomicU64,
}

impl SeededRandom {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, blocks: AtomicU64::new(0) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(32) {
            let block = self.blocks.fetch_add(1, Ordering::Relaxed);
            let digest = Id::of_parts([&self.seed.to_le_bytes()[..], &block.to_le_bytes()[..]]);
            piece.copy_from_slice(&digest.as_bytes()[..piece.len()]);
        }
    }
}
