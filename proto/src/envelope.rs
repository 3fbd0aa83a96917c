//! The envelope round every task and report: version, whose it is, until when it holds, and a tag.
//!
//! MessagePack with named fields. What is signed is the inner bytes exactly as they travel.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::auth::MessageKey;
use crate::handles::UnixTime;
use crate::id::{Id, JobId};

/// Raised when an older reader could not understand a message.
pub const SCHEMA_MAJOR: u16 = 1;
/// Raised when a field is added.
pub const SCHEMA_MINOR: u16 = 0;
/// No message is longer.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// What a message says beside its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Additive changes.
    pub minor: u16,
    /// The repository.
    pub repository: Id,
    /// The job.
    pub job: JobId,
    /// Not to be acted upon later than this.
    pub expires_at: UnixTime,
    /// The task or report.
    pub body: T,
}

#[derive(Serialize, Deserialize)]
struct Signed<'a> {
    major: u16,
    #[serde(borrow, with = "serde_bytes_slice")]
    inner: &'a [u8],
    #[serde(borrow, with = "serde_bytes_slice")]
    tag: &'a [u8],
}

mod serde_bytes_slice {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

/// Why a message was not accepted. [`EnvelopeError::reason`] is the short code of dead letters.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("the message has {bytes} bytes, more than {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not MessagePack of this shape.
    #[error("the message cannot be decoded: {message}")]
    Malformed {
        /// What the decoder says.
        message: String,
    },
    /// From a release that this one does not understand.
    #[error("the message has schema {major}, this release reads {SCHEMA_MAJOR}")]
    Schema {
        /// Its major version.
        major: u16,
    },
    /// Not signed with this repository's key.
    #[error("the message is not signed by a member of this repository's fleet")]
    NotAuthentic,
    /// For another repository.
    #[error("the message is for repository {repository}")]
    OtherRepository {
        /// Whose it is.
        repository: Id,
    },
    /// Too old.
    #[error("the message expired")]
    Expired,
}

impl EnvelopeError {
    /// Short code for headers and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "size",
            Self::Malformed { .. } => "malformed",
            Self::Schema { .. } => "schema",
            Self::NotAuthentic => "auth",
            Self::OtherRepository { .. } => "repository",
            Self::Expired => "expired",
        }
    }
}

/// What an envelope says of itself, **not verified**: for people and brokers only.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Outline {
    /// The job.
    pub job: JobId,
    /// What stands in its body.
    #[serde(default)]
    pub body: BodyOutline,
}

/// What the body of an envelope says of itself, not verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct BodyOutline {
    /// The round, if it is a task.
    #[serde(default)]
    pub round: Option<u32>,
}

impl Outline {
    /// Reads what can be read without a key; `None` if `bytes` are no envelope.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let signed: Signed<'_> = rmp_serde::from_slice(bytes).ok()?;
        rmp_serde::from_slice(signed.inner).ok()
    }
}

impl<T: Serialize> Envelope<T> {
    /// Bytes for the wire.
    ///
    /// # Errors
    /// `TooLong`: the body belongs into a sealed object.
    pub fn seal(&self, key: &MessageKey) -> Result<Vec<u8>, EnvelopeError> {
        let malformed = |error: rmp_serde::encode::Error| EnvelopeError::Malformed { message: error.to_string() };
        let inner = rmp_serde::to_vec_named(self).map_err(malformed)?;
        let signed = Signed { major: SCHEMA_MAJOR, inner: &inner, tag: &key.sign(&inner) };
        let bytes = rmp_serde::to_vec_named(&signed).map_err(malformed)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(EnvelopeError::TooLong { bytes: bytes.len() });
        }
        Ok(bytes)
    }
}

impl<T: DeserializeOwned> Envelope<T> {
    /// Reads and verifies a message from the wire.
    ///
    /// # Errors
    /// Everything in [`EnvelopeError`], checked in that order; nothing is believed before the tag.
    pub fn open(bytes: &[u8], key: &MessageKey, repository: &Id, now: UnixTime) -> Result<Self, EnvelopeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(EnvelopeError::TooLong { bytes: bytes.len() });
        }
        let malformed = |error: rmp_serde::decode::Error| EnvelopeError::Malformed { message: error.to_string() };
        let signed: Signed<'_> = rmp_serde::from_slice(bytes).map_err(malformed)?;
        if signed.major != SCHEMA_MAJOR {
            return Err(EnvelopeError::Schema { major: signed.major });
        }
        if !key.verify(signed.inner, signed.tag) {
            return Err(EnvelopeError::NotAuthentic);
        }
        let envelope: Self = rmp_serde::from_slice(signed.inner).map_err(malformed)?;
        if envelope.repository != *repository {
            return Err(EnvelopeError::OtherRepository { repository: envelope.repository });
        }
        if envelope.expires_at < now {
            return Err(EnvelopeError::Expired);
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(body: &str) -> Envelope<String> {
        Envelope {
            minor: SCHEMA_MINOR,
            repository: Id::of(b"repository"),
            job: JobId::new("job").unwrap(),
            expires_at: UnixTime::from_seconds(100),
            body: body.to_owned(),
        }
    }

    fn key() -> MessageKey {
        MessageKey::derive(b"key", &Id::of(b"repository"))
    }

    fn open(bytes: &[u8], now: i64) -> Result<Envelope<String>, EnvelopeError> {
        Envelope::open(bytes, &key(), &Id::of(b"repository"), UnixTime::from_seconds(now))
    }

    #[test]
    fn what_was_sealed_opens() {
        let bytes = envelope("hello").seal(&key()).unwrap();
        assert_eq!(open(&bytes, 100).unwrap(), envelope("hello"));
        assert_eq!(open(&bytes, 101).unwrap_err(), EnvelopeError::Expired);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let bytes = envelope("hello").seal(&key()).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(open(&damaged, 0).is_err(), "byte {at}");
            assert!(open(&bytes[..at], 0).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn long_and_foreign_messages_are_refused() {
        let long = "x".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(envelope(&long).seal(&key()).unwrap_err().reason(), "size");
        let bytes = envelope("hello").seal(&key()).unwrap();
        let other = Id::of(b"other");
        let error = Envelope::<String>::open(&bytes, &key(), &other, UnixTime::default()).unwrap_err();
        assert_eq!(error.reason(), "repository");
        let error = open(&vec![0; MESSAGE_BYTES_MAX + 1], 0).unwrap_err();
        assert_eq!(error.reason(), "size");
    }
}
