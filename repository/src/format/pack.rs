//! The header of a pack: which blobs it holds, in the order of their bytes.
//!
//! `pack = blob* || sealed(entry*) || u32 length of the sealed header`, integers little endian.
//! An entry is 37 bytes (type 0 data, 1 tree: type, sealed length, id) or 41 (type 2 data, 3 tree,
//! compressed: type, sealed length, plain length, id). Offsets are the running sum of the lengths;
//! there are no gaps.

use std::fmt;

use proto::id::Id;
use serde::{Deserialize, Serialize};

use crate::crypto::{CryptoError, MasterKey, OVERHEAD};

/// Bytes of an entry of an uncompressed blob.
pub const PLAIN_ENTRY_LENGTH: usize = 1 + 4 + 32;
/// Bytes of an entry of a compressed blob.
pub const COMPRESSED_ENTRY_LENGTH: usize = PLAIN_ENTRY_LENGTH + 4;
/// Bytes of the length field at the end of a pack.
pub const TRAILER_LENGTH: usize = 4;
/// The most bytes of a sealed header that readers accept.
pub const SEALED_HEADER_LENGTH_MAX: usize = 16 * 1024 * 1024;
/// The most entries that are sure to fit: (16 MiB - 32) / 41.
pub const ENTRIES_MAX: usize = (SEALED_HEADER_LENGTH_MAX - OVERHEAD) / COMPRESSED_ENTRY_LENGTH;
/// Bytes of the shortest pack: one blob of nothing, its entry, the header's overhead, the trailer.
pub const PACK_LENGTH_MIN: u64 = (2 * OVERHEAD + PLAIN_ENTRY_LENGTH + TRAILER_LENGTH) as u64;
/// How many bytes at the end of a pack to read first: enough for 15 entries.
pub const FIRST_READ_LENGTH: u64 = (15 * COMPRESSED_ENTRY_LENGTH + OVERHEAD + TRAILER_LENGTH) as u64;

/// What a blob is. Type and id together are its name: a data and a tree blob may share an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobType {
    /// A piece of a file.
    Data,
    /// A directory listing.
    Tree,
}

impl fmt::Display for BlobType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Tree => "tree",
        })
    }
}

/// One blob inside a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Data or tree.
    pub kind: BlobType,
    /// SHA-256 of the plain, uncompressed bytes.
    pub id: Id,
    /// Where the sealed bytes begin.
    pub offset: u32,
    /// Length of the sealed bytes.
    pub length: u32,
    /// Length of the plain bytes of a compressed blob, never 0; `None` for an uncompressed one.
    pub uncompressed_length: Option<u32>,
}

impl PackEntry {
    /// Length of the plain, uncompressed bytes.
    pub fn plain_length(&self) -> u32 {
        self.uncompressed_length.unwrap_or_else(|| self.length.saturating_sub(OVERHEAD as u32))
    }

    /// Where the sealed bytes lie in the pack.
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.offset);
        start..start + u64::from(self.length)
    }

    /// Bytes that this entry takes in a header.
    pub fn header_length(&self) -> usize {
        if self.uncompressed_length.is_some() { COMPRESSED_ENTRY_LENGTH } else { PLAIN_ENTRY_LENGTH }
    }
}

