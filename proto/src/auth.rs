//! Authentication of tasks and reports: HMAC-SHA256 under a key derived from the repository's master key.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::Id;

/// Signs and verifies the messages of one repository's jobs.
#[derive(Clone)]
pub struct MessageKey([u8; 32]);

impl std::fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageKey(..)")
    }
}

/// The label of HKDF's info; the repository id follows.
const LABEL: &[u8] = b"longshore task v1";

impl MessageKey {
    /// Derives the key: HKDF-SHA256 (RFC 5869) of `master_key` without salt, info = label and repository id.
    pub fn derive(master_key: &[u8], repository: &Id) -> Self {
        let mut key = [0; 32];
        let info = [LABEL, repository.as_bytes()];
        if Hkdf::<Sha256>::new(None, master_key).expand_multi_info(&info, &mut key).is_err() {
            unreachable!("32 bytes are within what HKDF-SHA256 can give");
        }
        Self(key)
    }

    /// The tag of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.mac(message).finalize().into_bytes().into()
    }

    /// Whether `tag` is that of `message`; in constant time.
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        self.mac(message).verify_slice(tag).is_ok()
    }

    /// A short name for a blob that tells nothing to who has not the key: for known blobs in the job state.
    pub fn blind(&self, tree: bool, blob: &Id) -> u64 {
        let mut message = [0; 33];
        message[0] = u8::from(tree);
        message[1..].copy_from_slice(blob.as_bytes());
        let tag = self.sign(&message);
        u64::from_le_bytes([tag[0], tag[1], tag[2], tag[3], tag[4], tag[5], tag[6], tag[7]])
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        match <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0) {
            Ok(mac) => mac.chain_update(message),
            Err(_) => unreachable!("HMAC takes keys of any length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_holds_for_one_message_and_repository() {
        let key = MessageKey::derive(b"master", &Id::of(b"one"));
        let tag = key.sign(b"message");
        assert!(key.verify(b"message", &tag));
        assert!(!key.verify(b"messagf", &tag));
        assert!(!key.verify(b"message", &tag[..31]));
        assert!(!MessageKey::derive(b"master", &Id::of(b"two")).verify(b"message", &tag));
        assert_ne!(key.blind(true, &Id::of(b"x")), key.blind(false, &Id::of(b"x")));
    }
}
