//! The cuts that stock restic made of the same data (FORMAT section 9).

use sha2::{Digest, Sha256};

use super::samples::stream;
use super::*;

const STREAM_LENGTH: usize = 48 << 20;

const FIRST: (&str, &[usize]) = (
    "3da3358b4dc173",
    &[
        1015968, 2103100, 2796539, 5140597, 6043877, 7752968, 9544245, 11346698, 12537050, 13065341, 13934020,
        15039146, 16886549, 17955664, 18745199, 19436437, 21099347, 21669076, 25176214, 27243041, 27842786, 28459884,
        30499518, 31158516, 32487316, 35414812, 36482838, 38226070, 39206929, 40487719, 41758783, 44748139, 47245107,
        47770214, 49773112, 50331648,
    ],
);

const SECOND: (&str, &[usize]) = (
    "3f41e2408dfcd7",
    &[
        939985, 2748533, 5328053, 5927780, 7076519, 9560967, 13690490, 14589192, 15503830, 16212214, 21482761,
        23836450, 27319558, 29044601, 30302057, 31190992, 32313375, 36566834, 37432755, 38983735, 40255807, 41883131,
        42421813, 43590012, 44703103, 45913223, 46998272, 49077223, 49694063, 50331648,
    ],
);

/// Reads `data` as a worker does, `block` bytes at a time.
fn ends(polynomial: &str, data: &[u8], block: usize) -> Vec<usize> {
    let mut cutter = Chunker::new(polynomial.parse().unwrap()).cutter();
    let (mut start, mut filled, mut ends) = (0, 0, Vec::new());
    loop {
        filled = (filled + block).min(data.len());
        while let Some(length) = cutter.next_cut(&data[start..filled], filled == data.len()) {
            start += length;
            ends.push(start);
        }
        if filled == data.len() {
            return ends;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[test]
fn the_stream_is_cut_where_restic_cuts_it() {
    let data = stream(STREAM_LENGTH);
    assert_eq!(hex(&Sha256::digest(&data)), "a5af1422c7444ad8632868af9de94f1b4c8a92ed6064ef821586ee337c40b07a");
    for (polynomial, expected) in [FIRST, SECOND] {
        for block in [STREAM_LENGTH, 1 << 20, 77_777] {
            assert_eq!(ends(polynomial, &data, block), expected, "{polynomial}, blocks of {block}");
        }
    }
}

#[test]
fn the_chunks_of_the_stream_have_the_ids_that_restic_stores() {
    let data = stream(STREAM_LENGTH);
    let mut start = 0;
    let ids: Vec<_> =
        FIRST.1.iter().map(|&end| Sha256::digest(&data[std::mem::replace(&mut start, end)..end])).collect();
    assert_eq!(hex(&ids[0]), "f3d509f80ced030c820556a720ed8a395ba468bf124218fde1df63139d2df0ae");
    assert_eq!(hex(&ids[35]), "1d78fa3a91e45ee48608c529a02cea75d4eda37b4392751a851a9eb987b56852");
    let all = ids.concat();
    assert_eq!(hex(&Sha256::digest(all)), "fb23a087b7f72b15325871482eae7bb7afa66774fe88b43d7cac2db5172fb1a9");
}

#[test]
fn fingerprints_at_the_first_cuts_are_those_of_restic() {
    let data = stream(3 << 20);
    let tables = Tables::new(FIRST.0.parse().unwrap());
    let found: Vec<u64> = FIRST.1[..3].iter().map(|&end| tables.fingerprint(&data[end - WINDOW..end])).collect();
    assert_eq!(found, [0x10_51a0_5530_0000, 0x0e_8c1a_5530_0000, 0x0c_0ae2_2460_0000]);
}

#[test]
fn every_cut_of_the_stream_that_is_no_end_of_file_is_a_candidate() {
    let data = stream(STREAM_LENGTH);
    for (polynomial, expected) in [FIRST, SECOND] {
        let mut candidates = Vec::new();
        Chunker::new(polynomial.parse().unwrap()).candidates(&data, 0, &mut candidates);
        let cuts = &expected[..expected.len() - 1];
        assert!(cuts.iter().all(|cut| candidates.binary_search(cut).is_ok()));
    }
}

#[test]
fn special_inputs_are_cut_as_restic_cuts_them() {
    let stream = stream(MIN_SIZE + 1);
    let mebibytes_20 = [8 << 20, 16 << 20, 20 << 20];
    for polynomial in [FIRST.0, SECOND.0] {
        let ends = |data: &[u8]| ends(polynomial, data, 300_000);
        assert_eq!(ends(&vec![1; 20 << 20]), mebibytes_20);
        let periodic: Vec<u8> = stream[..1000].iter().copied().cycle().take(20 << 20).collect();
        assert_eq!(ends(&periodic), mebibytes_20);
        let zeros: Vec<usize> = (1..=6).map(|count| count * MIN_SIZE).chain([6 * MIN_SIZE + 100]).collect();
        assert_eq!(ends(&vec![0; 6 * MIN_SIZE + 100]), zeros);
        for length in [1, 63, 64, 524_287, 524_288, 524_289] {
            assert_eq!(ends(&stream[..length]), [length]);
        }
        assert_eq!(ends(&[]), [0usize; 0]);
    }
}

/// One range, read as a worker does, `block` bytes at a time.
fn range_cuts(chunker: &Chunker, data: &[u8], range: FileRange, block: usize) -> RangeCuts {
    let mut cutter = RangeCutter::new(chunker.clone(), range, SeamLimits::default()).unwrap();
    while cutter.bytes_wanted_max() > 0 {
        let from = cutter.read_from() as usize;
        cutter.feed(&data[from..data.len().min(from + block)], &mut Vec::new());
    }
    cutter.finish().unwrap()
}

#[test]
fn ranges_of_the_stream_are_cut_where_restic_cuts_the_whole() {
    let data = stream(STREAM_LENGTH);
    let size = STREAM_LENGTH as u64;
    for (polynomial, expected) in [FIRST, SECOND] {
        let chunker = Chunker::new(polynomial.parse().unwrap());
        for block in [3 << 20, 100_000] {
            let borders = [0, 20 << 20, 37_000_001, size];
            let range = |ends: &[u64]| FileRange { start: ends[0], end: ends[1], size, exact: false };
            let ranges: Vec<RangeCuts> =
                borders.windows(2).map(|ends| range_cuts(&chunker, &data, range(ends), block)).collect();
            assert_eq!(ranges.iter().map(|range| range.exact).collect::<Vec<_>>(), [true, false, false]);
            let Ok(Stitch::Complete(pieces)) = stitch(&ranges) else { panic!("a seam of random data has to match") };
            let ends: Vec<usize> = chunk_ends(&ranges, &pieces).iter().map(|&end| end as usize).collect();
            assert_eq!(ends, expected, "{polynomial}, blocks of {block}");
        }
    }
}

#[test]
fn a_range_stops_reading_soon_after_its_shared_cut() {
    let data = stream(STREAM_LENGTH);
    let range = FileRange { start: 0, end: 20 << 20, size: STREAM_LENGTH as u64, exact: true };
    let mut cutter = RangeCutter::new(Chunker::new(FIRST.0.parse().unwrap()), range, SeamLimits::default()).unwrap();
    cutter.feed(&data, &mut Vec::new());
    // The first cut of the file behind 20 MiB, well before the 64 MiB at which it would give up.
    assert_eq!(cutter.ended(), Some(RangeEnd::Proven { cut: 21_099_347 }));
    assert!(cutter.read_from() <= 21_099_347 + (1 << 20));
}