/// Why a pack's header cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The file is shorter than any pack.
    #[error("{length} bytes are too short for a pack, which has at least {PACK_LENGTH_MIN}")]
    TooShort {
        /// Length of the file in bytes.
        length: u64,
    },
    /// The length field at the end says something impossible.
    #[error("a header of {header_length} bytes does not fit a pack of {pack_length} bytes")]
    BadHeaderLength {
        /// What the field says.
        header_length: u32,
        /// Length of the file in bytes.
        pack_length: u64,
    },
    /// The sealed header does not open.
    #[error("open the header")]
    Sealed(#[source] CryptoError),
    /// An entry is impossible.
    #[error("entry {index} of the header {problem}")]
    BadEntry {
        /// Number of the entry, from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The blobs do not fill the file up to the header.
    #[error("the blobs in the header sum up to a pack of {expected} bytes, the file has {actual}")]
    WrongLength {
        /// Length that follows from the header.
        expected: u64,
        /// Length of the file in bytes.
        actual: u64,
    },
}

/// The plain bytes of a header. Offsets are not written: entries must be in the order of their blobs.
pub fn encode_header(entries: &[PackEntry]) -> Vec<u8> {
    let mut header = Vec::with_capacity(entries.iter().map(PackEntry::header_length).sum());
    for entry in entries {
        let kind = match entry.kind {
            BlobType::Data => 0,
            BlobType::Tree => 1,
        };
        header.push(if entry.uncompressed_length.is_some() { kind + 2 } else { kind });
        header.extend_from_slice(&entry.length.to_le_bytes());
        if let Some(length) = entry.uncompressed_length {
            header.extend_from_slice(&length.to_le_bytes());
        }
        header.extend_from_slice(entry.id.as_bytes());
    }
    header
}

/// The entries of a plain header, with their offsets.
///
/// # Errors
/// `BadEntry` for a cut or unknown entry, a length below that of any sealed blob, a compressed blob
/// of no bytes, or an offset beyond 4 GiB.
pub fn decode_header(mut header: &[u8]) -> Result<Vec<PackEntry>, PackError> {
    let mut entries = Vec::with_capacity(header.len() / COMPRESSED_ENTRY_LENGTH + 1);
    let mut offset = 0;
    while !header.is_empty() {
        let bad = |problem| PackError::BadEntry { index: entries.len(), problem };
        let entry = take_entry(&mut header, offset).map_err(bad)?;
        offset = offset.checked_add(entry.length).ok_or_else(|| bad("ends beyond 4 GiB"))?;
        entries.push(entry);
    }
    Ok(entries)
}

fn take_entry(header: &mut &[u8], offset: u32) -> Result<PackEntry, &'static str> {
    let [kind @ 0..=3] = take(header)? else { return Err("has an unknown type") };
    let length = u32::from_le_bytes(take(header)?);
    let uncompressed_length = if kind >= 2 { Some(u32::from_le_bytes(take(header)?)) } else { None };
    let id = Id::from_bytes(take(header)?);
    if (length as usize) < OVERHEAD {
        return Err("is shorter than any sealed blob");
    }
    if uncompressed_length == Some(0) {
        return Err("is a compressed blob of no bytes");
    }
    let kind = if kind % 2 == 0 { BlobType::Data } else { BlobType::Tree };
    Ok(PackEntry { kind, id, offset, length, uncompressed_length })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or("is cut off")?;
    *bytes = rest;
    Ok(*taken)
}

/// The length that a pack of these blobs has: `sum(length) + header + 32 + 4`.
pub fn pack_length<'a>(entries: impl IntoIterator<Item = &'a PackEntry>) -> u64 {
    let sum: u64 = entries.into_iter().map(|entry| u64::from(entry.length) + entry.header_length() as u64).sum();
    sum + (OVERHEAD + TRAILER_LENGTH) as u64
}

/// The length of the sealed header, from the last bytes of a pack (at least [`TRAILER_LENGTH`]) of
/// `pack_length` bytes. The header lies directly in front of the length field.
///
/// # Errors
/// `TooShort` or `BadHeaderLength`.
pub fn sealed_header_length(tail: &[u8], pack_length: u64) -> Result<u32, PackError> {
    if pack_length < PACK_LENGTH_MIN {
        return Err(PackError::TooShort { length: pack_length });
    }
    let trailer = tail.last_chunk::<TRAILER_LENGTH>().ok_or(PackError::TooShort { length: tail.len() as u64 })?;
    let header_length = u32::from_le_bytes(*trailer);
    let possible = (OVERHEAD + PLAIN_ENTRY_LENGTH) as u64..=(pack_length - TRAILER_LENGTH as u64);
    if !possible.contains(&u64::from(header_length)) || header_length as usize > SEALED_HEADER_LENGTH_MAX {
        return Err(PackError::BadHeaderLength { header_length, pack_length });
    }
    Ok(header_length)
}

