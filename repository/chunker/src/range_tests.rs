//! Tests of `range`.

use proptest::prelude::*;

use super::super::samples::{data, plain_ends, small_chunker, stream};
use super::*;

/// Feeds a cutter from `data`, `block` bytes at a time, as a worker does.
pub(crate) fn run(range: FileRange, limits: SeamLimits, data: &[u8], block: usize) -> RangeCuts {
    let mut cutter = RangeCutter::new(small_chunker(), range, limits).unwrap();
    let (mut chunks, mut position) = (Vec::new(), cutter.read_from() as usize);
    while cutter.bytes_wanted_max() > 0 {
        let kept_from = cutter.keep_from();
        let given = chunks.len();
        let until = (position + block).min(data.len());
        cutter.feed(&data[position..until], &mut chunks);
        position = until;
        assert!(chunks[given..].iter().all(|chunk| chunk.start >= kept_from), "a chunk starts before what was kept");
        assert!(cutter.keep_from() >= range.start);
    }
    let result = cutter.finish().unwrap();
    let given: Vec<u64> = chunks.iter().map(|chunk| chunk.end).collect();
    assert_eq!(given, result.cuts[1..], "chunks do not lie between the cuts");
    assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert!(chunks.first().is_none_or(|chunk| chunk.start == result.first_cut()));
    result
}

const LIMITS: SeamLimits = SeamLimits { look_back: 2000, give_up_after: 8000 };

fn range(start: u64, end: u64, size: u64) -> FileRange {
    FileRange { start, end, size, exact: false }
}

/// The rule for a range's chain, by the plain loop over the whole data: its cuts from the anchor on.
fn chain_by_rule(data: &[u8], start: u64, limits: SeamLimits) -> Vec<u64> {
    let chunker = small_chunker();
    let anchor = if start <= limits.look_back + WINDOW as u64 {
        0
    } else {
        let from = (start - limits.look_back) as usize;
        chunker.first_candidate(&data[..start as usize], from).map_or(start, |end| end as u64)
    };
    let ends = plain_ends(&chunker, &data[anchor as usize..]);
    std::iter::once(anchor).chain(ends.into_iter().map(|end| anchor + end)).collect()
}

/// What a range must report, from the chains of its own anchor and its successor's.
fn report_by_rule(data: &[u8], range: FileRange, limits: SeamLimits) -> (Vec<u64>, RangeEnd) {
    let own = if range.exact {
        let ends = plain_ends(&small_chunker(), &data[range.start as usize..]);
        std::iter::once(range.start).chain(ends.into_iter().map(|end| range.start + end)).collect()
    } else {
        chain_by_rule(data, range.start, limits)
    };
    let next = if range.end < range.size { chain_by_rule(data, range.end, limits) } else { vec![range.size] };
    let limit = (range.end + limits.give_up_after.max(1024)).min(range.size);
    let shared = own.iter().copied().find(|&cut| cut >= range.end && cut <= limit && next.contains(&cut));
    let ended = match shared {
        Some(cut) => RangeEnd::Proven { cut },
        None => RangeEnd::Unproven { last_cut: *own.iter().rfind(|&&cut| cut <= limit).unwrap() },
    };
    (own.into_iter().filter(|&cut| cut >= range.start && cut <= ended.cut()).collect(), ended)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_range_reports_what_the_rule_says_however_it_is_fed(
        data in data(30_000),
        (start, end) in (0.0..1.0, 0.0..1.0),
        look_back in 0u64..5000,
        give_up_after in 0u64..6000,
        block in prop_oneof![1usize..130, 1usize..40_000],
        exact in any::<bool>(),
    ) {
        let size = data.len() as u64;
        let start = (size as f64 * start) as u64;
        let end = start + 1 + ((size - start - 1) as f64 * end) as u64;
        let range = FileRange { start, end, size, exact };
        let limits = SeamLimits { look_back, give_up_after };
        let result = run(range, limits, &data, block);
        let (cuts, ended) = report_by_rule(&data, range, limits);
        prop_assert_eq!((&result.cuts, result.ended), (&cuts, ended));
        prop_assert_eq!(result.exact, exact || start <= look_back + 64);
    }
}

#[test]
fn ranges_without_bytes_or_beyond_the_file_are_refused() {
    for (start, end, size) in [(0, 0, 0), (5, 5, 10), (6, 5, 10), (5, 11, 10)] {
        let refused = RangeCutter::new(small_chunker(), range(start, end, size), LIMITS).unwrap_err();
        assert_eq!(refused, RangeError::Bounds { start, end, size });
    }
}

