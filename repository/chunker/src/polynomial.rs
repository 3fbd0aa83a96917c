//! The polynomial that a repository's chunker works with: irreducible, degree 53, coefficients in GF(2).

use std::fmt;
use std::str::FromStr;

use proto::handles::{Random, RandomExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// restic gives up after as many random numbers; about one in 27 is irreducible.
const TRIES_MAX: u32 = 1_000_000;

/// An irreducible polynomial of degree 53 over GF(2): bit `i` is the coefficient of `x^i`.
///
/// Its text, in the repository's config too, is the number in lower hex without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Polynomial(u64);

/// Why a number or text is no polynomial that restic's chunker could use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolynomialError {
    /// Not 1 to 16 hexadecimal digits.
    #[error("chunker polynomial {0:?} is not a hexadecimal number of at most 64 bits")]
    Malformed(String),
    /// Another degree than 53.
    #[error("chunker polynomial {0:x} does not have degree 53")]
    Degree(u64),
    /// A product of polynomials of lower degree: its fingerprints would not depend on all bytes alike.
    #[error("chunker polynomial {0:x} is reducible")]
    Reducible(u64),
    /// A million random numbers held no irreducible polynomial: the source of randomness is broken.
    #[error("no irreducible polynomial among {TRIES_MAX} random numbers")]
    NotFound,
}

impl Polynomial {
    /// The highest power of `x`.
    pub const DEGREE: u32 = 53;

    /// The polynomial whose coefficients are the bits of `bits`.
    pub fn from_bits(bits: u64) -> Result<Self, PolynomialError> {
        if bits == 0 || degree(bits) != Self::DEGREE {
            return Err(PolynomialError::Degree(bits));
        }
        if !is_irreducible(bits) {
            return Err(PolynomialError::Reducible(bits));
        }
        Ok(Self(bits))
    }

    /// The coefficients; bits 53 and 0 are set.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// A new repository's polynomial: random coefficients, drawn again until they are irreducible.
    pub fn random(random: &dyn Random) -> Result<Self, PolynomialError> {
        let top = 1 << Self::DEGREE;
        for _ in 0..TRIES_MAX {
            let bits = u64::from_le_bytes(random.bytes()) & (top - 1) | top | 1;
            if is_irreducible(bits) {
                return Ok(Self(bits));
            }
        }
        Err(PolynomialError::NotFound)
    }

    /// `value` modulo this polynomial.
    pub(super) fn remainder(self, value: u128) -> u64 {
        let mut value = value;
        while value >> Self::DEGREE != 0 {
            let excess = 127 - value.leading_zeros() - Self::DEGREE;
            value ^= u128::from(self.0) << excess;
        }
        value as u64
    }
}

/// Ben-Or's test: of no degree up to half of its own does `bits` have an irreducible factor, as it
/// has none in common with `x^(2^i) - x`, the product of all those whose degree divides `i`.
fn is_irreducible(bits: u64) -> bool {
    let x = 0b10;
    let mut power = x;
    (1..=degree(bits) / 2).all(|_| {
        power = square_modulo(power, bits);
        greatest_common_divisor(bits, power ^ x) == 1
    })
}

/// The degree of a polynomial that is not zero.
fn degree(bits: u64) -> u32 {
    63 - bits.leading_zeros()
}

/// `value^2 mod modulus`; `value` is of lower degree than `modulus`.
fn square_modulo(value: u64, modulus: u64) -> u64 {
    let top = 1 << degree(modulus);
    let mut sum = 0;
    for bit in (0..64).rev() {
        sum <<= 1;
        if sum & top != 0 {
            sum ^= modulus;
        }
        if value >> bit & 1 == 1 {
            sum ^= value;
        }
    }
    sum
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        while a != 0 && degree(a) >= degree(b) {
            a ^= b << (degree(a) - degree(b));
        }
        (a, b) = (b, a);
    }
    a
}

impl FromStr for Polynomial {
    type Err = PolynomialError;