/// Opens and decodes the sealed header of a pack of `pack_length` bytes.
///
/// # Errors
/// `Sealed`, `BadEntry`, or `WrongLength` if the blobs do not fill the file exactly.
pub fn open_header(key: &MasterKey, sealed: &[u8], pack_length: u64) -> Result<Vec<PackEntry>, PackError> {
    let entries = decode_header(&key.open(sealed).map_err(PackError::Sealed)?)?;
    let expected = self::pack_length(&entries);
    if expected != pack_length {
        return Err(PackError::WrongLength { expected, actual: pack_length });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_random::SeededRandom;

    pub(crate) fn any_entries() -> impl Strategy<Value = Vec<PackEntry>> {
        let entry = (any::<bool>(), any::<[u8; 32]>(), 32..100_000u32, prop::option::of(1..u32::MAX));
        prop::collection::vec(entry, 0..40).prop_map(|parts| {
            let mut offset = 0;
            let entry = |(tree, id, length, uncompressed_length)| {
                let kind = if tree { BlobType::Tree } else { BlobType::Data };
                let entry = PackEntry { kind, id: Id::from_bytes(id), offset, length, uncompressed_length };
                offset += length;
                entry
            };
            parts.into_iter().map(entry).collect()
        })
    }

    #[test]
    fn entries_have_the_known_layout() {
        let id = Id::of(b"x");
        let plain = PackEntry { kind: BlobType::Tree, id, offset: 0, length: 0x0102, uncompressed_length: None };
        let packed =
            PackEntry { kind: BlobType::Data, id, offset: 0x0102, length: 40, uncompressed_length: Some(0x0304) };
        let header = encode_header(&[plain, packed]);
        assert_eq!(header[..5], [1, 2, 1, 0, 0]);
        assert_eq!(header[5..37], *id.as_bytes());
        assert_eq!(header[37..46], [2, 40, 0, 0, 0, 4, 3, 0, 0]);
        assert_eq!(header.len(), 78);
        assert_eq!(decode_header(&header).unwrap(), [plain, packed]);
        assert_eq!(pack_length(&[plain, packed]), 0x0102 + 40 + 78 + 36);
    }

    #[test]
    fn limits_are_those_of_the_format() {
        assert_eq!(ENTRIES_MAX, 409_199);
        assert_eq!(FIRST_READ_LENGTH, 651);
        let length = |field: u32, pack| sealed_header_length(&field.to_le_bytes(), pack);
        assert_eq!(length(69, 105), Ok(69));
        assert_eq!(length(69, 104), Err(PackError::TooShort { length: 104 }));
        assert!(length(68, 1000).is_err());
        assert!(length(997, 1000).is_err());
        assert_eq!(length(996, 1000), Ok(996));
        assert_eq!(length(1 << 24, 1 << 30), Ok(1 << 24));
        assert!(length((1 << 24) + 1, 1 << 30).is_err());
        assert!(sealed_header_length(&[1, 2], 1000).is_err());
    }

    #[test]
    fn impossible_entries_are_refused() {
        let entry =
            |kind: u8, length: u32, plain: &[u8]| [&[kind][..], &length.to_le_bytes(), plain, &[9; 32]].concat();
        assert!(decode_header(&entry(0, 32, &[])).is_ok());
        assert!(decode_header(&entry(4, 32, &[])).is_err());
        assert!(decode_header(&entry(0, 31, &[])).is_err());
        assert!(decode_header(&entry(3, 40, &[0; 4])).is_err());
        let beyond = [entry(0, u32::MAX, &[]), entry(1, 32, &[])].concat();
        let expected = PackError::BadEntry { index: 1, problem: "ends beyond 4 GiB" };
        assert_eq!(decode_header(&beyond), Err(expected));
    }

    proptest! {
        #[test]
        fn headers_survive(entries in any_entries(), seed in any::<u64>()) {
            let header = encode_header(&entries);
            prop_assert_eq!(&decode_header(&header).unwrap(), &entries);
            let random = SeededRandom::new(seed);
            let key = MasterKey::generate(&random).unwrap();
            let sealed = key.seal(&header, &random).unwrap();
            let length = pack_length(&entries);
            prop_assert_eq!(&open_header(&key, &sealed, length).unwrap(), &entries);
            let actual = length + 1;
            prop_assert_eq!(
                open_header(&key, &sealed, actual),
                Err(PackError::WrongLength { expected: length, actual })
            );
        }

        #[test]
        fn cut_headers_are_noticed(entries in any_entries(), at in any::<prop::sample::Index>()) {
            let header = encode_header(&entries);
            let cut = at.index(header.len() + 1);
            if let Ok(decoded) = decode_header(&header[..cut]) {
                prop_assert!(entries.starts_with(&decoded));
                prop_assert_eq!(encode_header(&decoded).len(), cut);
            }
        }

        #[test]
        fn garbage_never_panics(header in prop::collection::vec(any::<u8>(), 0..300), pack in any::<u64>()) {
            let _ = decode_header(&header);
            let _ = sealed_header_length(&header, pack);
        }
    }
}
