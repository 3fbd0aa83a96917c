//! Which parts of which packs are read to get some blobs: few requests, in the order in which packs are first needed.

use std::collections::HashMap;
use std::ops::Range;

use proto::id::Id;
use repository::format::pack::PackEntry;

/// Unneeded bytes that are read rather than making two requests of one. A request to object storage takes about as
/// long as the transfer of some hundred KiB, and each is billed.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// A request does not grow beyond this, unless a single blob is longer.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

/// One read of a pack.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<T> {
    /// The pack.
    pub(super) pack: Id,
    /// Bytes of it.
    pub(super) range: Range<u64>,
    /// The blobs in there, ascending, and what each is wanted for.
    pub(super) blobs: Vec<(PackEntry, Vec<T>)>,
}

impl<T> Request<T> {
    /// Sealed bytes of its blobs.
    pub(super) fn bytes_needed(&self) -> u64 {
        self.blobs.iter().map(|(entry, _)| u64::from(entry.length)).sum()
    }
}

/// Groups wanted blobs: each is read once, whoever wants it.
pub(super) fn plan<T>(wanted: impl IntoIterator<Item = (Id, PackEntry, T)>) -> Vec<Request<T>> {
    let mut numbers = HashMap::new();
    let mut sorted: Vec<(usize, Id, PackEntry, T)> = Vec::new();
    for (pack, entry, purpose) in wanted {
        let next = numbers.len();
        let number = *numbers.entry(pack).or_insert(next);
        sorted.push((number, pack, entry, purpose));
    }
    // Stable, so that the purposes of one blob keep their order.
    sorted.sort_by_key(|(number, _, entry, _)| (*number, entry.offset));
    let mut requests: Vec<Request<T>> = Vec::new();
    for (_, pack, entry, purpose) in sorted {
        let range = entry.range();
        match requests.last_mut() {
            Some(last) if last.pack == pack && last.takes(&range) => {
                last.range.end = last.range.end.max(range.end);
                match last.blobs.last_mut() {
                    Some((same, purposes)) if *same == entry => purposes.push(purpose),
                    _ => last.blobs.push((entry, vec![purpose])),
                }
            }
            _ => requests.push(Request { pack, range, blobs: vec![(entry, vec![purpose])] }),
        }
    }
    requests
}

impl<T> Request<T> {
    fn takes(&self, range: &Range<u64>) -> bool {
        let gap = range.start.saturating_sub(self.range.end);
        let length = range.end.max(self.range.end) - self.range.start;
        gap <= GAP_BYTES_MAX && (length <= REQUEST_BYTES_MAX || range.end <= self.range.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use repository::format::pack::BlobType;

    use super::*;

    fn entry(number: u32, offset: u32, length: u32) -> PackEntry {
        let id = Id::of(&number.to_le_bytes());
        PackEntry { kind: BlobType::Data, id, offset, length, uncompressed_length: None }
    }

    fn pack(number: u8) -> Id {
        Id::of(&[number])
    }

    #[test]
    fn neighbours_become_one_request_and_far_ones_do_not() {
        let gap = GAP_BYTES_MAX as u32;
        let wanted = vec![
            (pack(1), entry(3, 200 + 2 * gap, 10), 'c'),
            (pack(2), entry(4, 0, 10), 'd'),
            (pack(1), entry(1, 0, 100), 'a'),
            (pack(1), entry(2, 100 + gap, 100), 'b'),
            (pack(1), entry(1, 0, 100), 'x'),
            (pack(1), entry(5, 211 + 3 * gap, 1), 'e'),
        ];
        let requests = plan(wanted);
        let shapes: Vec<_> = requests.iter().map(|request| (request.pack, request.range.clone())).collect();
        let expected = [
            (pack(1), 0..u64::from(210 + 2 * gap)),
            (pack(1), u64::from(211 + 3 * gap)..u64::from(212 + 3 * gap)),
            (pack(2), 0..10),
        ];
        assert_eq!(shapes, expected);
        assert_eq!(requests[0].blobs[0].1, ['a', 'x']);
        assert_eq!(requests[0].bytes_needed(), 210);
    }

    proptest! {
        #[test]
        fn every_blob_is_read_once_and_within_bounds(
            lengths in prop::collection::vec((0_u8..3, 1_u32..3_000_000, 0_u32..200_000), 0..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let mut ends = BTreeMap::new();
            let blobs: Vec<(Id, PackEntry)> = lengths.iter().enumerate().map(|(number, (in_pack, length, gap))| {
                let end: &mut u32 = ends.entry(*in_pack).or_default();
                let offset = *end + gap;
                *end = offset + length;
                (pack(*in_pack), entry(number as u32, offset, *length))
            }).collect();
            let picks: Vec<usize> = if blobs.is_empty() { vec![] } else { picks.iter().map(|pick| pick.index(blobs.len())).collect() };
            let requests = plan(picks.iter().enumerate().map(|(purpose, pick)| (blobs[*pick].0, blobs[*pick].1, purpose)));
            let mut seen = Vec::new();
            for request in &requests {
                let length = request.range.end - request.range.start;
                prop_assert!(length <= REQUEST_BYTES_MAX || request.blobs.len() == 1);
                let gaps = request.blobs.len() as u64 - 1;
                prop_assert!(length <= request.bytes_needed() + gaps * GAP_BYTES_MAX);
                for (entry, purposes) in &request.blobs {
                    prop_assert!(request.range.start <= entry.range().start && entry.range().end <= request.range.end);
                    for purpose in purposes {
                        prop_assert_eq!(&blobs[picks[*purpose]], &(request.pack, *entry));
                        seen.push(*purpose);
                    }
                }
            }
            let distinct: std::collections::BTreeSet<_> = picks.iter().map(|pick| (blobs[*pick].0, blobs[*pick].1.offset)).collect();
            prop_assert_eq!(requests.iter().map(|request| request.blobs.len()).sum::<usize>(), distinct.len());
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..picks.len()).collect::<Vec<_>>());
        }
    }
}
