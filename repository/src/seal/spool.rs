//! Seals a blob that is too large for memory, while it is written, into an unnamed temporary file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use proto::id::Id;
use sha2::{Digest, Sha256};

use super::{BLOB_LENGTH_MAX, SealError, SealedBlob, Sealer};
use crate::crypto::SealWriter;
use crate::format::pack::BlobType;

/// Sealed bytes that are gathered before they go to the file.
const BUFFER_LENGTH: usize = 256 * 1024;

/// A blob in the making: write the plain bytes, then [`BlobSpool::finish`].
pub struct BlobSpool {
    kind: BlobType,
    digest: Sha256,
    plain_length: u64,
    sink: Sink,
}

enum Sink {
    Plain(SealWriter<BufWriter<File>>),
    Compressed(zstd::Encoder<'static, SealWriter<BufWriter<File>>>),
}

/// A sealed blob in a temporary file, which goes away with it.
#[derive(Debug)]
pub struct SpooledBlob {
    /// Data or tree.
    pub kind: BlobType,
    /// Digest of the plain bytes.
    pub id: Id,
    /// Length of the plain bytes.
    pub plain_length: u32,
    /// Length of the sealed bytes, which begin at the start of the file.
    pub sealed_length: u32,
    /// Whether the sealed bytes are a zstd frame.
    pub is_compressed: bool,
    /// The file; its write position is behind the sealed bytes.
    pub(crate) file: File,
    /// SHA-256 of the sealed bytes, not yet closed.
    pub(crate) sealed_digest: Sha256,
}

impl BlobSpool {
    /// Begins a blob; its temporary file is made in `folder`.
    ///
    /// # Errors
    /// `Spool`, `Compress`.
    pub fn new(sealer: &Sealer, kind: BlobType, folder: &Path) -> Result<Self, SealError> {
        let spool = |action| move |source| SealError::Spool { action, source };
        let file = tempfile::tempfile_in(folder).map_err(spool("create"))?;
        let output = BufWriter::with_capacity(BUFFER_LENGTH, file);
        let writer = SealWriter::new(sealer.key(), output, sealer.random()).map_err(spool("write"))?;
        let sink = match sealer.blob_level(kind) {
            None => Sink::Plain(writer),
            Some(level) => {
                let encoder = zstd::Encoder::new(writer, level);
                Sink::Compressed(encoder.map_err(|source| SealError::Compress { length: 0, source })?)
            }
        };
        Ok(Self { kind, digest: Sha256::new(), plain_length: 0, sink })
    }

    /// Closes the blob.
    ///
    /// # Errors
    /// `Spool`; `Empty` if nothing was written; `TooLarge`.
    pub fn finish(self) -> Result<SpooledBlob, SealError> {
        let Self { kind, digest, plain_length, sink } = self;
        if plain_length == 0 {
            return Err(SealError::Empty);
        }
        let is_compressed = matches!(sink, Sink::Compressed(_));
        let spool = |source| SealError::Spool { action: "write", source };
        let writer = match sink {
            Sink::Plain(writer) => writer,
            Sink::Compressed(encoder) => encoder.finish().map_err(spool)?,
        };
        let sealed = writer.finish().map_err(spool)?;
        let file = sealed.output.into_inner().map_err(|error| spool(error.into_error()))?;
        Ok(SpooledBlob {
            kind,
            id: Id::from_bytes(digest.finalize().into()),
            plain_length: plain_length.try_into().map_err(|_| SealError::TooLarge)?,
            sealed_length: sealed.sealed_length.try_into().map_err(|_| SealError::TooLarge)?,
            is_compressed,
            file,
            sealed_digest: sealed.digest,
        })
    }
}

impl Write for BlobSpool {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        if self.plain_length + plain.len() as u64 > BLOB_LENGTH_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, SealError::TooLarge));
        }
        let written = match &mut self.sink {
            Sink::Plain(writer) => writer.write(plain)?,
            Sink::Compressed(encoder) => encoder.write(plain)?,
        };
        self.digest.update(&plain[..written]);
        self.plain_length += written as u64;
        Ok(written)
    }

    /// Does nothing: a flush in the middle would only make the frame larger.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpooledBlob {
    /// Takes a blob that turned out small back into memory, so that it can share a pack.
    ///
    /// # Errors
    /// `Spool` if the file cannot be read.
    pub fn read_back(self) -> Result<SealedBlob, SealError> {
        let mut bytes = vec![0; self.sealed_length as usize];
        let read = self.file.read_exact_at(&mut bytes, 0);
        read.map_err(|source| SealError::Spool { action: "read", source })?;
        let Self { kind, id, plain_length, is_compressed, .. } = self;
        Ok(SealedBlob { kind, id, bytes: bytes.into(), plain_length, is_compressed })
    }
}
