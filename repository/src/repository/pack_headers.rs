//! Reads the headers of packs: what is in them by their own account.

use proto::id::Id;

use super::error::is_missing;
use super::{FileDamage, FileKind, Repository, RepositoryError, work_on};
use crate::format::pack::{FIRST_READ_LENGTH, PackEntry, PackError, TRAILER_LENGTH, open_header, sealed_header_length};

const TRAILER: u64 = TRAILER_LENGTH as u64;

impl Repository {
    /// The entries of a pack of `size` bytes whose sealed header has `header_bytes`, in one request.
    ///
    /// That the pack fills exactly `size` bytes is proven by the header. What somebody appended to
    /// a whole pack is not seen: such a file does not have its digest as name.
    ///
    /// # Errors
    /// `NotAsReported` if it is not there, shorter or longer, or its header is another; `Storage`.
    pub async fn read_pack_header(
        &self,
        pack: &Id,
        size: u64,
        header_bytes: u32,
    ) -> Result<Vec<PackEntry>, RepositoryError> {
        let tail = self.read_pack_tail(pack, size, u64::from(header_bytes) + TRAILER).await?;
        let actual = sealed_header_length(&tail, size).map_err(|error| self.not_as_reported(pack, error))?;
        if actual != header_bytes {
            let error = PackError::BadHeaderLength { header_length: actual, pack_length: size };
            return Err(self.not_as_reported(pack, error));
        }
        self.open_pack_header(pack, size, tail, actual).await
    }

    /// The entries of a pack of `size` bytes, in one request, or two if there are many.
    ///
    /// # Errors
    /// `NotAsReported` if it is not there, shorter or longer, or not a pack; `Storage`.
    pub async fn find_pack_header(&self, pack: &Id, size: u64) -> Result<Vec<PackEntry>, RepositoryError> {
        let mut tail = self.read_pack_tail(pack, size, FIRST_READ_LENGTH.min(size)).await?;
        let header_bytes = sealed_header_length(&tail, size).map_err(|error| self.not_as_reported(pack, error))?;
        if u64::from(header_bytes) + TRAILER > tail.len() as u64 {
            tail = self.read_pack_tail(pack, size, u64::from(header_bytes) + TRAILER).await?;
        }
        self.open_pack_header(pack, size, tail, header_bytes).await
    }

    async fn read_pack_tail(&self, pack: &Id, size: u64, length: u64) -> Result<bytes::Bytes, RepositoryError> {
        let Some(start) = size.checked_sub(length) else {
            return Err(self.not_as_reported(pack, PackError::TooShort { length: size }));
        };
        match self.storage().get(&FileKind::Pack.name(pack), Some(start..size)).await {
            Ok(tail) => Ok(tail),
            Err(error) if is_missing(&error) => Err(self.not_as_reported(pack, FileDamage::Missing(error))),
            Err(error) => Err(error.into()),
        }
    }

    async fn open_pack_header(
        &self,
        pack: &Id,
        size: u64,
        tail: bytes::Bytes,
        header_bytes: u32,
    ) -> Result<Vec<PackEntry>, RepositoryError> {
        let key = self.master_key().clone();
        let open = move || {
            let end = tail.len() - TRAILER_LENGTH;
            open_header(&key, &tail[end - header_bytes as usize..end], size)
        };
        work_on(header_bytes as usize, open).await?.map_err(|error| self.not_as_reported(pack, error))
    }

    fn not_as_reported(&self, pack: &Id, damage: impl Into<FileDamage>) -> RepositoryError {
        let source = Box::new(damage.into());
        RepositoryError::NotAsReported { name: FileKind::Pack.name(pack), location: self.location(), source }
    }
}
