//! Reads files and cuts them into chunks, on blocking threads.

use std::sync::Arc;

use proto::id::Id;
use repository::chunker::{Chunker, Cutter, MIN_SIZE};
use sources::source::{Metadata, OpenFile, Source, SourceError};

use crate::dedupe::NewBlob;
use crate::job::new_blob;
use crate::walk::Entry;

/// Bytes that are read from a long file in one go.
const READ_BYTES: usize = 8 << 20;

/// The chunk of zeros at which runs of zeros are cut (FORMAT 9); recognised, not hashed.
const ZERO_CHUNK: Id = Id::from_bytes([
    0x07, 0x85, 0x4d, 0x2f, 0xef, 0x29, 0x7a, 0x06, 0xba, 0x81, 0x68, 0x5e, 0x66, 0x0c, 0x33, 0x2d, 0xe3, 0x6d, 0x5d,
    0x18, 0xd5, 0x46, 0x92, 0x7d, 0x30, 0xda, 0xad, 0x6d, 0x7f, 0xda, 0x15, 0x41,
]);

/// The id of a chunk.
pub(crate) fn chunk_id(plain: &[u8]) -> Id {
    if plain.len() == MIN_SIZE && is_zero(plain) { ZERO_CHUNK } else { Id::of(plain) }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Makes a buffer so long. What is behind its content is of no account, and yet has to be something: copied zeros cost
/// next to nothing in builds that are not optimised, too.
pub(crate) fn lengthen(buffer: &mut Vec<u8>, length: usize) {
    const ZEROS: &[u8] = &[0; 64 << 10];
    buffer.reserve(length.saturating_sub(buffer.len()));
    while buffer.len() < length {
        buffer.extend_from_slice(&ZEROS[..ZEROS.len().min(length - buffer.len())]);
    }
}

/// A file that was read whole.
pub(crate) struct ReadFile {
    /// As `fstat` said before the first byte was read.
    pub(crate) metadata: Metadata,
    pub(crate) chunks: Vec<NewBlob>,
    pub(crate) bytes: u64,
}

/// Reads a short file whole.
pub(crate) fn read_whole(source: &dyn Source, chunker: &Chunker, entry: &Entry) -> Result<ReadFile, SourceError> {
    let mut reader = FileReader::open(source, chunker, entry)?;
    let mut chunks = Vec::new();
    while let Some(more) = reader.next_chunks()? {
        chunks.extend(more);
    }
    Ok(ReadFile { metadata: reader.metadata, chunks, bytes: reader.offset })
}

/// Reads a file piece by piece.
pub(crate) struct FileReader {
    file: Box<dyn OpenFile>,
    /// As `fstat` said before the first byte was read.
    pub(crate) metadata: Metadata,
    cutter: Cutter,
    /// Bytes from the start of the current chunk on.
    pending: Vec<u8>,
    /// Bytes read so far.
    pub(crate) offset: u64,
    ended: bool,
}

impl FileReader {
    pub(crate) fn open(source: &dyn Source, chunker: &Chunker, entry: &Entry) -> Result<Self, SourceError> {
        let file = source.open(&entry.source, &entry.metadata)?;
        let metadata = file.metadata()?;
        Ok(Self { file, metadata, cutter: chunker.cutter(), pending: Vec::new(), offset: 0, ended: false })
    }

    /// Where the chunks that were given out end.
    pub(crate) fn cut_at(&self) -> u64 {
        self.offset - self.pending.len() as u64
    }

    /// Reads on, and gives the chunks that are complete; `None` behind the last one.
    pub(crate) fn next_chunks(&mut self) -> Result<Option<Vec<NewBlob>>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        let kept = self.pending.len();
        // One byte more than the file is said to have tells its end in the same call.
        let expected = self.metadata.size.saturating_sub(self.offset).saturating_add(1);
        let wanted = usize::try_from(expected).unwrap_or(usize::MAX).clamp(512, READ_BYTES);
        lengthen(&mut self.pending, kept + wanted);
        let read = self.file.read_at(self.offset, &mut self.pending[kept..])?;
        self.pending.truncate(kept + read);
        self.offset += read as u64;
        self.ended = read < wanted;
        let (mut start, mut chunks) = (0, Vec::new());
        while let Some(length) = self.cutter.next_cut(&self.pending[start..], self.ended) {
            chunks.push(new_blob(&self.pending[start..start + length]));
            start += length;
        }
        self.pending.drain(..start);
        Ok(Some(chunks))
    }
}

/// Reads all entries of `entries` that must be read; one answer per entry, `None` where nothing had to be.
pub(crate) fn read_batch(
    source: &Arc<dyn Source>,
    chunker: &Chunker,
    entries: &[&Entry],
) -> Vec<Result<ReadFile, SourceError>> {
    entries.iter().map(|entry| read_whole(&**source, chunker, entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_what_it_held() {
        for length in [0, 3, 4, 70_000, 200_000] {
            let mut buffer = vec![1, 2, 3];
            lengthen(&mut buffer, length);
            assert_eq!((buffer.len(), &buffer[..3]), (length.max(3), &[1, 2, 3][..]));
        }
    }

    #[test]
    fn the_zero_chunk_is_the_digest_of_its_zeros() {
        let zeros = vec![0; MIN_SIZE];
        assert_eq!(chunk_id(&zeros), Id::of(&zeros));
        let mut almost = zeros;
        almost[MIN_SIZE - 1] = 1;
        assert_ne!(chunk_id(&almost), ZERO_CHUNK);
    }
}
