//! The names in one directory, packed: a million of them must fit in a worker's memory.

use std::fmt;
use std::ops::Index;

/// Bits of an entry that hold the length of a name (names are at most 255 bytes on Linux).
const LENGTH_BITS: u32 = 16;

/// Names of a directory's entries, ascending bytewise, each once.
///
/// All names stand in one buffer; a name costs its bytes plus 8.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names {
    bytes: Vec<u8>,
    /// Offset into `bytes` << LENGTH_BITS | length, in the order of the names.
    entries: Vec<u64>,
}

impl Names {
    /// Number of names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name at `position`, none behind the end.
    pub fn get(&self, position: usize) -> Option<&[u8]> {
        self.entries.get(position).map(|entry| slice(&self.bytes, *entry))
    }

    /// All names, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.entries.iter().map(|entry| slice(&self.bytes, *entry))
    }

    /// Where `name` stands, or where it would be inserted.
    pub fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| slice(&self.bytes, *entry).cmp(name))
    }

    /// The names from `start` to before `end`, to be given to [`crate::source::Source::metadata_of`].
    pub fn range(&self, start: usize, end: usize) -> Vec<&[u8]> {
        self.entries[start..end].iter().map(|entry| slice(&self.bytes, *entry)).collect()
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<u64>()
    }
}

impl Index<usize> for Names {
    type Output = [u8];

    fn index(&self, position: usize) -> &[u8] {
        slice(&self.bytes, self.entries[position])
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

impl<N: AsRef<[u8]>> FromIterator<N> for Names {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        let mut builder = NamesBuilder::default();
        for name in names {
            builder.push(name.as_ref());
        }
        builder.finish()
    }
}

/// Collects names in any order.
#[derive(Default)]
pub struct NamesBuilder {
    names: Names,
}

impl NamesBuilder {
    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.names.memory_bytes()
    }

    /// Adds one name. It must be shorter than 64 KiB (the kernel's limit is 255 bytes).
    pub fn push(&mut self, name: &[u8]) {
        assert!(name.len() < 1 << LENGTH_BITS, "a file name has at most 255 bytes");
        self.names.entries.push((self.names.bytes.len() as u64) << LENGTH_BITS | name.len() as u64);
        self.names.bytes.extend_from_slice(name);
    }

    /// Sorts, drops duplicates (some file systems list an entry twice while it is renamed) and gives
    /// back what was allocated in advance.
    pub fn finish(self) -> Names {
        let Names { mut bytes, mut entries } = self.names;
        entries.sort_unstable_by(|left, right| slice(&bytes, *left).cmp(slice(&bytes, *right)));
        entries.dedup_by(|left, right| slice(&bytes, *left) == slice(&bytes, *right));
        bytes.shrink_to_fit();
        entries.shrink_to_fit();
        Names { bytes, entries }
    }
}

fn slice(bytes: &[u8], entry: u64) -> &[u8] {
    let start = (entry >> LENGTH_BITS) as usize;
    &bytes[start..start + (entry & ((1 << LENGTH_BITS) - 1)) as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_a_sorted_set(list in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..6), 0..60)) {
            let names: Names = list.iter().collect();
            let expected: Vec<Vec<u8>> = list.iter().cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(names.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), expected.clone());
            for (position, name) in expected.iter().enumerate() {
                prop_assert_eq!(names.position(name), Ok(position));
                prop_assert_eq!(&names[position], &name[..]);
            }
            prop_assert_eq!(names.range(0, expected.len()).len(), names.len());
        }
    }

    #[test]
    fn a_million_names_fit_in_100_megabytes() {
        let names: Names = (0..1_000_000_u32).map(|n| format!("an ordinary file name, numbered {n:09}.jpeg")).collect();
        assert_eq!(names.len(), 1_000_000);
        assert!(names.memory_bytes() < 100 << 20, "{}", names.memory_bytes());
    }
}
