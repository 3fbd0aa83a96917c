//! Fills packs: sealed blobs in, one finished pack and the list of its blobs out.
//!
//! The bytes of a pack are kept once, as the pieces in which they came (small ones gathered), and
//! hashed while they come. A blob that is too large for memory gets a pack of its own, made by
//! [`pack_spooled_blob`].

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use proto::handles::Random;
use proto::id::Id;
use sha2::{Digest, Sha256};

use crate::crypto::{CryptoError, MasterKey};
use crate::format::pack::{BlobType, ENTRIES_MAX, PackEntry, encode_header, pack_length};
use crate::seal::{SealedBlob, SpooledBlob};
use crate::storage::Body;

/// The target that restic uses: 16 MiB.
pub const TARGET_LENGTH_DEFAULT: u64 = 16 << 20;

/// Blobs below this are copied together, so that a pack of small trees is not a hundred thousand
/// pieces.
const SMALL_LENGTH: usize = 32 * 1024;
/// Length of the pieces that small blobs are gathered into.
const GATHERED_LENGTH: usize = 256 * 1024;

/// A pack, ready to be stored under the name of its id.
#[derive(Clone, Debug)]
pub struct FinishedPack {
    /// Digest of the whole pack.
    pub id: Id,
    /// The whole pack.
    pub body: Body,
    /// Its blobs in their order, for the index.
    pub entries: Vec<PackEntry>,
    /// Length of the whole pack in bytes.
    pub length: u64,
}

/// Why a blob cannot go into a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Trees and data do not share packs.
    #[error("a {blob} blob does not go into a pack of {pack} blobs")]
    WrongType {
        /// What the pack holds.
        pack: BlobType,
        /// What was to be added.
        blob: BlobType,
    },
    /// No room: [`ENTRIES_MAX`] blobs, or 4 GiB. Finish the pack first.
    #[error("the pack has no room for another blob")]
    Full,
}

