//! The bytes of a run. Integers are little endian.
//!
//! ```text
//! run     = header || file* || pack* || blob* || bucket* || SHA-256 of everything before
//! header  = "LSINDEX1" || repository id (32) || u32 files || u32 packs || u32 blobs || zeros     64 bytes
//! file    = id (32) || u32 blobs of this file                                                   36
//! pack    = id (32) || u64 length || u32 number of its file                                     44
//! blob    = id (32) || u32 number of its pack, top bit: tree || u32 offset || u32 length
//!           || u32 plain length, 0 if not compressed                                            48
//! bucket  = u32 number of the first blob whose id begins with at least these bits                4
//! ```
//! Blobs are sorted by id. There are `2^n + 1` buckets, `n` so that 8 to 16 blobs fall into each.

use std::io::{self, Write};

use proto::id::Id;
use sha2::{Digest, Sha256};

use crate::format::pack::{BlobType, PackEntry};

const MAGIC: &[u8; 8] = b"LSINDEX1";
const ID_LENGTH: usize = 32;
const HEADER_LENGTH: usize = 64;
const CHECKSUM_LENGTH: usize = 32;
pub(super) const FILE_LENGTH: usize = 36;
pub(super) const PACK_LENGTH: usize = 44;
pub(super) const BLOB_LENGTH: usize = 48;
const BUCKET_LENGTH: usize = 4;

/// Marks a tree in the number of a blob's pack.
const TREE: u32 = 1 << 31;

/// The most packs of one run.
pub(super) const PACKS_MAX: usize = TREE as usize;

/// No more buckets than 2 to this power: 64 MiB of them.
const BUCKET_BITS_MAX: u32 = 24;

/// An index file as a run has it.
pub(super) type FileRow = [u8; FILE_LENGTH];
/// A pack as a run has it.
pub(super) type PackRow = [u8; PACK_LENGTH];
/// A blob as a run has it.
pub(super) type BlobRow = [u8; BLOB_LENGTH];

/// What stands at the start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) repository: Id,
    pub(super) files: u32,
    pub(super) packs: u32,
    pub(super) blobs: u32,
}

