//! Pseudo-random bytes that are the same for the same seed on every machine.

/// A generator (xorshift64*, seeded through splitmix64); not for keys.
#[derive(Clone, Debug)]
pub struct Bytes {
    state: u64,
}

impl Bytes {
    /// The generator of a seed; every seed, 0 too, gives another sequence.
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { state: (mixed ^ (mixed >> 31)) | 1 }
    }

    /// A generator for a part of what this seed makes, independent of its neighbours.
    pub fn part(seed: u64, part: u64) -> Self {
        Self::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ part)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Fills `buffer`.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut words = buffer.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        let rest = words.into_remainder();
        let word = self.next_u64().to_le_bytes();
        rest.copy_from_slice(&word[..rest.len()]);
    }

    /// `length` bytes.
    pub fn vec(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }

    /// `length` bytes that look like text: words of a small vocabulary, so that they compress.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: &[&str] =
            &["anchor", "berth", "cargo", "dock", "ebb", "fathom", "gangway", "hull", "jetty", "keel"];
        let mut text = Vec::with_capacity(length + 8);
        while text.len() < length {
            text.extend_from_slice(WORDS[self.below(WORDS.len() as u64) as usize].as_bytes());
            text.push(if self.below(9) == 0 { b'\n' } else { b' ' });
        }
        text.truncate(length);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        assert_eq!(Bytes::new(7).vec(100), Bytes::new(7).vec(100));
        assert_ne!(Bytes::new(7).vec(100), Bytes::new(8).vec(100));
        assert_ne!(Bytes::part(7, 0).vec(100), Bytes::part(7, 1).vec(100));
        assert_eq!(Bytes::new(0).vec(13)[..8], Bytes::new(0).vec(8)[..]);
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut bytes = Bytes::new(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[bytes.below(5) as usize] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
