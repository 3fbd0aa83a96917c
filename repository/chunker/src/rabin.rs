//! The Rabin fingerprint of the last 64 bytes, rolled byte by byte: the reference for all faster finders.
//!
//! For a window `b0 .. b63` the fingerprint is `(b0 x^504 + b1 x^496 + .. + b63) mod P`, where a byte
//! is the polynomial whose coefficients are its bits.

use super::WINDOW;
use super::polynomial::Polynomial;

/// How many bits of a fingerprint (of 53) lie below its top byte.
const TOP_BYTE_SHIFT: u32 = Polynomial::DEGREE - 8;

/// What one byte adds to a fingerprint when it leaves it, at the window's end or at the number's top.
pub(super) struct Tables {
    /// `b x^512 mod P`: the byte that has just left the window, after the step's shift.
    pub(super) leaving: [u64; 256],
    /// `t x^53 mod P` for the top byte `t`, with `t` itself at bit 53 so that one XOR also clears it.
    pub(super) overflow: [u64; 256],
}

impl Tables {
    pub(super) fn new(polynomial: Polynomial) -> Self {
        // x^512 mod P by nine squarings would do; eight bits at a time is as plain as the definition.
        let far = (0..WINDOW).fold(1, |power, _| polynomial.remainder(u128::from(power) << 8));
        Self {
            leaving: std::array::from_fn(|byte| polynomial.remainder(product(far, byte as u8))),
            overflow: std::array::from_fn(|byte| {
                polynomial.remainder((byte as u128) << Polynomial::DEGREE) | (byte as u64) << Polynomial::DEGREE
            }),
        }
    }

    /// The fingerprint one byte further on.
    #[inline(always)]
    pub(super) fn roll(&self, fingerprint: u64, leaving: u8, entering: u8) -> u64 {
        self.append(fingerprint, entering) ^ self.leaving[usize::from(leaving)]
    }

    /// The fingerprint with one byte more and none less.
    #[inline(always)]
    fn append(&self, fingerprint: u64, entering: u8) -> u64 {
        // Below 256, as a fingerprint has 53 bits; the cast lets the compiler see it.
        let top = (fingerprint >> TOP_BYTE_SHIFT) as u8;
        (fingerprint << 8 | u64::from(entering)) ^ self.overflow[usize::from(top)]
    }

    /// The fingerprint of at most a window's bytes.
    pub(super) fn fingerprint(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |fingerprint, &byte| self.append(fingerprint, byte))
    }

    /// The smallest `end` in `max(from, 64)..=data.len()` for which the fingerprint of
    /// `data[end - 64..end]` has no bit of `mask`.
    pub(super) fn first_candidate(&self, mask: u64, data: &[u8], from: usize) -> Option<usize> {
        let from = from.max(WINDOW);
        let mut fingerprint = self.fingerprint(data.get(from - WINDOW..from)?);
        if fingerprint & mask == 0 {
            return Some(from);
        }
        let steps = data[from - WINDOW..].iter().zip(&data[from..]);
        for (step, (&leaving, &entering)) in steps.enumerate() {
            fingerprint = self.roll(fingerprint, leaving, entering);
            if fingerprint & mask == 0 {
                return Some(from + 1 + step);
            }
        }
        None
    }

    /// Like [`Tables::first_candidate`], but appends every such end to `ends`.
    pub(super) fn candidates(&self, mask: u64, data: &[u8], from: usize, ends: &mut Vec<usize>) {
        let from = from.max(WINDOW);
        let Some(first) = data.get(from - WINDOW..from) else { return };
        let mut fingerprint = self.fingerprint(first);
        if fingerprint & mask == 0 {
            ends.push(from);
        }
        let steps = data[from - WINDOW..].iter().zip(&data[from..]);
        for (step, (&leaving, &entering)) in steps.enumerate() {
            fingerprint = self.roll(fingerprint, leaving, entering);
            if fingerprint & mask == 0 {
                ends.push(from + 1 + step);
            }
        }
    }
}

/// The product of two polynomials, the second of degree below 8.
fn product(a: u64, b: u8) -> u128 {
    (0..8).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ u128::from(a) << bit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn polynomial() -> Polynomial {
        "3da3358b4dc173".parse().unwrap()
    }

    /// The definition, term by term: each byte times its power of `x`.
    fn by_definition(window: &[u8]) -> u64 {
        let polynomial = polynomial();
        window.iter().fold(0, |sum, &byte| polynomial.remainder(u128::from(sum) << 8) ^ u64::from(byte))
    }

    proptest! {
        #[test]
        fn rolling_gives_the_fingerprint_of_the_last_window(data in prop::collection::vec(any::<u8>(), 65..300)) {
            let tables = Tables::new(polynomial());
            let mut fingerprint = tables.fingerprint(&data[..WINDOW]);
            for end in WINDOW + 1..=data.len() {
                fingerprint = tables.roll(fingerprint, data[end - WINDOW - 1], data[end - 1]);
                prop_assert_eq!(fingerprint, by_definition(&data[end - WINDOW..end]));
            }
        }

        #[test]
        fn candidates_are_the_ends_that_meet_the_mask(
            data in prop::collection::vec(any::<u8>(), 0..2000), from in 0usize..2100,
        ) {
            let tables = Tables::new(polynomial());
            let mask = 0x1f;
            let expected: Vec<usize> = (from.max(WINDOW)..=data.len())
                .filter(|&end| by_definition(&data[end - WINDOW..end]) & mask == 0)
                .collect();
            let mut ends = Vec::new();
            tables.candidates(mask, &data, from, &mut ends);
            prop_assert_eq!(&ends, &expected);
            prop_assert_eq!(tables.first_candidate(mask, &data, from), expected.first().copied());
        }
    }
}
