//! Tests of `stitch`.

use proptest::prelude::*;

use super::super::range::tests::run;
use super::super::range::{FileRange, RangeEnd, SeamLimits};
use super::super::samples::{data, plain_ends, small_chunker, stream};
use super::*;

/// Cuts each of the ranges between `borders` alone, then again what `stitch` asks for, until the
/// file is whole. Returns the ends of its chunks and which ranges were done again, from where.
fn cut_in_ranges(data: &[u8], borders: &[u64], limits: SeamLimits, block: usize) -> (Vec<u64>, Vec<(usize, u64)>) {
    let size = data.len() as u64;
    let range = |start, end, exact| run(FileRange { start, end, size, exact }, limits, data, block);
    let starts = std::iter::once(0).chain(borders.iter().copied());
    let ends = borders.iter().copied().chain([size]);
    let mut results: Vec<RangeCuts> = starts.zip(ends).map(|(start, end)| range(start, end, false)).collect();
    let mut redone = Vec::new();
    loop {
        match stitch(&results).unwrap() {
            Stitch::Complete(pieces) => {
                assert!(pieces.windows(2).all(|pair| pair[0].range < pair[1].range));
                return (chunk_ends(&results, &pieces), redone);
            }
            Stitch::Incomplete { .. } => panic!("the last range ends with the file"),
            Stitch::Redo { range: index, from } => {
                assert!(redone.iter().all(|&(earlier, _)| earlier < index), "range {index} was done again twice");
                results[index] = range(from, results[index].range.end, true);
                redone.push((index, from));
            }
        }
    }
}

fn borders(size: u64, fractions: &[f64]) -> Vec<u64> {
    let mut borders: Vec<u64> = fractions.iter().map(|fraction| (size as f64 * fraction) as u64).collect();
    borders.sort_unstable();
    borders.dedup();
    borders.retain(|&border| border > 0 && border < size);
    borders
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn ranges_and_their_seams_give_the_cuts_of_the_whole_file(
        data in data(40_000),
        fractions in prop::collection::vec(0.0..1.0, 0..12),
        look_back in 0u64..4000,
        give_up_after in 0u64..4000,
        block in 1usize..20_000,
    ) {
        let borders = borders(data.len() as u64, &fractions);
        let (ends, _) = cut_in_ranges(&data, &borders, SeamLimits { look_back, give_up_after }, block);
        prop_assert_eq!(ends, plain_ends(&small_chunker(), &data));
    }

    #[test]
    fn ranges_smaller_than_a_chunk_give_the_cuts_of_the_whole_file(
        data in data(6000), step in 1u64..700, look_back in 0u64..300,
    ) {
        let borders: Vec<u64> = (1..).map(|n| n * step).take_while(|&border| border < data.len() as u64).collect();
        let limits = SeamLimits { look_back, give_up_after: 0 };
        let (ends, _) = cut_in_ranges(&data, &borders, limits, 777);
        prop_assert_eq!(ends, plain_ends(&small_chunker(), &data));
    }

    #[test]
    fn zeros_shifted_by_a_head_give_the_cuts_of_the_whole_file(
        head in 0usize..300, zeros in 1usize..40_000, fractions in prop::collection::vec(0.0..1.0, 1..6),
    ) {
        let mut data = stream(head);
        data.resize(head + zeros, 0);
        let borders = borders(data.len() as u64, &fractions);
        let limits = SeamLimits { look_back: 500, give_up_after: 2000 };
        let (ends, _) = cut_in_ranges(&data, &borders, limits, 4096);
        prop_assert_eq!(ends, plain_ends(&small_chunker(), &data));
    }
}

const LIMITS: SeamLimits = SeamLimits { look_back: 4000, give_up_after: 8000 };

#[test]
fn on_random_data_every_seam_matches() {
    let data = stream(200_000);
    let (ends, redone) = cut_in_ranges(&data, &[50_000, 100_000, 150_000], LIMITS, 3000);
    assert_eq!(ends, plain_ends(&small_chunker(), &data));
    assert_eq!(redone, []);
}

