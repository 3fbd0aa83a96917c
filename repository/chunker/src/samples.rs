//! Data and chunkers for the tests: small chunks, and the kinds of data on which chains meet late or never.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{Chunker, Polynomial, Sizes};

/// A real repository's polynomial.
pub(super) fn polynomial() -> Polynomial {
    "3da3358b4dc173".parse().unwrap()
}

/// Chunks of 128 to 1024 bytes, one end in 128 a candidate.
pub(super) fn small_chunker() -> Chunker {
    Chunker::with_sizes(polynomial(), Sizes { minimum: 128, maximum: 1024, mask: 0x7f })
}

/// The first `length` bytes of FORMAT's stream: SHA-256 of 0, 1, 2, .. as 8 bytes little endian.
pub(super) fn stream(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..length.div_ceil(32) as u64).flat_map(|block| Sha256::digest(block.to_le_bytes())).collect();
    bytes.truncate(length);
    bytes
}

/// The rule, word for word, one candidate test per end.
pub(super) fn plain_ends(chunker: &Chunker, data: &[u8]) -> Vec<u64> {
    let tables = super::rabin::Tables::new(chunker.polynomial());
    let (minimum, maximum) = (chunker.sizes.minimum as usize, chunker.sizes.maximum as usize);
    let (mut start, mut ends) = (0, Vec::new());
    while start < data.len() {
        let until = (start + maximum).min(data.len());
        let candidate = tables.first_candidate(chunker.sizes.mask, &data[..until], start + minimum);
        start = candidate.unwrap_or(until);
        ends.push(start as u64);
    }
    ends
}

/// Files of up to about `length` bytes made of random, zero, constant and periodic parts of odd lengths.
pub(super) fn data(length: usize) -> impl Strategy<Value = Vec<u8>> {
    let part = (0u8..4, 1..=length / 2, any::<u64>(), 1usize..3000);
    (prop::collection::vec(part, 1..6), 0..=length).prop_map(|(parts, length)| {
        let mut bytes = Vec::new();
        for (kind, part_length, seed, period) in parts {
            let noise = |count: usize| {
                let blocks = (0..count.div_ceil(32) as u64).map(|block| (seed, block));
                blocks.flat_map(|(seed, block)| Sha256::digest((seed ^ block << 40).to_le_bytes()))
            };
            match kind {
                0 => bytes.extend(noise(part_length).take(part_length)),
                1 => bytes.extend(std::iter::repeat_n(0, part_length)),
                2 => bytes.extend(std::iter::repeat_n(seed as u8, part_length)),
                _ => {
                    let pattern: Vec<u8> = noise(period).take(period).collect();
                    bytes.extend(pattern.iter().cycle().take(part_length));
                }
            }
        }
        bytes.truncate(length.max(1));
        bytes
    })
}
