//! Blobs and unpacked files: compress, then encrypt; and back.
//!
//! A blob is `sealed(plain)` or `sealed(zstd frame of plain)`; which of them, its pack's entry says.
//! An unpacked file (snapshot, index, lock) is `sealed(JSON)` or `sealed(0x02 || zstd frame of JSON)`;
//! its first byte says which. Version 1 knows no compression. Whether something is compressed never
//! depends on whether that makes it smaller.
//!
//! Frames have no checksum (the tag is one) and, where the length is known before, a content size.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use proto::handles::Random;
use proto::id::Id;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};

use crate::crypto::{CryptoError, MasterKey};
use crate::format::config::RepositoryVersion;
use crate::format::pack::{BlobType, PackEntry};

mod reader;
mod spool;

pub use reader::BlobReader;
pub use spool::{BlobSpool, SpooledBlob};

/// The most plain bytes of a blob. Lengths in packs are 32 bits wide, and incompressible bytes must
/// still fit once zstd (1 in 256) and the seal have added theirs.
pub const BLOB_LENGTH_MAX: u64 = (u32::MAX - u32::MAX / 128) as u64;

/// The most plain bytes of an unpacked file that is read: 7 times the largest index that any writer
/// leaves (500,000 blobs of 280 characters).
const FILE_LENGTH_MAX: u64 = 1 << 30;

/// Marks an unpacked file as compressed.
const COMPRESSED_FILE_MARK: u8 = 2;

/// Scratch memory above this is given back after use; a data blob has 8 MiB at most.
const SCRATCH_KEPT_MAX: usize = 9 << 20;

/// How hard to compress. The result is read by everybody, whatever was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Data blobs stay as they are; trees and unpacked files are compressed as with `Auto`.
    Off,
    /// zstd level 1.
    Fastest,
    /// zstd level 3.
    #[default]
    Auto,
    /// zstd level 7.
    Better,
    /// zstd level 11.
    Max,
}

impl Compression {
    const NAMES: [(&str, Self); 5] = [
        ("off", Self::Off),
        ("fastest", Self::Fastest),
        ("auto", Self::Auto),
        ("better", Self::Better),
        ("max", Self::Max),
    ];

    /// The level nearest to what restic's encoder does under the same name.
    fn level(self) -> i32 {
        match self {
            Self::Fastest => 1,
            Self::Off | Self::Auto => 3,
            Self::Better => 7,
            Self::Max => 11,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Self::NAMES[*self as usize];
        f.write_str(name)
    }
}

/// The text names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a compression: off, fastest, auto, better or max is wanted")]
pub struct BadCompression {
    text: String,
}

impl FromStr for Compression {
    type Err = BadCompression;