#[test]
fn shifted_zeros_have_their_seam_done_again_from_the_last_proven_cut() {
    // Random bytes up to 30,050, then zeros over the whole of both look-back and look-ahead at 60,000,
    // then random bytes again.
    let mut data = stream(200_000);
    data[30_050..80_000].fill(0);
    let whole = plain_ends(&small_chunker(), &data);
    let (ends, redone) = cut_in_ranges(&data, &[60_000, 120_000], LIMITS, 3000);
    assert_eq!(ends, whole);
    // 8000 bytes behind the border it was given up; zeros are cut every 128 bytes.
    let from = *whole.iter().rfind(|&&end| end <= 68_000).unwrap();
    assert!(from > 68_000 - 128);
    assert_eq!(redone, [(1, from)]);
}

#[test]
fn a_redone_range_that_misses_again_has_its_successor_done_again_too() {
    let mut data = stream(200_000);
    data[10_050..190_000].fill(0);
    let (ends, redone) = cut_in_ranges(&data, &[60_000, 120_000], LIMITS, 3000);
    assert_eq!(ends, plain_ends(&small_chunker(), &data));
    assert_eq!(redone.iter().map(|(range, _)| *range).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn ranges_that_the_look_ahead_covers_are_skipped() {
    let data = vec![1; 30_000];
    let limits = SeamLimits { look_back: 0, give_up_after: 9000 };
    let (ends, redone) = cut_in_ranges(&data, &[5000, 7000, 9000, 20_000], limits, 3000);
    assert_eq!(ends, plain_ends(&small_chunker(), &data));
    // Range 0 gives up at 14,000; ranges 1 and 2 end before that.
    assert_eq!(redone, [(3, 13 * 1024), (4, 28 * 1024)]);
}

fn result(start: u64, end: u64, cuts: &[u64]) -> RangeCuts {
    let range = FileRange { start, end, size: 100, exact: start == 0 };
    RangeCuts { range, cuts: cuts.to_vec(), ended: RangeEnd::Proven { cut: *cuts.last().unwrap() }, exact: start == 0 }
}

#[test]
fn pieces_name_the_chunks_of_each_range_and_leave_out_false_ones() {
    // The second range's chunk 50..60 is not the file's; the third has no chunk that is.
    let ranges = [result(0, 50, &[0, 20, 40, 60]), result(50, 80, &[50, 60, 75, 90, 100]), result(80, 100, &[95, 100])];
    let expected = vec![Piece { range: 0, chunks: 0..3 }, Piece { range: 1, chunks: 1..4 }];
    assert_eq!(stitch(&ranges), Ok(Stitch::Complete(expected.clone())));
    assert_eq!(chunk_ends(&ranges, &expected), [20, 40, 60, 75, 90, 100]);
}

#[test]
fn what_is_there_of_the_ranges_is_proven_as_far_as_it_goes() {
    assert_eq!(stitch(&[]), Ok(Stitch::Incomplete { proven_to: 0 }));
    assert_eq!(stitch(&[result(0, 50, &[0, 20, 40, 60])]), Ok(Stitch::Incomplete { proven_to: 60 }));
    let missed = [result(0, 50, &[0, 20, 40, 60]), result(50, 80, &[50, 61, 80])];
    assert_eq!(stitch(&missed), Ok(Stitch::Redo { range: 1, from: 60 }));
}

#[test]
fn results_of_no_standing_file_are_refused() {
    let first = || result(0, 50, &[0, 20, 40, 60]);
    assert_eq!(stitch(&[result(50, 80, &[50, 90])]), Err(StitchError::NoStart { start: 50 }));
    for cuts in [&[60, 55, 90][..], &[60, 79], &[40, 90], &[60, 101], &[60, 60, 90]] {
        assert_eq!(stitch(&[first(), result(50, 80, cuts)]), Err(StitchError::Inconsistent { range: 1 }), "{cuts:?}");
    }
    let mut unlike = result(50, 80, &[60, 75, 90]);
    unlike.ended = RangeEnd::Proven { cut: 75 };
    assert_eq!(stitch(&[first(), unlike.clone()]), Err(StitchError::Inconsistent { range: 1 }));
    unlike.cuts.clear();
    assert_eq!(stitch(&[first(), unlike]), Err(StitchError::Inconsistent { range: 1 }));
    assert_eq!(stitch(&[first(), result(49, 80, &[60, 90])]), Err(StitchError::Order { range: 1 }));
    let mut grown = result(50, 80, &[60, 90]);
    grown.range.size = 101;
    assert_eq!(stitch(&[first(), grown]), Err(StitchError::Order { range: 1 }));
}
