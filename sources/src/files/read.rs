//! An open regular file.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use rustix::fd::{AsFd, OwnedFd};

use super::metadata::{MetadataReader, basic};
use crate::source::{FileKind, Metadata, OpenFile, SourceError, SourceErrorKind};

/// A file of this host.
pub(super) struct LocalFile {
    file: File,
    path: Vec<u8>,
}

impl LocalFile {
    /// Takes a descriptor that was opened for reading; refuses what is not a regular file.
    pub(super) fn new(descriptor: OwnedFd, path: &[u8]) -> Result<Self, SourceError> {
        let stat = rustix::fs::fstat(&descriptor).map_err(|errno| SourceError::from_io("open", path, errno.into()))?;
        if basic(&stat).kind != FileKind::File {
            let explanation = "it is no longer a regular file";
            return Err(SourceError::new(SourceErrorKind::Changed, "open", path, explanation));
        }
        Ok(Self { file: descriptor.into(), path: path.to_vec() })
    }
}

impl OpenFile for LocalFile {
    fn metadata(&self) -> Result<Metadata, SourceError> {
        MetadataReader::default()
            .read_open(self.file.as_fd(), &self.path)
            .map_err(|error| SourceError::from_io("stat", &self.path, error))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(SourceError::from_io("read", &self.path, error)),
            }
        }
        Ok(filled)
    }
}
