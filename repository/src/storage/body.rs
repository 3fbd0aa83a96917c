//! What is put into an object: bytes in memory, or a spooled file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// The content of a new object. Cheap to clone, so that a put can be tried again.
#[derive(Clone, Debug)]
pub enum Body {
    /// Pieces in a row.
    Memory(Vec<Bytes>),
    /// The first `len` bytes of an unnamed temporary file.
    Spooled {
        /// Read with positioned reads only.
        file: Arc<File>,
        /// Length in bytes.
        len: u64,
    },
}

impl Body {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Self::Spooled { len, .. } => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`. Does not copy what lies in one piece in memory; reads a spooled file,
    /// which blocks.
    ///
    /// # Errors
    /// `InvalidInput` if `range` does not lie inside; `UnexpectedEof` if the spooled file is
    /// shorter than it is said to be; what reading that file gives.
    pub fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start > range.end || range.end > self.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the range does not lie inside the body"));
        }
        match self {
            Self::Memory(pieces) => Ok(gather(pieces, range)),
            Self::Spooled { file, .. } => {
                let mut buffer = BytesMut::zeroed(usize::try_from(range.end - range.start).map_err(io::Error::other)?);
                file.read_exact_at(&mut buffer, range.start)?;
                Ok(buffer.freeze())
            }
        }
    }
}

/// The bytes of `range`, which lies inside the pieces.
fn gather(pieces: &[Bytes], range: Range<u64>) -> Bytes {
    let mut parts = Vec::new();
    let mut offset = 0;
    for piece in pieces {
        let end = offset + piece.len() as u64;
        let from = range.start.max(offset);
        let to = range.end.min(end);
        if from < to {
            parts.push(piece.slice((from - offset) as usize..(to - offset) as usize));
        }
        offset = end;
    }
    match parts.len() {
        0 => Bytes::new(),
        1 => parts.swap_remove(0),
        _ => parts.concat().into(),
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(vec![bytes])
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(vec![bytes.into()])
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_range_of_any_body_is_what_a_slice_gives(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let whole = pieces.concat();
            let (a, b) = (ends.0.index(whole.len() + 1), ends.1.index(whole.len() + 1));
            let (start, end) = (a.min(b), a.max(b));
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&whole).unwrap();
            file.write_all(b"what follows is not part of it").unwrap();
            let spooled = Body::Spooled { file: Arc::new(file), len: whole.len() as u64 };
            let memory = Body::Memory(pieces.into_iter().map(Bytes::from).collect());
            for body in [memory, spooled] {
                prop_assert_eq!(body.len(), whole.len() as u64);
                prop_assert_eq!(&body.read(start as u64..end as u64).unwrap()[..], &whole[start..end]);
                prop_assert!(body.read(0..body.len() + 1).is_err());
            }
        }
    }

    #[test]
    fn a_spooled_file_that_is_too_short_is_an_error() {
        let body = Body::Spooled { file: Arc::new(tempfile::tempfile().unwrap()), len: 1 };
        assert_eq!(body.read(0..1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