/// Why a pack cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Randomness is broken.
    #[error("seal the header of a pack")]
    Crypto(#[from] CryptoError),
    /// The temporary file of a large blob.
    #[error("write the header of a pack to its temporary file")]
    Spool(#[source] io::Error),
}

/// A pack in the making. Holds blobs of one type.
pub struct PackWriter {
    kind: BlobType,
    target_length: u64,
    entries: Vec<PackEntry>,
    pieces: Vec<Bytes>,
    /// Small blobs behind the last piece.
    gathered: Vec<u8>,
    blobs_length: u32,
    digest: Sha256,
}

impl PackWriter {
    /// An empty pack that is full at `target_length` bytes of blobs.
    pub fn new(kind: BlobType, target_length: u64) -> Self {
        Self {
            kind,
            target_length,
            entries: Vec::new(),
            pieces: Vec::new(),
            gathered: Vec::new(),
            blobs_length: 0,
            digest: Sha256::new(),
        }
    }

    /// The type of its blobs.
    pub fn kind(&self) -> BlobType {
        self.kind
    }

    /// How many blobs it holds.
    pub fn blob_count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of its sealed blobs, header not counted.
    pub fn blobs_length(&self) -> u64 {
        self.blobs_length.into()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it is to be finished before another blob is added: the target is reached, or one
    /// more entry could make the header too long.
    pub fn is_full(&self) -> bool {
        self.blobs_length() >= self.target_length || self.entries.len() >= ENTRIES_MAX
    }

    /// Adds a blob. Packs may grow past the target: only [`PackWriter::is_full`] says when to stop.
    ///
    /// # Errors
    /// `WrongType`; `Full` if the format has no room for it. The pack is as before then.
    pub fn add(&mut self, blob: &SealedBlob) -> Result<(), AddError> {
        if blob.kind != self.kind {
            return Err(AddError::WrongType { pack: self.kind, blob: blob.kind });
        }
        let length = u32::try_from(blob.bytes.len()).map_err(|_| AddError::Full)?;
        let entry = PackEntry {
            kind: blob.kind,
            id: blob.id,
            offset: self.blobs_length,
            length,
            uncompressed_length: blob.is_compressed.then_some(blob.plain_length),
        };
        let end = self.blobs_length.checked_add(length).ok_or(AddError::Full)?;
        if self.entries.len() >= ENTRIES_MAX {
            return Err(AddError::Full);
        }
        self.blobs_length = end;
        self.entries.push(entry);
        self.append(blob.bytes.clone());
        Ok(())
    }

    fn append(&mut self, bytes: Bytes) {
        self.digest.update(&bytes);
        if bytes.len() < SMALL_LENGTH && self.gathered.len() + bytes.len() <= GATHERED_LENGTH {
            self.gathered.extend_from_slice(&bytes);
            return;
        }
        self.close_gathered();
        if bytes.len() < SMALL_LENGTH {
            self.gathered.extend_from_slice(&bytes);
        } else {
            self.pieces.push(bytes);
        }
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push(std::mem::take(&mut self.gathered).into());
        }
    }

    /// Whether `other` can be merged into this pack: the same type, the sum below the target.
    pub fn can_merge(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.blobs_length() + other.blobs_length() < self.target_length
            && self.entries.len() + other.entries.len() <= ENTRIES_MAX
    }

    /// Puts the blobs of `other`, a part-filled pack, behind those of this one. Nothing but small
    /// pieces is copied; the bytes of `other` are hashed once more. Gives `other` back if
    /// [`PackWriter::can_merge`] says no.
    #[must_use = "what does not fit must be stored in another way"]
    pub fn merge(&mut self, mut other: Self) -> Option<Self> {
        let base = self.blobs_length;
        let Some(end) = base.checked_add(other.blobs_length).filter(|_| self.can_merge(&other)) else {
            return Some(other);
        };
        other.close_gathered();
        // Each offset of `other` is below its length, and `base` plus that length fits.
        self.entries.extend(other.entries.iter().map(|entry| PackEntry { offset: base + entry.offset, ..*entry }));
        self.blobs_length = end;
        for piece in other.pieces {
            self.append(piece);
        }
        None
    }

    /// Closes the pack. A pack without blobs is not valid: do not finish an empty one.
    ///
    /// # Errors
    /// `Crypto` if the source of randomness is broken.
    pub fn finish(mut self, key: &MasterKey, random: &dyn Random) -> Result<FinishedPack, FinishError> {
        let tail = sealed_header_and_trailer(&self.entries, key, random)?;
        self.digest.update(&tail);
        self.close_gathered();
        self.pieces.push(tail.into());
        let id = Id::from_bytes(self.digest.finalize().into());
        let length = pack_length(&self.entries);
        Ok(FinishedPack { id, body: Body::Memory(self.pieces), entries: self.entries, length })
    }
}

/// Makes a pack of one blob, in the blob's own temporary file.
///
/// # Errors
/// `Crypto`, `Spool`.
pub fn pack_spooled_blob(blob: SpooledBlob, key: &MasterKey, random: &dyn Random) -> Result<FinishedPack, FinishError> {
    let SpooledBlob { kind, id, plain_length, sealed_length, is_compressed, mut file, mut sealed_digest } = blob;
    let uncompressed_length = is_compressed.then_some(plain_length);
    let entries = vec![PackEntry { kind, id, offset: 0, length: sealed_length, uncompressed_length }];
    let tail = sealed_header_and_trailer(&entries, key, random)?;
    file.write_all(&tail).map_err(FinishError::Spool)?;
    sealed_digest.update(&tail);
    let id = Id::from_bytes(sealed_digest.finalize().into());
    let length = pack_length(&entries);
    Ok(FinishedPack { id, body: Body::Spooled { file: Arc::new(file), len: length }, entries, length })
}

fn sealed_header_and_trailer(
    entries: &[PackEntry],
    key: &MasterKey,
    random: &dyn Random,
) -> Result<Vec<u8>, CryptoError> {
    let mut tail = key.seal(&encode_header(entries), random)?;
    let header_length = tail.len() as u32;
    tail.extend_from_slice(&header_length.to_le_bytes());
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::*;
    use crate::crypto::OVERHEAD;
    use crate::format::config::RepositoryVersion;
    use crate::format::pack::{TRAILER_LENGTH, open_header, sealed_header_length};
    use crate::seal::{BlobSpool, Compression, Sealer, open_blob};
    use crate::test_random::SeededRandom;

    fn sealer() -> Sealer {
        let random = Arc::new(SeededRandom::new(3));
        let key = Arc::new(MasterKey::generate(&*random).unwrap());
        Sealer::new(key, RepositoryVersion::V2, Compression::Off, random)
    }

    fn blob(sealer: &Sealer, kind: BlobType, length: usize, byte: u8) -> SealedBlob {
        sealer.seal_blob(kind, &vec![byte; length]).unwrap()
    }

    fn bytes_of(body: &Body) -> Vec<u8> {
        match body {
            Body::Memory(pieces) => pieces.concat(),
            Body::Spooled { file, len } => {
                let mut bytes = vec![0; *len as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            }
        }
    }

    /// Reads the pack as a stranger would, and gives the plain blobs.
    fn check(sealer: &Sealer, pack: &FinishedPack) -> Vec<Vec<u8>> {
        let bytes = bytes_of(&pack.body);
        assert_eq!(bytes.len() as u64, pack.length);
        assert_eq!(pack.body.len(), pack.length);
        assert_eq!(Id::of(&bytes), pack.id);
        let header_length = sealed_header_length(&bytes, pack.length).unwrap() as usize;
        let header_end = bytes.len() - TRAILER_LENGTH;
        let header = &bytes[header_end - header_length..header_end];
        assert_eq!(open_header(sealer.key(), header, pack.length).unwrap(), pack.entries);
        let open = |entry: &PackEntry| {
            let range = entry.range();
            open_blob(sealer.key(), entry, &bytes[range.start as usize..range.end as usize]).unwrap()
        };
        pack.entries.iter().map(open).collect()
    }

    #[test]
    fn a_pack_is_full_at_its_target() {
        let sealer = sealer();
        let mut pack = PackWriter::new(BlobType::Data, 1000);
        pack.add(&blob(&sealer, BlobType::Data, 967, 1)).unwrap();
        assert_eq!(pack.blobs_length(), 999);
        assert!(!pack.is_full());
        pack.add(&blob(&sealer, BlobType::Data, 10_000, 2)).unwrap();
        assert!(pack.is_full());
        let plain = check(&sealer, &pack.finish(sealer.key(), sealer.random()).unwrap());
        assert_eq!(plain, [vec![1; 967], vec![2; 10_000]]);
    }

    #[test]
    fn types_do_not_mix() {
        let sealer = sealer();
        let mut pack = PackWriter::new(BlobType::Data, 1000);
        let refused = pack.add(&blob(&sealer, BlobType::Tree, 5, 1));
        assert_eq!(refused, Err(AddError::WrongType { pack: BlobType::Data, blob: BlobType::Tree }));
        assert!(pack.is_empty());
        assert!(pack.merge(PackWriter::new(BlobType::Tree, 1000)).is_some());
    }

    #[test]
    fn the_number_of_entries_is_limited() {
        let sealer = sealer();
        let tiny = blob(&sealer, BlobType::Tree, 1, 1);
        let mut pack = PackWriter::new(BlobType::Tree, 1 << 30);
        for _ in 0..ENTRIES_MAX {
            assert!(!pack.is_full());
            pack.add(&tiny).unwrap();
        }
        assert!(pack.is_full());
        assert_eq!(pack.add(&tiny), Err(AddError::Full));
        assert_eq!(pack.blob_count(), ENTRIES_MAX);
        let finished = pack.finish(sealer.key(), sealer.random()).unwrap();
        let Body::Memory(pieces) = &finished.body else { panic!("not in memory") };
        assert!(pieces.len() < 200, "{} pieces", pieces.len());
        let bytes = bytes_of(&finished.body);
        assert!(sealed_header_length(&bytes, finished.length).is_ok());
    }

    #[test]
    fn part_filled_packs_merge_below_the_target() {
        let sealer = sealer();
        let with = |count: usize, length, byte| {
            let mut pack = PackWriter::new(BlobType::Data, 200_000);
            for _ in 0..count {
                pack.add(&blob(&sealer, BlobType::Data, length, byte)).unwrap();
            }
            pack
        };
        let mut pack = with(2, 100, 1);
        assert!(pack.merge(with(1, 50_000, 2)).is_none());
        assert!(pack.merge(with(3, 20_000, 3)).is_none());
        let back = pack.merge(with(3, 100_000, 4)).unwrap();
        assert_eq!(back.blob_count(), 3);
        let plain = check(&sealer, &pack.finish(sealer.key(), sealer.random()).unwrap());
        let expected = [(100, 1), (100, 1), (50_000, 2), (20_000, 3), (20_000, 3), (20_000, 3)];
        assert_eq!(plain, expected.map(|(length, byte)| vec![byte; length]));
    }

    #[test]
    fn a_spooled_blob_is_a_pack_of_its_own() {
        let sealer = sealer();
        let folder = tempfile::tempdir().unwrap();
        for kind in [BlobType::Data, BlobType::Tree] {
            let mut spool = BlobSpool::new(&sealer, kind, folder.path()).unwrap();
            spool.write_all(&[9; 700_000]).unwrap();
            let pack = pack_spooled_blob(spool.finish().unwrap(), sealer.key(), sealer.random()).unwrap();
            assert!(matches!(pack.body, Body::Spooled { .. }));
            assert_eq!(pack.entries[0].uncompressed_length.is_some(), kind == BlobType::Tree);
            assert_eq!(check(&sealer, &pack), [vec![9; 700_000]]);
        }
    }

    proptest! {
        #[test]
        fn packs_hold_what_was_put_in(lengths in prop::collection::vec(prop_oneof![0..50usize, 30_000..70_000usize], 1..20)) {
            let sealer = sealer();
            let mut pack = PackWriter::new(BlobType::Data, TARGET_LENGTH_DEFAULT);
            for (index, length) in lengths.iter().enumerate() {
                pack.add(&blob(&sealer, BlobType::Data, *length, index as u8)).unwrap();
            }
            let sum: usize = lengths.iter().map(|length| length + OVERHEAD).sum();
            prop_assert_eq!(pack.blobs_length(), sum as u64);
            let plain = check(&sealer, &pack.finish(sealer.key(), sealer.random()).unwrap());
            let expected: Vec<_> =
                lengths.iter().enumerate().map(|(index, length)| vec![index as u8; *length]).collect();
            prop_assert!(plain == expected);
        }
    }
}
