//! File contents that are computed where they are read: any size costs no memory.

/// Content of a generated file: segments one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    kind: SegmentKind,
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SegmentKind {
    /// Does not compress, repeats nowhere.
    Seeded(u64),
    Zeros,
    /// Repeats its bytes (not empty).
    Periodic(Vec<u8>),
}

impl Content {
    /// Nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// `bytes` bytes of noise that follow from `seed`; the same seed gives the same beginning.
    pub fn seeded(seed: u64, bytes: u64) -> Self {
        Self::of(SegmentKind::Seeded(seed), bytes)
    }

    /// Zero bytes.
    pub fn zeros(bytes: u64) -> Self {
        Self::of(SegmentKind::Zeros, bytes)
    }

    /// `period` over and over; an empty one stands for zeros.
    pub fn periodic(period: &[u8], bytes: u64) -> Self {
        let kind = if period.is_empty() { SegmentKind::Zeros } else { SegmentKind::Periodic(period.to_vec()) };
        Self::of(kind, bytes)
    }

    /// Exactly these bytes.
    pub fn literal(bytes: &[u8]) -> Self {
        Self::periodic(bytes, bytes.len() as u64)
    }

    /// This and then `other`.
    pub fn then(mut self, other: Self) -> Self {
        self.segments.extend(other.segments);
        self
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Fills `buffer` from `offset` on; less than its length means the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut start = 0;
        let mut filled = 0;
        for segment in &self.segments {
            let position = offset + filled as u64;
            if filled < buffer.len() && position < start + segment.bytes {
                let inside = position - start;
                let length = usize::try_from(segment.bytes - inside).unwrap_or(usize::MAX).min(buffer.len() - filled);
                segment.kind.fill(inside, &mut buffer[filled..filled + length]);
                filled += length;
            }
            start += segment.bytes;
        }
        filled
    }

    fn of(kind: SegmentKind, bytes: u64) -> Self {
        let segments = if bytes == 0 { Vec::new() } else { vec![Segment { kind, bytes }] };
        Self { segments }
    }
}

impl SegmentKind {
    fn fill(&self, offset: u64, buffer: &mut [u8]) {
        match self {
            Self::Zeros => buffer.fill(0),
            Self::Periodic(period) => {
                let start = (offset % period.len() as u64) as usize;
                for (position, byte) in buffer.iter_mut().enumerate() {
                    *byte = period[(start + position) % period.len()];
                }
            }
            Self::Seeded(seed) => {
                let mut position = 0;
                while position < buffer.len() {
                    let at = offset + position as u64;
                    let word = mix(seed.wrapping_add((at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes();
                    let skip = (at % 8) as usize;
                    let length = (8 - skip).min(buffer.len() - position);
                    buffer[position..position + length].copy_from_slice(&word[skip..skip + length]);
                    position += length;
                }
            }
        }
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): a number to a random-looking one.
pub(super) fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_piece_equals_that_piece_of_the_whole(offset in 0_u64..120, length in 0_usize..120) {
            let content = Content::seeded(7, 33).then(Content::zeros(20)).then(Content::periodic(b"abc", 31)).then(Content::literal(b"end"));
            let mut whole = vec![1; 200];
            let bytes = content.read_at(0, &mut whole);
            whole.truncate(bytes);
            prop_assert_eq!(bytes as u64, content.bytes());
            let mut piece = vec![1; length];
            let read = content.read_at(offset, &mut piece);
            let start = (offset as usize).min(bytes);
            prop_assert_eq!(&piece[..read], &whole[start..(start + length).min(bytes)]);
        }
    }
}
