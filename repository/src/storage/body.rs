//! What is put into an object: bytes in memory, or a spooled file.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

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
