//! Which packs to read.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use proto::handles::{Random, RandomExt};
use proto::id::Id;

use super::pack_table::{PackRow, PackTable};

/// How much of the content of packs to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReadData {
    /// None: the names and lengths of packs, and all trees, are checked anyway.
    #[default]
    None,
    /// Every pack.
    All,
    /// Some packs.
    Subset(Subset),
}

/// Which packs to read, if not all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subset {
    /// Packs whose first byte, modulo `groups`, is `group - 1`: in `groups` checks, everything is read.
    Group {
        /// From 1 to `groups`.
        group: u16,
        /// At most 256.
        groups: u16,
    },
    /// So many of a hundred packs, drawn by chance; at least one.
    Percent(f64),
    /// Packs drawn by chance until they have so many bytes.
    Bytes(u64),
}

/// The text names no subset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no part of the data: n/t (t up to 256), a percentage (2.5%) or a size (500M) is wanted")]
pub struct BadSubset {
    text: String,
}

impl FromStr for Subset {
    type Err = BadSubset;

    fn from_str(text: &str) -> Result<Self, BadSubset> {
        parse(text).ok_or_else(|| BadSubset { text: text.chars().take(40).collect() })
    }
}

fn parse(text: &str) -> Option<Subset> {
    if let Some((group, groups)) = text.split_once('/') {
        let (group, groups) = (digits(group)?.parse().ok()?, digits(groups)?.parse().ok()?);
        let possible = 1 <= group && group <= groups && groups <= 256;
        return possible.then_some(Subset::Group { group, groups });
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0)?;
        return Some(Subset::Percent(percent));
    }
    let (number, shift) = match text.char_indices().next_back()? {
        (end, 'b' | 'B') => (&text[..end], 0),
        (end, 'k' | 'K') => (&text[..end], 10),
        (end, 'm' | 'M') => (&text[..end], 20),
        (end, 'g' | 'G') => (&text[..end], 30),
        (end, 't' | 'T') => (&text[..end], 40),
        _ => (text, 0),
    };
    let bytes = digits(number)?.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (bytes > 0).then_some(Subset::Bytes(bytes))
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { group, groups } => write!(f, "{group}/{groups}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
        }
    }
}

/// One pack to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackRead {
    /// The pack. Its blobs are [`PackTable::entries_of`] it.
    pub pack: Id,
    /// Its length in bytes, by the index.
    pub length: u64,
    /// The number of its blobs, by the index.
    pub blobs: u32,
}

/// The packs to read, by id, without those that are `missing`.
pub fn plan(table: &PackTable, missing: &HashSet<Id>, read_data: ReadData, random: &dyn Random) -> Vec<PackRead> {
    let there = table.packs().iter().filter(|row| !missing.contains(&row.id));
    let read = |row: &PackRow| PackRead { pack: row.id, length: row.length, blobs: row.blob_count() };
    let mut reads: Vec<PackRead> = there.map(read).collect();
    match read_data {
        ReadData::None => reads.clear(),
        ReadData::All => {}
        ReadData::Subset(Subset::Group { group, groups }) => {
            let groups = groups.max(1);
            reads.retain(|read| u16::from(read.pack.as_bytes()[0]) % groups + 1 == group);
        }
        ReadData::Subset(Subset::Percent(percent)) => {
            let wanted = ((reads.len() as f64 * percent / 100.0) as usize).max(1);
            shuffle(&mut reads, random);
            reads.truncate(wanted);
        }
        ReadData::Subset(Subset::Bytes(bytes)) => {
            shuffle(&mut reads, random);
            let mut sum = 0;
            reads.retain(|read| {
                let wanted = sum < bytes;
                sum += read.length;
                wanted
            });
        }
    }
    reads.sort_unstable();
    reads
}

fn shuffle(reads: &mut [PackRead], random: &dyn Random) {
    for end in (1..reads.len()).rev() {
        reads.swap(end, random.below(end as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack_table::PackTableBuilder;
    use super::*;
    use crate::format::index::IndexedPack;
    use crate::format::pack::{BlobType, PackEntry};
    use crate::test_random::SeededRandom;

    fn table(packs: u64) -> PackTable {
        let mut builder = PackTableBuilder::default();
        let pack = |number: u64| {
            let id = Id::of(&number.to_le_bytes());
            let blob = PackEntry { kind: BlobType::Data, id, offset: 0, length: 1_000, uncompressed_length: None };
            IndexedPack { id, blobs: vec![blob] }
        };
        builder.add(Id::of(b"index"), (0..packs).map(pack).collect());
        builder.finish().0
    }

    fn planned(packs: u64, subset: &str) -> Vec<PackRead> {
        let subset = ReadData::Subset(subset.parse().unwrap());
        plan(&table(packs), &HashSet::new(), subset, &SeededRandom::new(1))
    }

    #[test]
    fn subsets_are_written_as_for_restic() {
        for (text, bytes) in [("500", 500), ("7b", 7), ("2K", 2048), ("1m", 1 << 20), ("3G", 3 << 30), ("1t", 1 << 40)]
        {
            assert_eq!(text.parse(), Ok(Subset::Bytes(bytes)));
        }
        assert_eq!("1/256".parse(), Ok(Subset::Group { group: 1, groups: 256 }));
        assert_eq!("2.5%".parse(), Ok(Subset::Percent(2.5)));
        let bad =
            ["", "0", "0/1", "2/1", "1/257", "1/2/3", "/", "+1/2", "0%", "100.1%", "NaN%", "%", "-1", "1.5M", "M", "é"];
        for text in bad.into_iter().chain(["99999999999T"]) {
            assert!(text.parse::<Subset>().is_err(), "{text}");
        }
        for text in ["3/7", "12.5%", "500B"] {
            assert_eq!(text.parse::<Subset>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn all_groups_are_all_packs_each_once() {
        let mut all: Vec<PackRead> = (1..=7).flat_map(|group| planned(100, &format!("{group}/7"))).collect();
        all.sort_unstable();
        let everything = plan(&table(100), &HashSet::new(), ReadData::All, &SeededRandom::new(1));
        assert_eq!(all, everything);
        assert_eq!(everything.len(), 100);
        let second = planned(100, "2/256");
        assert!(second.iter().all(|read| read.pack.as_bytes()[0] == 1));
    }

    #[test]
    fn parts_by_chance_have_the_wanted_size() {
        assert_eq!(planned(200, "10%").len(), 20);
        assert_eq!(planned(5, "1%").len(), 1);
        assert_eq!(planned(200, "100%").len(), 200);
        assert_eq!(planned(0, "50%"), []);
        let length = 1_000 + 37 + 36;
        assert_eq!(planned(200, &(3 * length).to_string()).len(), 3);
        assert_eq!(planned(200, "1").len(), 1);
        assert_eq!(planned(200, "1G").len(), 200);
        assert_ne!(planned(200, "10%"), planned(200, "100%")[..20]);
    }

    #[test]
    fn nothing_and_missing_packs_are_not_read() {
        let table = table(3);
        let random = SeededRandom::new(1);
        assert_eq!(plan(&table, &HashSet::new(), ReadData::None, &random), []);
        let missing = HashSet::from([table.packs()[1].id]);
        let reads = plan(&table, &missing, ReadData::All, &random);
        assert_eq!(reads.iter().map(|read| read.pack).collect::<Vec<_>>(), [table.packs()[0].id, table.packs()[2].id]);
    }
}
