//! One run: verified bytes, and lookups in them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use memmap2::Mmap;
use proto::id::Id;

use super::KnownPack;
use super::layout::{
    BLOB_LENGTH, BlobRow, FILE_LENGTH, FileRow, Header, Offsets, PACK_LENGTH, PACKS_MAX, PackRow, blob_id, blob_kind,
    blob_row, bucket_of, checksum_of, file_row, has_right_checksum, pack_number, pack_row, read_blob, read_bucket,
    read_file, read_pack, write_run,
};
use crate::format::index::IndexedPack;
use crate::format::pack::{BlobType, PackEntry, pack_length};

/// The bytes of a run.
pub(super) enum RunBytes {
    /// In memory.
    Held(Vec<u8>),
    /// In a file of the cache, which nobody changes.
    Mapped(Mmap),
}

impl RunBytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Held(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

/// Blobs of certain index files, sorted by id. Every number in it is within bounds.
pub(super) struct Run {
    bytes: RunBytes,
    offsets: Offsets,
    bucket_bits: u32,
}

impl Run {
    /// Takes bytes that are a whole run of this repository. Reads all of them.
    pub(super) fn verify(bytes: RunBytes, repository: &Id) -> Option<Self> {
        let header = Header::decode(bytes.as_slice()).filter(|header| header.repository == *repository)?;
        let offsets = header.offsets();
        if offsets.end != bytes.as_slice().len() || !has_right_checksum(bytes.as_slice()) {
            return None;
        }
        let run = Self { bytes, offsets, bucket_bits: header.bucket_bits() };
        run.is_consistent().then_some(run)
    }

    /// The checksum says that the bytes are as they were written; this, that a lookup stays within
    /// bounds even so.
    fn is_consistent(&self) -> bool {
        let (files, packs, blobs) = (self.files().len(), self.packs().len(), self.blobs());
        let starts = || (0..=1 << self.bucket_bits).map(|bucket| self.bucket_start(bucket));
        self.packs().iter().all(|row| (read_pack(row).2 as usize) < files)
            && blobs.iter().all(|row| (pack_number(row) as usize) < packs)
            && blobs.is_sorted_by_key(blob_id)
            && starts().is_sorted()
            && starts().all(|start| start <= blobs.len())
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The digest at its end.
    pub(super) fn checksum(&self) -> Id {
        checksum_of(self.as_slice(), &self.offsets)
    }

    pub(super) fn files(&self) -> &[FileRow] {
        self.as_slice()[self.offsets.files..self.offsets.packs].as_chunks::<FILE_LENGTH>().0
    }

    pub(super) fn packs(&self) -> &[PackRow] {
        self.as_slice()[self.offsets.packs..self.offsets.blobs].as_chunks::<PACK_LENGTH>().0
    }

    pub(super) fn blobs(&self) -> &[BlobRow] {
        self.as_slice()[self.offsets.blobs..self.offsets.buckets].as_chunks::<BLOB_LENGTH>().0
    }

    fn bucket_start(&self, bucket: usize) -> usize {
        read_bucket(&self.as_slice()[self.offsets.buckets..self.offsets.checksum], bucket)
    }

    /// The rows of an id, data and tree.
    fn rows_of(&self, id: &Id) -> &[BlobRow] {
        let bucket = bucket_of(id.as_bytes(), self.bucket_bits);
        let rows = &self.blobs()[self.bucket_start(bucket)..self.bucket_start(bucket + 1)];
        let start = rows.partition_point(|row| blob_id(row) < &id.as_bytes()[..]);
        let count = rows[start..].partition_point(|row| blob_id(row) == id.as_bytes());
        &rows[start..start + count]
    }
}

/// A run, and which of its index files count.
pub(super) struct LiveRun {
    run: Run,
    /// By number of the file.
    live: Vec<bool>,
    /// Whether all of them count.
    is_whole: bool,
    live_blobs: usize,
    /// Its file in the cache.
    pub(super) path: Option<PathBuf>,
}

impl LiveRun {
    /// Lets those index files count that are in `wanted`, and takes them out of there.
    pub(super) fn claim(run: Run, path: Option<PathBuf>, wanted: &mut BTreeSet<Id>) -> Self {
        let mut live_blobs = 0;
        let mut claim = |row: &FileRow| {
            let (file, blobs) = read_file(row);
            let is_live = wanted.remove(&file);
            live_blobs += if is_live { blobs as usize } else { 0 };
            is_live
        };
        let live: Vec<bool> = run.files().iter().map(&mut claim).collect();
        Self { run, is_whole: !live.contains(&false), live, live_blobs, path }
    }

    /// A run whose index files all count.
    pub(super) fn whole(run: Run, path: Option<PathBuf>) -> Self {
        let mut files = run.files().iter().map(|row| read_file(row).0).collect();
        Self::claim(run, path, &mut files)
    }

    /// Whether none of its index files counts.
    pub(super) fn is_dead(&self) -> bool {
        !self.live.contains(&true)
    }

    /// Whether most of its blobs do not count.
    pub(super) fn is_mostly_dead(&self) -> bool {
        self.live_blobs * 2 < self.run.blobs().len()
    }

    /// Blobs that count.
    pub(super) fn blob_count(&self) -> usize {
        self.live_blobs
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    pub(super) fn is_live_file(&self, file: usize) -> bool {
        self.live[file]
    }

    /// The pack of a number, if it counts.
    fn pack(&self, number: usize) -> Option<KnownPack> {
        let (id, length, file) = read_pack(&self.run.packs()[number]);
        let file = file as usize;
        self.live[file].then(|| KnownPack { id, length, file: read_file(&self.run.files()[file]).0 })
    }

    fn read(&self, row: &BlobRow) -> Option<(KnownPack, PackEntry)> {
        let (pack, entry) = read_blob(row);
        Some((self.pack(pack as usize)?, entry))
    }

    /// Whether there is a copy of a blob that counts.
    pub(super) fn contains(&self, kind: BlobType, id: &Id) -> bool {
        // Where all of them count, no row of a pack needs to be looked at.
        let counts = |row: &BlobRow| self.is_whole || self.pack(pack_number(row) as usize).is_some();
        self.run.rows_of(id).iter().any(|row| blob_kind(row) == kind && counts(row))
    }

    /// The copies of a blob that count.
    pub(super) fn copies(&self, kind: BlobType, id: &Id) -> impl Iterator<Item = (KnownPack, PackEntry)> {
        self.run.rows_of(id).iter().filter_map(|row| self.read(row)).filter(move |(_, entry)| entry.kind == kind)
    }

    /// The packs that count.
    pub(super) fn packs(&self) -> impl Iterator<Item = KnownPack> {
        (0..self.run.packs().len()).filter_map(|number| self.pack(number))
    }

    /// The blobs that count.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (KnownPack, PackEntry)> {
        self.run.blobs().iter().filter_map(|row| self.read(row))
    }
}

/// A run in the making.
#[derive(Default)]
pub(super) struct Draft {
    files: Vec<FileRow>,
    packs: Vec<PackRow>,
    blobs: Vec<BlobRow>,
}

impl Draft {
    /// Adds an index file. An index file has too few packs to fill a run: it is 1 GiB at most.
    pub(super) fn add(&mut self, file: &Id, packs: &[IndexedPack]) {
        let number = self.files.len() as u32;
        let blobs: usize = packs.iter().map(|pack| pack.blobs.len()).sum();
        self.files.push(file_row(file, blobs as u32));
        for pack in packs {
            let pack_number = self.packs.len() as u32;
            self.packs.push(pack_row(&pack.id, pack_length(&pack.blobs), number));
            self.blobs.extend(pack.blobs.iter().map(|entry| blob_row(pack_number, entry)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether it is to be finished before another index file is added.
    pub(super) fn is_full(&self, blobs_max: usize) -> bool {
        self.blobs.len() >= blobs_max || self.packs.len() >= PACKS_MAX / 2
    }

    /// Sorts it.
    pub(super) fn finish(self, repository: &Id) -> Run {
        let Self { files, packs, mut blobs } = self;
        blobs.sort_unstable();
        let header = Header {
            repository: *repository,
            files: files.len() as u32,
            packs: packs.len() as u32,
            blobs: blobs.len() as u32,
        };
        let offsets = header.offsets();
        let mut bytes = Vec::with_capacity(offsets.end);
        write_run(&mut bytes, &header, files, packs, blobs).expect("writing to a vector does not fail");
        Run { bytes: RunBytes::Held(bytes), offsets, bucket_bits: header.bucket_bits() }
    }
}
