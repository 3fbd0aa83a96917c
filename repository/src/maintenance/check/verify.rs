//! Reads a pack to its end: is it what its name, its header and the index say?
//!
//! The pack comes in pieces that are cut between blobs; while one is worked on the next is fetched.

use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proto::id::Id;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::finding::{FileFindings, Finding, FindingKind, chain};
use crate::crypto::MasterKey;
use crate::format::pack::{PackEntry, TRAILER_LENGTH, open_header, pack_length, sealed_header_length};
use crate::maintenance::executor::Resources;
use crate::repository::{FileKind, Repository, RepositoryError};
use crate::seal::{BlobReader, Damage, DamagedBlob, open_blob};
use crate::storage::StorageErrorKind;

/// A piece is closed when it has so many bytes, so it may be one blob longer.
const PIECE_BYTES: u64 = 8 << 20;

/// Blobs whose plain bytes are more than this are never held decompressed: twice the largest piece
/// of a file.
const HELD_PLAIN_BYTES_MAX: u32 = 16 << 20;

/// Reads a pack and compares it with its `expected` blobs, which the index names. A pack that is
/// found damaged is read once more, and the second reading counts.
///
/// # Errors
/// `Storage` if the pack may be had later; `Stopping`. Damage is not an error.
pub async fn verify_pack(
    repository: &Repository,
    resources: &Resources,
    pack: &Id,
    expected: &[PackEntry],
) -> Result<Vec<Finding>, RepositoryError> {
    let first = Reading::new(repository, resources, pack).run(expected).await?;
    let Some(example) = first.first() else { return Ok(first) };
    let second = Reading::new(repository, resources, pack).run(expected).await?;
    if !second.is_empty() {
        return Ok(second);
    }
    let detail = format!("whole at the second reading, at the first: {}", example.detail);
    Ok(vec![Finding::new(FindingKind::ReadUnstable, FileKind::Pack.name(pack), detail)])
}

struct Reading<'a> {
    repository: &'a Repository,
    resources: &'a Resources,
    pack: Id,
    name: String,
    findings: FileFindings,
}

/// What goes from piece to piece.
struct Progress {
    digest: Sha256,
    findings: FileFindings,
}

/// A part of a pack, and the blobs in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    bytes: Range<u64>,
    entries: Range<usize>,
}

/// Stored bytes, and the right to hold them.
struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// What all pieces of a pack need.
struct Work {
    key: Arc<MasterKey>,
    name: String,
    entries: Vec<PackEntry>,
    length: u64,
}

impl<'a> Reading<'a> {
    fn new(repository: &'a Repository, resources: &'a Resources, pack: &Id) -> Self {
        let name = FileKind::Pack.name(pack);
        Self { repository, resources, pack: *pack, name, findings: FileFindings::default() }
    }

