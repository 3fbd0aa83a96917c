//! Names and paths of file systems on the wire: any bytes, not only UTF-8.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name or path as the kernel gives it. In JSON: the text itself if it is UTF-8 and does not start with `base64:`,
/// else `base64:` and the bytes in base64. In MessagePack: binary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RawName(pub Vec<u8>);

const BASE64_MARK: &str = "base64:";

impl RawName {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for RawName {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Vec<u8>> for RawName {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for RawName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for RawName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for RawName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with(BASE64_MARK) => serializer.serialize_str(text),
            _ => serializer.collect_str(&format_args!("{BASE64_MARK}{}", data_encoding::BASE64.encode(&self.0))),
        }
    }
}

impl<'de> Deserialize<'de> for RawName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = RawName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name as text or bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawName, E> {
                match text.strip_prefix(BASE64_MARK) {
                    Some(encoded) => data_encoding::BASE64.decode(encoded.as_bytes()).map(RawName).map_err(E::custom),
                    None => Ok(RawName(text.as_bytes().to_vec())),
                }
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<RawName, E> {
                Ok(RawName(bytes.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawName, A::Error> {
                let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                    if bytes.len() > crate::envelope::MESSAGE_BYTES_MAX {
                        return Err(A::Error::custom("a name is longer than a message may be"));
                    }
                }
                Ok(RawName(bytes))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(NameVisitor)
        } else {
            deserializer.deserialize_bytes(NameVisitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_json_and_messagepack() {
        for bytes in [&b"plain"[..], b"", b"\xff\xfe", b"base64:x", "\u{fffd}\n".as_bytes()] {
            let name = RawName::from(bytes);
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<RawName>(&json).unwrap(), name);
            let packed = rmp_serde::to_vec_named(&name).unwrap();
            assert_eq!(rmp_serde::from_slice::<RawName>(&packed).unwrap(), name);
        }
    }
}
