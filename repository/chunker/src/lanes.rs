//! Candidates found in several stretches of the data at once.
//!
//! A fingerprint needs the one before it, so one stream leaves most of a core idle. It depends on
//! 64 bytes only, though: stretches of a block are independent once each is warmed up with the
//! window before it. Every finder here gives exactly the ends of the plain loop in `rabin`.

use super::WINDOW;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::rabin::Tables;

/// How many streams the portable finder interleaves.
const LANES: usize = 4;

/// Ends that one stream of the portable finder looks at in one block; a warm-up costs 64 more.
/// A block is looked at to its end even if its last stream finds something at once.
const STRETCH: usize = 8 * 1024;

/// Ends looked at one by one after a candidate, so that dense ones (zeros) do not cost a warm-up each.
const DENSE: usize = 4 * 1024;

/// Finds the ends whose 64 bytes satisfy the mask, as fast as this machine can.
pub(super) struct Finder {
    tables: Tables,
    mask: u64,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<Avx2>,
}

impl Finder {
    pub(super) fn new(tables: Tables, mask: u64) -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: Avx2::new(&tables, mask),
            tables,
            mask,
        }
    }

    /// The smallest candidate in `max(from, 64)..=data.len()`.
    pub(super) fn first_candidate(&self, data: &[u8], from: usize) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = &self.avx2 {
            return self.first_after(data, from, |before| avx2.scan(&self.tables, self.mask, data, before));
        }
        self.first_by_lanes(data, from)
    }

    /// Appends all candidates in `max(from, 64)..=data.len()`, ascending.
    pub(super) fn candidates(&self, data: &[u8], from: usize, ends: &mut Vec<usize>) {
        let mut from = from;
        while let Some(end) = self.first_candidate(data, from) {
            let until = (end + DENSE).min(data.len());
            self.tables.candidates(self.mask, &data[..until], end, ends);
            from = until + 1;
        }
    }

    /// The portable finder: [`LANES`] streams in turn.
    pub(super) fn first_by_lanes(&self, data: &[u8], from: usize) -> Option<usize> {
        self.first_after(data, from, |before| self.scan(data, before))
    }

    /// The smallest candidate by `scan`, which looks through whole blocks of the ends after the one
    /// given and returns the smallest candidate or, as error, the last end it looked at.
    fn first_after(&self, data: &[u8], from: usize, scan: impl Fn(usize) -> Result<usize, usize>) -> Option<usize> {
        let first = from.max(WINDOW);
        if self.tables.fingerprint(data.get(first - WINDOW..first)?) & self.mask == 0 {
            return Some(first);
        }
        scan(first).or_else(|before| self.tables.first_candidate(self.mask, data, before + 1).ok_or(())).ok()
    }

    /// Looks through whole blocks by [`LANES`] streams in turn.
    fn scan(&self, data: &[u8], before: usize) -> Result<usize, usize> {
        let mut before = before;
        while before + LANES * STRETCH <= data.len() {
            if let Some(end) = self.first_in_block(data, before) {
                return Ok(end);
            }
            before += LANES * STRETCH;
        }
        Err(before)
    }

    /// The smallest candidate of the `LANES * STRETCH` ends after `before`, which is 64 or more.
    fn first_in_block(&self, data: &[u8], before: usize) -> Option<usize> {
        let start = |lane: usize| before + lane * STRETCH;
        let leaving: [&[u8]; LANES] = std::array::from_fn(|lane| &data[start(lane) - WINDOW..][..STRETCH]);
        let entering: [&[u8]; LANES] = std::array::from_fn(|lane| &data[start(lane)..][..STRETCH]);
        let mut fingerprints = leaving.map(|bytes| self.tables.fingerprint(&bytes[..WINDOW]));
        let mut first = None;
        for step in 0..STRETCH {
            let mut hit = false;
            for lane in 0..LANES {
                fingerprints[lane] = self.tables.roll(fingerprints[lane], leaving[lane][step], entering[lane][step]);
                hit |= fingerprints[lane] & self.mask == 0;
            }
            if !hit {
                continue;
            }
            // A lower lane lies wholly before a higher one, so its hit counts, whenever it comes.
            if let Some(lane) = (0..LANES).find(|&lane| fingerprints[lane] & self.mask == 0) {
                let end = start(lane) + step + 1;
                first = Some(first.map_or(end, |first| end.min(first)));
                if lane == 0 {
                    break;
                }
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{data, polynomial};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn all_finders_give_the_candidates_of_the_plain_loop(
            data in data(300_000), from in 0usize..70_000, rarity in 0u32..21,
        ) {
            let mask = (1 << rarity) - 1;
            let finder = Finder::new(Tables::new(polynomial()), mask);
            let first = finder.tables.first_candidate(mask, &data, from);
            prop_assert_eq!(finder.first_by_lanes(&data, from), first);
            prop_assert_eq!(finder.first_candidate(&data, from), first);
            let (mut plain, mut fast) = (Vec::new(), Vec::new());
            finder.tables.candidates(mask, &data, from, &mut plain);
            finder.candidates(&data, from, &mut fast);
            prop_assert_eq!(fast, plain);
        }
    }
}