    /// Reads what restic reads: hexadecimal digits of either case, leading zeros allowed.
    fn from_str(text: &str) -> Result<Self, PolynomialError> {
        let malformed = || PolynomialError::Malformed(text.to_owned());
        if text.starts_with('+') {
            return Err(malformed()); // Rust's parser would take it
        }
        Self::from_bits(u64::from_str_radix(text, 16).map_err(|_| malformed())?)
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Polynomial({:x})", self.0)
    }
}

impl Serialize for Polynomial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Polynomial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    /// SplitMix64, for repeatable bytes.
    struct Seeded(Mutex<u64>);

    impl Random for Seeded {
        fn fill(&self, buffer: &mut [u8]) {
            let mut state = self.0.lock().unwrap();
            for byte in buffer {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                *byte = (mixed >> 56) as u8;
            }
        }
    }

    struct Zeros;

    impl Random for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    #[test]
    fn small_polynomials_are_judged_as_by_trial_division() {
        for bits in 2..2048u64 {
            let divided = (2..bits).any(|divisor| {
                let mut rest = bits;
                while rest != 0 && degree(rest) >= degree(divisor) {
                    rest ^= divisor << (degree(rest) - degree(divisor));
                }
                rest == 0
            });
            assert_eq!(is_irreducible(bits), !divided, "{bits:x}");
        }
    }

    #[test]
    fn polynomials_of_real_repositories_are_accepted_and_written_as_they_were() {
        for text in ["3da3358b4dc173", "3f41e2408dfcd7"] {
            let polynomial: Polynomial = text.parse().unwrap();
            assert_eq!(polynomial.to_string(), text);
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::to_string(&polynomial).unwrap(), json);
            assert_eq!(serde_json::from_str::<Polynomial>(&json).unwrap(), polynomial);
        }
        assert_eq!("003DA3358B4DC173".parse(), "3da3358b4dc173".parse::<Polynomial>());
    }

    #[test]
    fn each_defect_has_its_error() {
        let defect = |text: &str| text.parse::<Polynomial>().unwrap_err();
        for text in ["", "+3da3358b4dc173", "-1", "0x3da3358b4dc173", "3da3358b4dc17g", "10000000000000000"] {
            assert_eq!(defect(text), PolynomialError::Malformed(text.to_owned()));
        }
        for bits in [0, 1, 0x11b, 0x7d_a335_8b4d_c173] {
            assert_eq!(defect(&format!("{bits:x}")), PolynomialError::Degree(bits));
        }
        // Without its constant term a polynomial is divisible by x; with an even number of terms by x + 1.
        for bits in [0x3d_a335_8b4d_c172, 0x3d_a335_8b4d_c173 ^ 0b10] {
            assert_eq!(defect(&format!("{bits:x}")), PolynomialError::Reducible(bits));
        }
        assert!(
            serde_json::from_str::<Polynomial>("\"3da3358b4dc172\"").unwrap_err().to_string().contains("reducible")
        );
    }

    #[test]
    fn random_polynomials_are_usable_and_differ() {
        let random = Seeded(Mutex::new(7));
        let first = Polynomial::random(&random).unwrap();
        let second = Polynomial::random(&random).unwrap();
        assert_ne!(first, second);
        for polynomial in [first, second] {
            assert_eq!(Polynomial::from_bits(polynomial.bits()), Ok(polynomial));
        }
    }

    #[test]
    fn broken_randomness_is_an_error_and_no_endless_loop() {
        assert_eq!(Polynomial::random(&Zeros), Err(PolynomialError::NotFound));
    }

    proptest! {
        #[test]
        fn products_are_reducible(a in 2u64..1 << 27, b in 2u64..1 << 27) {
            let product = (0..27).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ (a << bit));
            prop_assert!(!is_irreducible(product));
        }

        #[test]
        fn remainders_are_small_and_congruent(value: u128) {
            let polynomial: Polynomial = "3da3358b4dc173".parse().unwrap();
            let rest = polynomial.remainder(value);
            prop_assert!(rest >> 53 == 0);
            // What was taken away is a multiple: it leaves nothing.
            prop_assert_eq!(polynomial.remainder(value ^ u128::from(rest)), 0);
        }
    }
}
