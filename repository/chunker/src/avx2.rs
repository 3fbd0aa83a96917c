//! [`Plane`] with AVX2: 32 streams; a map is two look-ups of 16 entries, one for each half of a byte.

use std::arch::x86_64::*;

use super::planes::{Plane, Planes};
use super::rabin::Tables;

/// The finder of machines that have AVX2.
pub(super) struct Avx2(Planes<Bytes32>);

impl Avx2 {
    /// Nothing if this machine cannot run it, or its planes cannot test `mask`.
    pub(super) fn new(tables: &Tables, mask: u64) -> Option<Self> {
        let usable = is_x86_feature_detected!("avx2") && Planes::<Bytes32>::can_test(mask);
        // SAFETY: the machine has AVX2.
        usable.then(|| Self(unsafe { planes(tables, mask) }))
    }

    /// See [`Planes::scan`].
    pub(super) fn scan(&self, tables: &Tables, mask: u64, data: &[u8], before: usize) -> Result<usize, usize> {
        // SAFETY: the machine has AVX2, else there would be no `self`.
        unsafe { scan(&self.0, tables, mask, data, before) }
    }
}

#[target_feature(enable = "avx2")]
fn planes(tables: &Tables, mask: u64) -> Planes<Bytes32> {
    Planes::new(tables, mask)
}

#[target_feature(enable = "avx2")]
fn scan(planes: &Planes<Bytes32>, tables: &Tables, mask: u64, data: &[u8], before: usize) -> Result<usize, usize> {
    planes.scan(tables, mask, data, before)
}

#[derive(Clone, Copy)]
struct Bytes32(__m256i);

/// Runs intrinsics that need AVX2.
macro_rules! avx2 {
    ($($body:tt)*) => {
        // SAFETY: reached through `planes` and `scan` alone, which need AVX2 (see `Plane`); what is
        // loaded is behind a reference of that size.
        unsafe { $($body)* }
    };
}

impl Plane for Bytes32 {
    const LANES: usize = 32;
    /// The images of the low and of the high half of a byte, in both halves of the register.
    type Map = [__m256i; 2];
    type Operand = [__m256i; 2];

    #[inline(always)]
    fn map(images: [u8; 8]) -> Self::Map {
        [0, 4].map(|shift| {
            let images: [u8; 16] = std::array::from_fn(|half| {
                (0..4).filter(|bit| half >> bit & 1 == 1).fold(0, |sum, bit| sum ^ images[shift + bit])
            });
            avx2!(_mm256_broadcastsi128_si256(_mm_loadu_si128(images.as_ptr().cast())))
        })
    }

    #[inline(always)]
    fn splat(byte: u8) -> Self {
        Self(avx2!(_mm256_set1_epi8(byte as i8)))
    }

    #[inline(always)]
    fn load(data: &[u8], offset: usize, distance: usize) -> Self {
        let (low, high) = (&data[offset..][..16], &data[offset + distance..][..16]);
        Self(avx2!(_mm256_loadu2_m128i(high.as_ptr().cast(), low.as_ptr().cast())))
    }

    #[inline(always)]
    fn operand(self) -> Self::Operand {
        let low = Self::splat(0x0f);
        [self.and(low).0, Self(avx2!(_mm256_srli_epi16::<4>(self.0))).and(low).0]
    }

    #[inline(always)]
    fn apply(map: &Self::Map, operand: Self::Operand) -> Self {
        avx2!(Self(_mm256_xor_si256(_mm256_shuffle_epi8(map[0], operand[0]), _mm256_shuffle_epi8(map[1], operand[1]))))
    }

    #[inline(always)]
    fn scaled(self) -> (Self, Self) {
        let (up, down) = avx2!((_mm256_slli_epi16::<3>(self.0), _mm256_srli_epi16::<5>(self.0)));
        (Self(up).and(Self::splat(0xf8)), Self(down).and(Self::splat(0x07)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(avx2!(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(avx2!(_mm256_and_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self(avx2!(_mm256_or_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(avx2!(_mm256_min_epu8(self.0, other.0)))
    }

    #[inline(always)]
    fn interleave_low(self, other: Self) -> Self {
        Self(avx2!(_mm256_unpacklo_epi8(self.0, other.0)))
    }

    #[inline(always)]
    fn interleave_high(self, other: Self) -> Self {
        Self(avx2!(_mm256_unpackhi_epi8(self.0, other.0)))
    }

    #[inline(always)]
    fn zeros(self) -> u64 {
        let lanes = avx2!(_mm256_movemask_epi8(_mm256_cmpeq_epi8(self.0, _mm256_setzero_si256())));
        u64::from(lanes as u32)
    }
}