    fn found(&mut self, kind: FindingKind, detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, &*self.name, detail));
    }

    async fn run(mut self, expected: &[PackEntry]) -> Result<Vec<Finding>, RepositoryError> {
        let mut entries = expected.to_vec();
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut length = pack_length(&entries);
        if !is_without_gaps(&entries) {
            self.found(FindingKind::PackGaps, "by the index its blobs overlap, or leave gaps");
            // The index does not tell what to read, so the pack must.
            match self.own_entries().await? {
                Some(own) => (entries, length) = own,
                None => return Ok(self.findings.finish()),
            }
            self.compare(expected, &entries);
        }
        let work = Work { key: self.repository.master_key().clone(), name: self.name.clone(), entries, length };
        self.read(Arc::new(work)).await
    }

    /// The blobs and length by the pack's own account.
    async fn own_entries(&mut self) -> Result<Option<(Vec<PackEntry>, u64)>, RepositoryError> {
        let size = self.repository.storage().size(&self.name).await;
        let size = size.map_err(RepositoryError::from);
        let read = match size {
            Ok(size) => self.repository.find_pack_header(&self.pack, size).await.map(|entries| (entries, size)),
            Err(error) => Err(error),
        };
        match read {
            Ok(own) => Ok(Some(own)),
            Err(error) => {
                self.findings.push(Finding::of_error(FindingKind::PackHeader, self.name.clone(), error)?);
                Ok(None)
            }
        }
    }

    fn compare(&mut self, expected: &[PackEntry], own: &[PackEntry]) {
        let mut findings = std::mem::take(&mut self.findings);
        compare(&self.name, expected, own, &mut findings);
        self.findings = findings;
    }

    async fn read(mut self, work: Arc<Work>) -> Result<Vec<Finding>, RepositoryError> {
        let findings = std::mem::take(&mut self.findings);
        let mut progress = Progress { digest: Sha256::new(), findings };
        let mut pieces = cut(&work.entries, work.length).into_iter();
        let mut current = pieces.next();
        let mut fetched = self.fetch_some(current.as_ref()).await;
        while let (Some(piece), Some(result)) = (current.take(), fetched.take()) {
            let held = match result {
                Ok(held) => held,
                Err(error) => {
                    progress.findings.push(unreadable(&self.name, error)?);
                    return Ok(progress.findings.finish());
                }
            };
            current = pieces.next();
            let work = work.clone();
            let check = self.resources.compute(move || progress.check(&work, &piece, held));
            let (checked, next) = futures::join!(check, self.fetch_some(current.as_ref()));
            (progress, fetched) = (checked?, next);
        }
        progress.check_digest(&self.name, &self.pack);
        Ok(progress.findings.finish())
    }

    async fn fetch_some(&self, piece: Option<&Piece>) -> Option<Result<Held, RepositoryError>> {
        match piece {
            Some(piece) => Some(self.fetch(piece).await),
            None => None,
        }
    }

    async fn fetch(&self, piece: &Piece) -> Result<Held, RepositoryError> {
        let permit = self.resources.reserve(piece.bytes.end - piece.bytes.start).await?;
        let bytes = self.repository.storage().get(&self.name, Some(piece.bytes.clone())).await?;
        Ok(Held { bytes, _permit: permit })
    }
}

impl Progress {
    /// Hashes a piece and opens its blobs.
    fn check(mut self, work: &Work, piece: &Piece, held: Held) -> Self {
        let mut rest = held.bytes.clone();
        for entry in &work.entries[piece.entries.clone()] {
            let sealed = rest.split_to(entry.length as usize);
            self.digest.update(&sealed);
            if let Err(damage) = open(&work.key, entry, sealed) {
                self.findings.push(Finding::new(FindingKind::BlobDamaged, &*work.name, chain(&damage)));
            }
        }
        self.digest.update(&rest);
        if piece.bytes.end == work.length {
            self.check_header(work, &rest);
        }
        self
    }

    /// `tail` is what follows the blobs.
    fn check_header(&mut self, work: &Work, tail: &[u8]) {
        let open = || {
            let length = sealed_header_length(tail, work.length)? as usize;
            let end = tail.len() - TRAILER_LENGTH;
            // One that is longer than what follows the blobs does not open, or tells of other blobs.
            open_header(&work.key, &tail[end.saturating_sub(length)..end], work.length)
        };
        match open() {
            Ok(own) => compare(&work.name, &work.entries, &own, &mut self.findings),
            Err(error) => self.findings.push(Finding::new(FindingKind::PackHeader, &*work.name, chain(&error))),
        }
    }

    fn check_digest(&mut self, name: &str, pack: &Id) {
        let actual = Id::from_bytes(std::mem::take(&mut self.digest).finalize().into());
        if actual != *pack {
            let detail = format!("the content has the digest {actual}");
            self.findings.push(Finding::new(FindingKind::PackDigest, name, detail));
        }
    }
}

fn unreadable(name: &str, error: RepositoryError) -> Result<Finding, RepositoryError> {
    match error {
        RepositoryError::Storage(error)
            if matches!(error.kind, StorageErrorKind::NotFound | StorageErrorKind::OutOfRange) =>
        {
            Ok(Finding::new(FindingKind::PackUnreadable, name, "it is not there, or shorter than by the index"))
        }
        error => Finding::of_error(FindingKind::PackUnreadable, name.to_owned(), error),
    }
}

