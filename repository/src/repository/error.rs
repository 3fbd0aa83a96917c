//! Why the repository cannot be used, by what a caller would do about it.

use proto::id::Id;

use super::FileKind;
use crate::chunker::PolynomialError;
use crate::format::config::ConfigError;
use crate::format::index::IndexError;
use crate::format::json::Malformed;
use crate::format::key::KeyFileError;
use crate::format::pack::{BlobType, PackError};
use crate::seal::{Damage, DamagedBlob, SealError};
use crate::storage::{StorageError, StorageErrorKind};

/// An error of a repository. File names are relative to the repository's root.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nobody made a repository there.
    #[error("there is no repository in {location}")]
    NoRepository {
        /// The storage, without secrets.
        location: String,
    },
    /// A new repository was wanted where there is one, or what is left of one.
    #[error("there is a repository in {location} already: {name} exists")]
    Exists {
        /// The storage, without secrets.
        location: String,
        /// A file that only a repository has.
        name: String,
    },
    /// No key was opened by the password.
    #[error("the password opens none of the {tried} keys of {location}{}", untried_note(*.untried))]
    WrongPassword {
        /// The storage, without secrets.
        location: String,
        /// Keys that were tried.
        tried: usize,
        /// Keys that were not, because there are too many. A hint chooses which come first.
        untried: usize,
    },
    /// A key file was made by another program in a way that is not known here, where restic refuses such a repository
    /// too; or there are no means to try the password.
    #[error("{name} in {location} is a key that cannot be used")]
    ForeignKey {
        /// The key file.
        name: String,
        /// The storage, without secrets.
        location: String,
        /// What is unknown about it, or lacks.
        source: KeyFileError,
    },
    /// A file does not hold what was written, or is gone although others refer to it.
    #[error("{name} in {location} is damaged")]
    Damaged {
        /// The file.
        name: String,
        /// The storage, without secrets.
        location: String,
        /// What is wrong with it.
        source: Box<FileDamage>,
    },
    /// A pack is not the one that was reported: not there, of another length, or with another
    /// header. The storage is well.
    #[error("{name} in {location} is not the pack that was reported")]
    NotAsReported {
        /// The pack.
        name: String,
        /// The storage, without secrets.
        location: String,
        /// What is wrong with it.
        source: Box<FileDamage>,
    },
    /// No index file that was loaded names this blob.
    #[error("{kind} blob {id} is in no pack that the index knows")]
    BlobMissing {
        /// Data or tree.
        kind: BlobType,
        /// The blob.
        id: Id,
    },
    /// A file that was asked for by its id, or a private object, is not there.
    #[error("{name} is not in {location}")]
    NotFound {
        /// The file.
        name: String,
        /// The storage, without secrets.
        location: String,
    },
    /// No file has an id that begins like this.
    #[error("no {kind} begins with {prefix:?}")]
    UnknownId {
        /// What was looked for.
        kind: FileKind,
        /// What the user wrote.
        prefix: String,
    },
    /// More than one file has an id that begins like this.
    #[error("{matches} {kind}s begin with {prefix:?}: write more of the id")]
    AmbiguousId {
        /// What was looked for.
        kind: FileKind,
        /// What the user wrote.
        prefix: String,
        /// How many.
        matches: usize,
    },
    /// The repository has format version 1, which is only read.
    #[error("the repository in {location} has format version 1: run `restic migrate upgrade_repo_v2` to write to it")]
    VersionOne {
        /// The storage, without secrets.
        location: String,
    },
    /// Another program's settings would have to be obeyed by a writer.
    #[error("the repository in {location} has settings of another program that a writer must obey: {settings}")]
    ForeignSettings {
        /// The storage, without secrets.
        location: String,
        /// Their names in the configuration, with commas.
        settings: String,
    },
    /// A private object of that name exists; it may be one's own, after a lost answer.
    #[error("{name} exists in {location} already")]
    AlreadyThere {
        /// The object.
        name: String,
        /// The storage, without secrets.
        location: String,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Something could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A new key could not be made: randomness is broken.
    #[error("make a key")]
    NewKey(#[source] KeyFileError),
    /// A new polynomial could not be made: randomness is broken.
    #[error("make a chunker polynomial")]
    NewPolynomial(#[source] PolynomialError),
    /// The process is ending.
    #[error("the program is shutting down")]
    Stopping,
}

fn untried_note(untried: usize) -> String {
    match untried {
        0 => String::new(),
        more => format!("; {more} more were not tried: give a key hint"),
    }
}

/// What is wrong with a file of the repository.
#[derive(Debug, thiserror::Error)]
pub enum FileDamage {
    /// The name is the digest of something else.
    #[error("the content has the digest {actual}")]
    WrongDigest {
        /// Digest of what is there.
        actual: Id,
    },
    /// It does not open or decompress.
    #[error(transparent)]
    Sealed(#[from] Damage),
    /// A blob in it.
    #[error(transparent)]
    Blob(#[from] DamagedBlob),
    /// It opens and is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is no key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// It opens and is no index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It opens and is no snapshot.
    #[error("it is not a snapshot")]
    Snapshot(#[from] Malformed),
    /// Its header is not that of a pack.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// It is not there, or shorter than others say.
    #[error("it is not there, or cut off")]
    Missing(#[source] StorageError),
}

impl RepositoryError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_transient())
    }

    /// Whether the repository has lost something that was written to it.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::BlobMissing { .. } | Self::NotAsReported { .. })
    }
}

/// Whether the object is not there, or not as long as it should be.
pub(crate) fn is_missing(error: &StorageError) -> bool {
    matches!(error.kind, StorageErrorKind::NotFound | StorageErrorKind::OutOfRange)
}