    fn from_str(text: &str) -> Result<Self, BadCompression> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, compression)| *compression)
            .ok_or_else(|| BadCompression { text: text.chars().take(40).collect() })
    }
}

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Randomness is broken.
    #[error("seal")]
    Crypto(#[from] CryptoError),
    /// zstd refused, for want of memory.
    #[error("compress {length} bytes")]
    Compress {
        /// Plain bytes.
        length: usize,
        /// What zstd says.
        source: io::Error,
    },
    /// A blob must stay below 4 GiB.
    #[error("a blob of more than {BLOB_LENGTH_MAX} bytes cannot be stored")]
    TooLarge,
    /// Nothing was written to a [`BlobSpool`]; no writer stores a blob of no bytes.
    #[error("a blob of no bytes is not stored")]
    Empty,
    /// The temporary file of a [`BlobSpool`].
    #[error("{action} the temporary file of a large blob")]
    Spool {
        /// The verb.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A blob is not what its name says, or cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{kind} blob {id} is damaged")]
pub struct DamagedBlob {
    /// Data or tree.
    pub kind: BlobType,
    /// The blob's id.
    pub id: Id,
    /// What is wrong.
    #[source]
    pub damage: Damage,
}

/// What is wrong with sealed bytes.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// They do not open.
    #[error("open the seal")]
    Sealed(#[from] CryptoError),
    /// They open, but are no zstd frame (or a larger one than expected).
    #[error("decompress")]
    Compressed(#[source] io::Error),
    /// Another length than the pack's entry says.
    #[error("{actual} bytes instead of {expected}")]
    WrongLength {
        /// Bytes by the pack's entry.
        expected: u64,
        /// Bytes that are there.
        actual: u64,
    },
    /// Other content than the id says.
    #[error("the content has the id {actual}")]
    WrongContent {
        /// Digest of what is there.
        actual: Id,
    },
    /// Neither JSON nor a compressed file.
    #[error("the content begins with the unknown byte {byte:#04x}")]
    UnknownFile {
        /// The first byte.
        byte: u8,
    },
}

/// A blob as it goes into a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlob {
    /// Data or tree.
    pub kind: BlobType,
    /// Digest of the plain bytes.
    pub id: Id,
    /// The sealed bytes.
    pub bytes: Bytes,
    /// Length of the plain bytes.
    pub plain_length: u32,
    /// Whether the sealed bytes are a zstd frame.
    pub is_compressed: bool,
}

/// Seals for one repository. Cheap to clone; any number of threads may use it.
#[derive(Clone)]
pub struct Sealer {
    key: Arc<MasterKey>,
    version: RepositoryVersion,
    compression: Compression,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("version", &self.version).field("compression", &self.compression).finish()
    }
}

impl Sealer {
    /// `version` decides whether, `compression` how hard is compressed.
    pub fn new(
        key: Arc<MasterKey>,
        version: RepositoryVersion,
        compression: Compression,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { key, version, compression, random }
    }

    /// The key that it seals under.
    pub fn key(&self) -> &MasterKey {
        &self.key
    }

    /// The randomness that nonces are taken from.
    pub fn random(&self) -> &dyn Random {
        &*self.random
    }

    /// The level for blobs of a type; `None` to leave them as they are.
    fn blob_level(&self, kind: BlobType) -> Option<i32> {
        let off = self.compression == Compression::Off && kind == BlobType::Data;
        (self.version >= RepositoryVersion::V2 && !off).then(|| self.compression.level())
    }

    /// Computes the id of `plain` and seals it.
    ///
    /// # Errors
    /// `TooLarge`, `Compress`, `Crypto`.
    pub fn seal_blob(&self, kind: BlobType, plain: &[u8]) -> Result<SealedBlob, SealError> {
        self.seal_known_blob(kind, Id::of(plain), plain)
    }

    /// Seals `plain`, whose id the caller has computed before (to look it up).
    ///
    /// # Errors
    /// `TooLarge`, `Compress`, `Crypto`.
    pub fn seal_known_blob(&self, kind: BlobType, id: Id, plain: &[u8]) -> Result<SealedBlob, SealError> {
        if plain.len() as u64 > BLOB_LENGTH_MAX {
            return Err(SealError::TooLarge);
        }
        let level = self.blob_level(kind).filter(|_| !plain.is_empty());
        let sealed = match level {
            None => self.key.seal(plain, self.random())?,
            Some(level) => with_compressed(plain, level, &[], |packed| self.key.seal(packed, self.random()))??,
        };
        let is_compressed = level.is_some();
        Ok(SealedBlob { kind, id, bytes: sealed.into(), plain_length: plain.len() as u32, is_compressed })
    }

    /// Seals the JSON of a snapshot, index or lock.
    ///
    /// # Errors
    /// `Compress`, `Crypto`.
    pub fn seal_file(&self, json: &[u8]) -> Result<Vec<u8>, SealError> {
        if self.version < RepositoryVersion::V2 {
            return Ok(self.key.seal(json, self.random())?);
        }
        let level = self.compression.level();
        Ok(with_compressed(json, level, &[COMPRESSED_FILE_MARK], |packed| self.key.seal(packed, self.random()))??)
    }
}

/// What is expensive to make and used for each blob: zstd's tables (about 1 MiB at level 3) and
/// room for one compressed or decrypted blob.
#[derive(Default)]
struct Contexts {
    compressor: Option<(i32, Compressor<'static>)>,
    decompressor: Option<Decompressor<'static>>,
    scratch: Vec<u8>,
}

impl Contexts {
    fn compressor(&mut self, level: i32) -> io::Result<&mut Compressor<'static>> {
        let made = match self.compressor.take() {
            Some((same, compressor)) if same == level => compressor,
            _ => Compressor::new(level)?,
        };
        Ok(&mut self.compressor.insert((level, made)).1)
    }

    fn release_large_scratch(&mut self) {
        if self.scratch.capacity() > SCRATCH_KEPT_MAX {
            self.scratch = Vec::new();
        }
    }
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// Lets `use_packed` see `prefix` and the zstd frame of `plain`.
fn with_compressed<T>(
    plain: &[u8],
    level: i32,
    prefix: &[u8],
    use_packed: impl FnOnce(&[u8]) -> T,
) -> Result<T, SealError> {
    let compress = |contexts: &mut Contexts| -> io::Result<T> {
        let mut scratch = std::mem::take(&mut contexts.scratch);
        scratch.clear();
        scratch.reserve(prefix.len() + zstd::zstd_safe::compress_bound(plain.len()));
        scratch.extend_from_slice(prefix);
        let mut frame = io::Cursor::new(&mut scratch);
        frame.set_position(prefix.len() as u64);
        let compressed = contexts.compressor(level)?.compress_to_buffer(plain, &mut frame);
        let result = compressed.map(|_| use_packed(&scratch));
        contexts.scratch = scratch;
        contexts.release_large_scratch();
        result
    };
    let compressed = CONTEXTS.with_borrow_mut(compress);
    compressed.map_err(|source| SealError::Compress { length: plain.len(), source })
}

/// Opens a blob whose pack's entry is known and checks that it is the one that the entry names.
///
/// # Errors
/// `DamagedBlob`, whatever is wrong with it.
pub fn open_blob(key: &MasterKey, entry: &PackEntry, sealed: &[u8]) -> Result<Vec<u8>, DamagedBlob> {
    let damaged = |damage| DamagedBlob { kind: entry.kind, id: entry.id, damage };
    let expected = u64::from(entry.length);
    if sealed.len() as u64 != expected {
        return Err(damaged(Damage::WrongLength { expected, actual: sealed.len() as u64 }));
    }
    let plain = match entry.uncompressed_length {
        None => key.open(sealed).map_err(Damage::Sealed),
        Some(length) => open_compressed(key, sealed, length),
    };
    let plain = plain.map_err(damaged)?;
    let actual = Id::of(&plain);
    if actual == entry.id { Ok(plain) } else { Err(damaged(Damage::WrongContent { actual })) }
}

fn open_compressed(key: &MasterKey, sealed: &[u8], length: u32) -> Result<Vec<u8>, Damage> {
    CONTEXTS.with_borrow_mut(|contexts| {
        let mut packed = std::mem::take(&mut contexts.scratch);
        let result = key.open_into(sealed, &mut packed).map_err(Damage::Sealed);
        let result = result.and_then(|()| decompress(contexts, &packed, length));
        contexts.scratch = packed;
        contexts.release_large_scratch();
        result
    })
}

fn decompress(contexts: &mut Contexts, packed: &[u8], length: u32) -> Result<Vec<u8>, Damage> {
    let decompressor = match &mut contexts.decompressor {
        Some(decompressor) => decompressor,
        none => none.insert(Decompressor::new().map_err(Damage::Compressed)?),
    };
    let plain = decompressor.decompress(packed, length as usize).map_err(Damage::Compressed)?;
    if plain.len() != length as usize {
        return Err(Damage::WrongLength { expected: length.into(), actual: plain.len() as u64 });
    }
    Ok(plain)
}

/// Opens a snapshot, index or lock file of version 1 or 2.
///
/// # Errors
/// Any [`Damage`]; `Compressed` also for a file of more than 1 GiB.
pub fn open_file(key: &MasterKey, sealed: &[u8]) -> Result<Vec<u8>, Damage> {
    let plain = key.open(sealed)?;
    let frame = match plain.first() {
        None | Some(b'{' | b'[') => return Ok(plain),
        Some(&COMPRESSED_FILE_MARK) => &plain[1..],
        Some(&byte) => return Err(Damage::UnknownFile { byte }),
    };
    let mut json = Vec::new();
    let decoder = zstd::Decoder::with_buffer(frame).map_err(Damage::Compressed)?;
    decoder.take(FILE_LENGTH_MAX + 1).read_to_end(&mut json).map_err(Damage::Compressed)?;
    if json.len() as u64 > FILE_LENGTH_MAX {
        let error = io::Error::other("more than 1 GiB of content");
        return Err(Damage::Compressed(error));
    }
    Ok(json)
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