fn open(key: &MasterKey, entry: &PackEntry, sealed: Bytes) -> Result<(), DamagedBlob> {
    if entry.plain_length() <= HELD_PLAIN_BYTES_MAX {
        return open_blob(key, entry, &sealed).map(drop);
    }
    let mut reader = BlobReader::new(key, entry.kind, entry.id, sealed, entry.uncompressed_length.is_some())?;
    let expected = u64::from(entry.plain_length());
    let damage = match drain(&mut reader) {
        Ok(actual) if actual == expected => return Ok(()),
        Ok(actual) => Damage::WrongLength { expected, actual },
        // What the reader says is a `DamagedBlob` in an error of its own.
        Err(error) => match error.downcast::<DamagedBlob>() {
            Ok(damaged) => return Err(damaged),
            Err(error) => Damage::Compressed(error),
        },
    };
    Err(DamagedBlob { kind: entry.kind, id: entry.id, damage })
}

/// Reads to the end, where the content is checked; gives the number of bytes.
pub(super) fn drain(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let read = reader.fill_buf()?.len();
        if read == 0 {
            return Ok(bytes);
        }
        bytes += read as u64;
        reader.consume(read);
    }
}

fn is_without_gaps(entries: &[PackEntry]) -> bool {
    let mut end = 0;
    entries.iter().all(|entry| {
        let fits = u64::from(entry.offset) == end;
        end = entry.range().end;
        fits
    })
}

/// Cuts a pack between its blobs, which leave no gaps. The last piece holds the header too.
fn cut(entries: &[PackEntry], length: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece = Piece { bytes: 0..0, entries: 0..0 };
    for (number, entry) in entries.iter().enumerate() {
        if piece.bytes.end - piece.bytes.start >= PIECE_BYTES {
            let next = Piece { bytes: piece.bytes.end..piece.bytes.end, entries: number..number };
            pieces.push(std::mem::replace(&mut piece, next));
        }
        piece.bytes.end = entry.range().end;
        piece.entries.end = number + 1;
    }
    piece.bytes.end = length;
    pieces.push(piece);
    pieces
}

/// Tells of the blobs that only the header or only the index knows.
fn compare(name: &str, expected: &[PackEntry], own: &[PackEntry], findings: &mut FileFindings) {
    if expected == own {
        return;
    }
    let key = |entry: &PackEntry| (entry.offset, entry.length, entry.kind, entry.id, entry.uncompressed_length);
    let sorted = |entries: &[PackEntry]| {
        let mut entries = entries.to_vec();
        entries.sort_unstable_by_key(key);
        entries
    };
    let (expected, own) = (sorted(expected), sorted(own));
    for (these, those, what) in
        [(&own, &expected, "the header, not in the index"), (&expected, &own, "the index, not in the header")]
    {
        for entry in these.iter().filter(|entry| those.binary_search_by_key(&key(entry), key).is_err()) {
            let detail = format!("{} blob {} at {:?} is in {what}", entry.kind, entry.id, entry.range());
            findings.push(Finding::new(FindingKind::PackHeaderDiffers, name, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::pack::BlobType;

    proptest! {
        #[test]
        fn pieces_tile_the_pack(lengths in prop::collection::vec(32..20_000_000u32, 0..30)) {
            let mut entries = Vec::new();
            let mut offset = 0;
            for length in lengths {
                let id = Id::of(&[]);
                entries.push(PackEntry { kind: BlobType::Data, id, offset, length, uncompressed_length: None });
                offset += length;
            }
            prop_assert!(is_without_gaps(&entries));
            let length = pack_length(&entries);
            let pieces = cut(&entries, length);
            let (mut end, mut number) = (0, 0);
            for piece in &pieces {
                prop_assert_eq!(piece.bytes.start, end);
                prop_assert_eq!(piece.entries.start, number);
                let blobs: u64 = entries[piece.entries.clone()].iter().map(|entry| u64::from(entry.length)).sum();
                let header = if piece.entries.end == entries.len() { length - u64::from(offset) } else { 0 };
                prop_assert_eq!(piece.bytes.end - piece.bytes.start, blobs + header);
                let without_last: u64 = entries[piece.entries.clone()].iter().rev().skip(1).map(|entry| u64::from(entry.length)).sum();
                prop_assert!(without_last < PIECE_BYTES);
                (end, number) = (piece.bytes.end, piece.entries.end);
            }
            prop_assert_eq!((end, number), (length, entries.len()));
            if entries.len() > 1 {
                entries.remove(0);
                prop_assert!(!is_without_gaps(&entries));
            }
        }
    }
}
