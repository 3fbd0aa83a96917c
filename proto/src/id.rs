//! Identifiers: content ids of the repository, and the ids of jobs, tasks and workers.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 digest. Names a blob (digest of its plain bytes), a pack, or any other file of the
/// repository (digest of its stored bytes).
///
/// Text form: 64 lower-case hex digits. Serialised as that text in human-readable formats, as 32
/// bytes in binary ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id([u8; 32]);

impl Id {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of several byte strings in a row.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    /// Takes a digest that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight hex digits, as people quote an id.
    pub fn short(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..4])
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.short())
    }
}

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: 64 lower-case hex digits are wanted")]
pub struct BadId {
    text: String,
}

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { text: text.chars().take(80).collect() };
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| bad())?;
        Ok(Self(bytes.try_into().map_err(|_| bad())?))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl<'de> Visitor<'de> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hex digits or 32 bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(Id(bytes))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Id, A::Error> {
                let mut bytes = [0; 32];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
                }
                Ok(Id(bytes))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(IdVisitor)
        } else {
            deserializer.deserialize_bytes(IdVisitor)
        }
    }
}

/// A job: one submitted piece of work. UUIDv7 as text, so that names sort by time of submission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(String);

/// A worker process, anew at each start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(String);

/// A coordinator while it leads one job, anew each time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CoordinatorId(String);

macro_rules! text_id {
    ($name:ident, $what:literal) => {
        impl $name {
            /// Takes an id of at most 64 characters out of `0-9 a-z . -`.
            ///
            /// # Errors
            /// [`BadName`] for anything else: ids become parts of object and key names.
            pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
                let text = text.into();
                let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
                if text.is_empty() || text.len() > 64 || text.starts_with('.') || !text.bytes().all(fits) {
                    return Err(BadName { what: $what, text: text.chars().take(80).collect() });
                }
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(JobId, "job id");
text_id!(WorkerId, "worker id");
text_id!(CoordinatorId, "coordinator id");

/// The text cannot be the id of a job, worker or coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: 1 to 64 characters out of 0-9 a-z . - are wanted")]
pub struct BadName {
    what: &'static str,
    text: String,
}

/// Counts how often the same scope was given out because a result was rejected; first round 0.
pub type Round = u32;

/// Counts deliveries of one (task, round) after transient errors; first attempt 1.
pub type Attempt = u32;

/// Counts the coordinators that led a job; first epoch 1.
pub type Epoch = u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_hex_in_json_and_bytes_in_messagepack() {
        let id = Id::of(b"hello");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
        let packed = rmp_serde::to_vec_named(&id).unwrap();
        assert_eq!(packed.len(), 34);
        assert_eq!(rmp_serde::from_slice::<Id>(&packed).unwrap(), id);
    }

    #[test]
    fn bad_ids_are_refused() {
        assert!("".parse::<Id>().is_err());
        assert!("AB".repeat(32).parse::<Id>().is_err());
        assert!("ab".repeat(33).parse::<Id>().is_err());
        assert!(JobId::new("../x").is_err());
        assert!(JobId::new("").is_err());
        assert!(JobId::new("0190a-b").is_ok());
    }
}
