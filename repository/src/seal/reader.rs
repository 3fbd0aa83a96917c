//! Reads a blob piece by piece, so that the tree of a million entries is never held decompressed.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use proto::id::Id;
use sha2::{Digest, Sha256};

use super::{Damage, DamagedBlob};
use crate::crypto::{MasterKey, OpenReader};
use crate::format::pack::BlobType;

/// Plain bytes that are held at a time.
const BUFFER_LENGTH: usize = 64 * 1024;

/// The plain bytes of a sealed blob. The seal is checked before the first byte; that the content is
/// the one its id names, before the end: a reader that does not go on until the end of the file has
/// not checked that (only a writer's mistake can be found there, not damage).
///
/// Its errors hold a [`DamagedBlob`].
pub struct BlobReader {
    kind: BlobType,
    id: Id,
    source: Source,
    /// `None` once the content was checked.
    digest: Option<Sha256>,
    buffer: Vec<u8>,
    filled: usize,
    consumed: usize,
}

enum Source {
    Plain(OpenReader),
    Compressed(zstd::Decoder<'static, OpenReader>),
}

impl BlobReader {
    /// Checks the seal. The plain length need not be known.
    ///
    /// # Errors
    /// If the seal does not open, or for want of memory.
    pub fn new(
        key: &MasterKey,
        kind: BlobType,
        id: Id,
        sealed: Bytes,
        is_compressed: bool,
    ) -> Result<Self, DamagedBlob> {
        let damaged = |damage| DamagedBlob { kind, id, damage };
        let open = OpenReader::new(key, sealed).map_err(Damage::Sealed).map_err(damaged)?;
        let source = if is_compressed {
            Source::Compressed(zstd::Decoder::with_buffer(open).map_err(Damage::Compressed).map_err(damaged)?)
        } else {
            Source::Plain(open)
        };
        let buffer = vec![0; BUFFER_LENGTH];
        Ok(Self { kind, id, source, digest: Some(Sha256::new()), buffer, filled: 0, consumed: 0 })
    }

    fn damaged(&self, damage: Damage) -> io::Error {
        let error = DamagedBlob { kind: self.kind, id: self.id, damage };
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    fn check_content(&mut self) -> io::Result<()> {
        let Some(digest) = self.digest.take() else { return Ok(()) };
        let actual = Id::from_bytes(digest.finalize().into());
        if actual == self.id { Ok(()) } else { Err(self.damaged(Damage::WrongContent { actual })) }
    }
}

impl BufRead for BlobReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.consumed == self.filled {
            let read = match &mut self.source {
                Source::Plain(open) => open.read(&mut self.buffer),
                Source::Compressed(decoder) => decoder.read(&mut self.buffer),
            };
            self.filled = read.map_err(|error| self.damaged(Damage::Compressed(error)))?;
            self.consumed = 0;
            if self.filled == 0 {
                self.check_content()?;
            } else if let Some(digest) = &mut self.digest {
                digest.update(&self.buffer[..self.filled]);
            }
        }
        Ok(&self.buffer[self.consumed..self.filled])
    }

    fn consume(&mut self, amount: usize) {
        self.consumed = (self.consumed + amount).min(self.filled);
    }
}

impl Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}
