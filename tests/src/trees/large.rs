//! The file that is split into byte ranges.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::broken;
use crate::bytes::Bytes;

const MIB: u64 = 1 << 20;
/// A seam's chains must share a cut within 64 MiB; this run of zeros reaches further behind one.
pub const ZERO_RUN: u64 = 104 * MIB;
/// So far before the seam the zeros start: before the look-back of 16 MiB, at an odd place, so that the two chains cut
/// the zeros every 512 KiB at different offsets and never meet in them.
const ZEROS_BEFORE_SEAM: u64 = 24 * MIB + 12_345;
/// Written at once; also the unit of the random bytes' seeds.
const PIECE: usize = 1 << 20;

/// Its measures.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of a range, for `LONGSHORE_RANGE_SIZE`. The zeros lie over the end of the second range.
    pub range: u64,
}

impl Large {
    /// 600 MiB in ranges of 128 MiB: four ranges, three seams.
    pub const GATE: Self = Self { size: 600 * MIB, range: 128 * MIB };
    /// 3 GiB in ranges of 512 MiB.
    pub const FULL: Self = Self { size: 3072 * MIB, range: 512 * MIB };

    /// Random bytes, incompressible, with zeros over the second seam.
    pub(super) fn write(self, path: &Path, seed: u64) {
        let file = File::create(path).unwrap_or_else(|error| broken(path, "create", error));
        let zeros_start = 2 * self.range - ZEROS_BEFORE_SEAM;
        let zeros = zeros_start..zeros_start + ZERO_RUN;
        let mut piece = vec![0; PIECE];
        for at in (0..self.size).step_by(PIECE) {
            Bytes::part(seed, 0x1a4e_0000 + at / MIB).fill(&mut piece);
            let within = |offset: u64| offset.saturating_sub(at).min(PIECE as u64) as usize;
            piece[within(zeros.start)..within(zeros.end)].fill(0);
            let length = (self.size - at).min(PIECE as u64) as usize;
            file.write_all_at(&piece[..length], at).unwrap_or_else(|error| broken(path, "write", error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn zeros_lie_over_the_second_seam_for_more_than_64_mib() {
        let scratch = Scratch::new("large");
        let path = scratch.join("large");
        Large { size: 400 * MIB, range: 128 * MIB }.write(&path, 1);
        let file = File::open(&path).expect("opened");
        let is_zero = |at: u64| {
            let mut bytes = [1; 16];
            file.read_exact_at(&mut bytes, at).expect("read");
            bytes == [0; 16]
        };
        let seam = 256 * MIB;
        assert!(!is_zero(seam - ZEROS_BEFORE_SEAM - 16));
        assert!(is_zero(seam - ZEROS_BEFORE_SEAM));
        assert!(is_zero(seam) && is_zero(seam + 65 * MIB));
        assert!(!is_zero(seam - ZEROS_BEFORE_SEAM + ZERO_RUN));
        assert!(!is_zero(128 * MIB));
    }
}