/// Where the parts of a run begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) files: usize,
    pub(super) packs: usize,
    pub(super) blobs: usize,
    pub(super) buckets: usize,
    pub(super) checksum: usize,
    pub(super) end: usize,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..40].copy_from_slice(self.repository.as_bytes());
        for (number, at) in [(self.files, 40), (self.packs, 44), (self.blobs, 48)] {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The header of a run; `None` for anything else.
    pub(super) fn decode(run: &[u8]) -> Option<Self> {
        let bytes = run.first_chunk::<HEADER_LENGTH>()?;
        let header = Self {
            repository: id_at(bytes, 8),
            files: u32_at(bytes, 40),
            packs: u32_at(bytes, 44),
            blobs: u32_at(bytes, 48),
        };
        (header.encode() == *bytes).then_some(header)
    }

    pub(super) fn offsets(&self) -> Offsets {
        let files = HEADER_LENGTH;
        let packs = files + self.files as usize * FILE_LENGTH;
        let blobs = packs + self.packs as usize * PACK_LENGTH;
        let buckets = blobs + self.blobs as usize * BLOB_LENGTH;
        let checksum = buckets + ((1 << self.bucket_bits()) + 1) * BUCKET_LENGTH;
        Offsets { files, packs, blobs, buckets, checksum, end: checksum + CHECKSUM_LENGTH }
    }

    /// How many bits of an id choose its bucket.
    pub(super) fn bucket_bits(&self) -> u32 {
        (self.blobs / 8).checked_ilog2().unwrap_or(0).min(BUCKET_BITS_MAX)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn id_at(bytes: &[u8], at: usize) -> Id {
    let mut id = [0; ID_LENGTH];
    id.copy_from_slice(&bytes[at..at + ID_LENGTH]);
    Id::from_bytes(id)
}

/// The first bits of an id.
pub(super) fn bucket_of(id: &[u8], bits: u32) -> usize {
    let start = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
    (u64::from(start) >> (32 - bits)) as usize
}

pub(super) fn file_row(id: &Id, blobs: u32) -> FileRow {
    let mut row = [0; FILE_LENGTH];
    row[..32].copy_from_slice(id.as_bytes());
    row[32..].copy_from_slice(&blobs.to_le_bytes());
    row
}

/// Id, and number of blobs.
pub(super) fn read_file(row: &FileRow) -> (Id, u32) {
    (id_at(row, 0), u32_at(row, 32))
}

pub(super) fn pack_row(id: &Id, length: u64, file: u32) -> PackRow {
    let mut row = [0; PACK_LENGTH];
    row[..32].copy_from_slice(id.as_bytes());
    row[32..40].copy_from_slice(&length.to_le_bytes());
    row[40..].copy_from_slice(&file.to_le_bytes());
    row
}

/// Id, length, and number of the file.
pub(super) fn read_pack(row: &PackRow) -> (Id, u64, u32) {
    (id_at(row, 0), u64::from(u32_at(row, 32)) | u64::from(u32_at(row, 36)) << 32, u32_at(row, 40))
}

pub(super) fn blob_row(pack: u32, entry: &PackEntry) -> BlobRow {
    let mark = match entry.kind {
        BlobType::Data => 0,
        BlobType::Tree => TREE,
    };
    let mut row = [0; BLOB_LENGTH];
    row[..32].copy_from_slice(entry.id.as_bytes());
    row[32..36].copy_from_slice(&(pack | mark).to_le_bytes());
    row[36..40].copy_from_slice(&entry.offset.to_le_bytes());
    row[40..44].copy_from_slice(&entry.length.to_le_bytes());
    row[44..].copy_from_slice(&entry.uncompressed_length.unwrap_or(0).to_le_bytes());
    row
}

/// The number of the pack, and the entry in there.
pub(super) fn read_blob(row: &BlobRow) -> (u32, PackEntry) {
    let uncompressed_length = u32_at(row, 44);
    let entry = PackEntry {
        kind: blob_kind(row),
        id: id_at(row, 0),
        offset: u32_at(row, 36),
        length: u32_at(row, 40),
        uncompressed_length: (uncompressed_length != 0).then_some(uncompressed_length),
    };
    (pack_number(row), entry)
}

pub(super) fn blob_kind(row: &BlobRow) -> BlobType {
    if u32_at(row, 32) & TREE == 0 { BlobType::Data } else { BlobType::Tree }
}

pub(super) fn pack_number(row: &BlobRow) -> u32 {
    u32_at(row, 32) & !TREE
}

pub(super) fn blob_id(row: &BlobRow) -> &[u8] {
    &row[..ID_LENGTH]
}

/// The same blob, whose pack has another number now.
pub(super) fn renumbered(row: &BlobRow, pack: u32) -> BlobRow {
    let mark = u32_at(row, 32) & TREE;
    let mut row = *row;
    row[32..36].copy_from_slice(&(pack | mark).to_le_bytes());
    row
}

pub(super) fn read_bucket(bytes: &[u8], number: usize) -> usize {
    u32_at(bytes, number * BUCKET_LENGTH) as usize
}

/// The digest at the end of a run.
pub(super) fn checksum_of(run: &[u8], offsets: &Offsets) -> Id {
    id_at(run, offsets.checksum)
}

/// Whether the last bytes of a run are the digest of the others.
pub(super) fn has_right_checksum(run: &[u8]) -> bool {
    run.split_last_chunk::<CHECKSUM_LENGTH>().is_some_and(|(body, checksum)| Sha256::digest(body)[..] == checksum[..])
}

/// Writes a run; gives its checksum. `blobs` are sorted by id, and of each part there are as many
/// as `header` says.
///
/// # Errors
/// Those of `output`.
pub(super) fn write_run(
    output: impl Write,
    header: &Header,
    files: impl IntoIterator<Item = FileRow>,
    packs: impl IntoIterator<Item = PackRow>,
    blobs: impl IntoIterator<Item = BlobRow>,
) -> io::Result<Id> {
    let mut output = Hashed { output, digest: Sha256::new() };
    output.write_all(&header.encode())?;
    files.into_iter().try_for_each(|row| output.write_all(&row))?;
    packs.into_iter().try_for_each(|row| output.write_all(&row))?;
    let bits = header.bucket_bits();
    let mut buckets: Vec<u32> = Vec::with_capacity((1 << bits) + 1);
    for (number, row) in blobs.into_iter().enumerate() {
        let bucket = bucket_of(blob_id(&row), bits);
        if buckets.len() <= bucket {
            buckets.resize(bucket + 1, number as u32);
        }
        output.write_all(&row)?;
    }
    buckets.resize((1 << bits) + 1, header.blobs);
    buckets.iter().try_for_each(|start| output.write_all(&start.to_le_bytes()))?;
    let Hashed { mut output, digest } = output;
    let checksum: [u8; CHECKSUM_LENGTH] = digest.finalize().into();
    output.write_all(&checksum)?;
    output.flush()?;
    Ok(Id::from_bytes(checksum))
}

struct Hashed<W> {
    output: W,
    digest: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