#[test]
fn reading_starts_where_the_first_candidate_could() {
    let read_from = |range| RangeCutter::new(small_chunker(), range, LIMITS).unwrap().read_from();
    assert_eq!(read_from(range(10_000, 20_000, 50_000)), 10_000 - 2000 - 64);
    assert_eq!(read_from(range(2064, 20_000, 50_000)), 0);
    assert_eq!(read_from(range(2065, 20_000, 50_000)), 1);
    let exact = |start, end| read_from(FileRange { exact: true, ..range(start, end, 50_000) });
    assert_eq!(exact(10_000, 20_000), 10_000);
    // Too short to hold the look-back of the range behind it.
    assert_eq!(exact(10_000, 10_500), 10_500 - 2000 - 64);
    assert_eq!(exact(10_000, 50_000), 10_000);
}

#[test]
fn a_look_back_that_reaches_the_start_of_the_file_makes_a_range_exact() {
    let data = stream(20_000);
    assert!(run(range(2064, 10_000, 20_000), LIMITS, &data, 500).exact);
    assert!(!run(range(2065, 10_000, 20_000), LIMITS, &data, 500).exact);
}

#[test]
fn a_cut_at_the_very_end_of_a_range_is_shared_with_an_anchor_there() {
    // Constant bytes: cuts every 1024, and no anchor for the next range but its first byte, 2048.
    let data = vec![1; 9000];
    for block in [1024, 2048, 5000] {
        let result = run(range(0, 2048, 9000), SeamLimits { look_back: 0, ..LIMITS }, &data, block);
        assert_eq!((result.cuts, result.ended), (vec![0, 1024, 2048], RangeEnd::Proven { cut: 2048 }), "{block}");
    }
}

#[test]
fn a_range_at_the_end_of_the_file_ends_with_it() {
    let data = stream(40_000);
    let result = run(range(30_000, 40_000, 40_000), LIMITS, &data, 1000);
    assert_eq!(result.ended, RangeEnd::Proven { cut: 40_000 });
    assert!(!result.exact);
}

#[test]
fn the_end_of_the_file_within_the_look_ahead_is_a_shared_cut() {
    // Constant bytes have no candidate: chains from 0 and 2500 never meet.
    let data = vec![1; 9000];
    let result =
        run(FileRange { exact: true, ..range(0, 8500, 9000) }, SeamLimits { look_back: 0, ..LIMITS }, &data, 100);
    assert_eq!(result.ended, RangeEnd::Proven { cut: 9000 });
    assert_eq!(result.cuts, [0, 1024, 2048, 3072, 4096, 5120, 6144, 7168, 8192, 9000]);
}

#[test]
fn a_chunk_that_spans_the_whole_range_leaves_it_none_of_its_own() {
    let mut data = stream(20_000);
    data[8000..14_000].fill(1);
    let whole = plain_ends(&small_chunker(), &data);
    let spanning = whole.windows(2).map(|pair| (pair[0], pair[1])).find(|(start, end)| end - start == 1024);
    let (start, end) = spanning.unwrap();
    let result = run(range(start + 100, start + 200, 20_000), LIMITS, &data, 64);
    assert_eq!((result.first_cut(), result.ended), (end, RangeEnd::Proven { cut: end }));
    assert_eq!(result.cuts, [end]);
}

#[test]
fn chains_that_never_meet_are_given_up_at_the_limit() {
    let data = vec![1; 60_000];
    let result = run(range(20_000, 30_000, 60_000), LIMITS, &data, 5000);
    // Neither has an anchor but its first byte: cuts at 20,000 + n 1024 and 30,000 + n 1024.
    assert_eq!(result.first_cut(), 20_000);
    assert_eq!(result.ended, RangeEnd::Unproven { last_cut: 20_000 + 17 * 1024 });
}

#[test]
fn bytes_behind_the_end_are_neither_wanted_nor_taken() {
    let data = stream(50_000);
    let mut cutter = RangeCutter::new(small_chunker(), range(0, 10_000, 50_000), LIMITS).unwrap();
    let mut chunks = Vec::new();
    cutter.feed(&data, &mut chunks);
    assert_eq!(cutter.bytes_wanted_max(), 0);
    let ended = cutter.ended().unwrap();
    assert_eq!(chunks.last().unwrap().end, ended.cut());
    let given = chunks.len();
    cutter.feed(&data, &mut chunks);
    assert_eq!((chunks.len(), cutter.ended()), (given, Some(ended)));
}

#[test]
fn a_file_that_proves_shorter_leaves_the_range_unfinished() {
    let data = stream(9000);
    let mut cutter = RangeCutter::new(small_chunker(), range(0, 10_000, 50_000), LIMITS).unwrap();
    cutter.feed(&data, &mut Vec::new());
    assert!(cutter.bytes_wanted_max() > 0);
    assert_eq!(cutter.ended(), None);
    assert_eq!(cutter.finish(), None);
}
