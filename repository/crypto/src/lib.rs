//! Sealing and opening: AES-256 in counter mode with a Poly1305-AES tag.
//!
//! `sealed = IV (16) || ciphertext || MAC (16)`. The tag covers the ciphertext only; the IV is bound
//! because the second half of the one-time Poly1305 key is AES-128 of the IV. There is no
//! associated data: what a sealed file *is* follows from its name alone.
//!
//! The `aes` and `poly1305` crates look for AES-NI and AVX2 (ARMv8 cryptography) when they run.

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use bytes::Bytes;
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use proto::handles::{Random, RandomExt};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of the initialisation vector in front of the ciphertext.
pub const IV_LENGTH: usize = 16;
/// Bytes of the tag behind the ciphertext.
pub const MAC_LENGTH: usize = 16;
/// How much longer sealed bytes are than plain ones.
pub const OVERHEAD: usize = IV_LENGTH + MAC_LENGTH;

/// Bytes that are encrypted and then authenticated while they are still in the first-level cache.
const STRIDE: usize = 16 * 1024;

/// Bytes that go into the tag at a time: four blocks.
const TAG_STRIDE: usize = 64;

type Counter = ctr::Ctr128BE<Aes256>;

/// Why bytes could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// An encryption key, MAC key or MAC mask of zeros only, which no writer makes.
    #[error("the {part} of the key is all zeros")]
    ZeroKey {
        /// Which of the three.
        part: &'static str,
    },
    /// The source of randomness gave a nonce of zeros only.
    #[error("the source of randomness gave an all-zero nonce")]
    ZeroNonce,
    /// Fewer bytes than an IV and a tag.
    #[error("{length} bytes are too short for sealed data, which has at least {OVERHEAD}")]
    TooShort {
        /// Bytes that were there.
        length: usize,
    },
    /// The tag does not fit: other key, or changed bytes.
    #[error("the authentication tag does not match: damaged data or another key")]
    BadTag,
}

/// The three keys under which everything of a repository is sealed. Also the shape of the key that
/// scrypt derives from a password.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(redacted)")
    }
}

impl MasterKey {
    /// Takes keys as they are stored. `mac_r` is kept unclamped, as other writers store it, and is
    /// clamped when it is used.
    ///
    /// # Errors
    /// `ZeroKey` if one of them is all zeros.
    pub fn from_parts(encrypt: [u8; 32], mac_k: [u8; 16], mac_r: [u8; 16]) -> Result<Self, CryptoError> {
        for (part, bytes) in [("encryption key", &encrypt[..]), ("MAC key", &mac_k[..]), ("MAC mask", &mac_r[..])] {
            if bytes.iter().all(|byte| *byte == 0) {
                return Err(CryptoError::ZeroKey { part });
            }
        }
        Ok(Self { encrypt, mac_k, mac_r })
    }

    /// A new key.
    ///
    /// # Errors
    /// `ZeroKey` if the source of randomness is broken.
    pub fn generate(random: &dyn Random) -> Result<Self, CryptoError> {
        let material = Zeroizing::new(random.bytes::<64>());
        Self::from_material(&material)
    }

    /// Cuts 64 bytes into encryption key (32), MAC key (16) and MAC mask (16), the order in which
    /// scrypt's output is used.
    ///
    /// # Errors
    /// `ZeroKey` if one of them is all zeros.
    pub fn from_material(material: &[u8; 64]) -> Result<Self, CryptoError> {
        let mut encrypt = [0; 32];
        let mut mac_k = [0; 16];
        let mut mac_r = [0; 16];
        encrypt.copy_from_slice(&material[..32]);
        mac_k.copy_from_slice(&material[32..48]);
        mac_r.copy_from_slice(&material[48..]);
        let key = Self::from_parts(encrypt, mac_k, mac_r);
        encrypt.zeroize();
        mac_k.zeroize();
        mac_r.zeroize();
        key
    }

    /// The 64 secret bytes, in the order of [`MasterKey::from_material`]: for key files, and as
    /// input of a key derivation.
    pub fn material(&self) -> Zeroizing<[u8; 64]> {
        let mut material = Zeroizing::new([0; 64]);
        material[..32].copy_from_slice(&self.encrypt);
        material[32..48].copy_from_slice(&self.mac_k);
        material[48..].copy_from_slice(&self.mac_r);
        material
    }

    /// Seals `plain` into a vector of exactly `plain.len() + OVERHEAD` bytes.
    ///
    /// # Errors
    /// `ZeroNonce` if the source of randomness is broken.
    pub fn seal(&self, plain: &[u8], random: &dyn Random) -> Result<Vec<u8>, CryptoError> {
        let iv = nonce(random)?;
        let mut sealed = vec![0; plain.len() + OVERHEAD];
        sealed[..IV_LENGTH].copy_from_slice(&iv);
        let (ciphertext, mac) = sealed[IV_LENGTH..].split_at_mut(plain.len());
        let mut counter = self.counter(&iv);
        let mut tag = self.tag(&iv);
        for (from, to) in plain.chunks(STRIDE).zip(ciphertext.chunks_mut(STRIDE)) {
            counter.apply_keystream_b2b(from, to);
            tag.update(to);
        }
        mac.copy_from_slice(&tag.finish());
        Ok(sealed)
    }

    /// Seals without a copy: the caller left [`IV_LENGTH`] bytes free in front of the plain bytes;
    /// the tag is appended (reserve [`MAC_LENGTH`] more to avoid that the vector grows).
    ///
    /// # Errors
    /// `TooShort` if the room in front is missing, `ZeroNonce` if the source of randomness is
    /// broken.
    pub fn seal_in_place(&self, buffer: &mut Vec<u8>, random: &dyn Random) -> Result<(), CryptoError> {
        let length = buffer.len();
        let Some((front, body)) = buffer.split_at_mut_checked(IV_LENGTH) else {
            return Err(CryptoError::TooShort { length });
        };
        let iv = nonce(random)?;
        front.copy_from_slice(&iv);
        let mut counter = self.counter(&iv);
        let mut tag = self.tag(&iv);
        for piece in body.chunks_mut(STRIDE) {
            counter.apply_keystream(piece);
            tag.update(piece);
        }
        buffer.extend_from_slice(&tag.finish());
        Ok(())
    }

    /// Checks the tag, then decrypts into a new vector.
    ///
    /// # Errors
    /// `TooShort` or `BadTag`; nothing is decrypted then.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut plain = Vec::new();
        self.open_into(sealed, &mut plain)?;
        Ok(plain)
    }

    /// Checks the tag, then decrypts into `plain`, whose former content is dropped and whose
    /// capacity is kept.
    ///
    /// # Errors
    /// `TooShort` or `BadTag`; nothing is decrypted then.
    pub fn open_into(&self, sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), CryptoError> {
        let (iv, ciphertext) = self.verify(sealed)?;
        plain.clear();
        plain.resize(ciphertext.len(), 0);
        self.counter(&iv).apply_keystream_b2b(ciphertext, plain);
        Ok(())
    }

    /// Checks the tag, then decrypts where the bytes are; gives the plain part of `sealed`.
    ///
    /// # Errors
    /// `TooShort` or `BadTag`; nothing is decrypted then.
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        let (iv, ciphertext) = self.verify(sealed)?;
        let end = IV_LENGTH + ciphertext.len();
        let plain = &mut sealed[IV_LENGTH..end];
        self.counter(&iv).apply_keystream(plain);
        Ok(plain)
    }

    /// Checks the tag and gives IV and ciphertext.
    fn verify<'a>(&self, sealed: &'a [u8]) -> Result<([u8; IV_LENGTH], &'a [u8]), CryptoError> {
        let too_short = CryptoError::TooShort { length: sealed.len() };
        let (iv, rest) = sealed.split_first_chunk::<IV_LENGTH>().ok_or(too_short)?;
        let (ciphertext, mac) = rest.split_last_chunk::<MAC_LENGTH>().ok_or(too_short)?;
        let mut tag = self.tag(iv);
        tag.update(ciphertext);
        // One xor of 128 bits: takes the same time wherever the tags differ.
        let difference = u128::from_le_bytes(tag.finish()) ^ u128::from_le_bytes(*mac);
        if difference == 0 { Ok((*iv, ciphertext)) } else { Err(CryptoError::BadTag) }
    }

    fn counter(&self, iv: &[u8; IV_LENGTH]) -> Counter {
        Counter::new(&self.encrypt.into(), &(*iv).into())
    }

    fn tag(&self, iv: &[u8; IV_LENGTH]) -> Tag {
        let mut pad = (*iv).into();
        Aes128::new(&self.mac_k.into()).encrypt_block(&mut pad);
        let mut one_time = Zeroizing::new([0; 32]);
        one_time[..16].copy_from_slice(&self.mac_r);
        one_time[16..].copy_from_slice(&pad);
        // Poly1305 clamps the mask itself.
        Tag { poly: Poly1305::new(&(*one_time).into()), rest: [0; TAG_STRIDE], rest_length: 0 }
    }
}

/// A random nonce that is not all zeros.
fn nonce(random: &dyn Random) -> Result<[u8; IV_LENGTH], CryptoError> {
    let iv = random.bytes();
    if iv == [0; IV_LENGTH] { Err(CryptoError::ZeroNonce) } else { Ok(iv) }
}

/// Poly1305 over pieces of any length. Blocks go on four at a time, which is what AVX2 takes: one
/// odd block would leave all later ones on the slow way.
struct Tag {
    poly: Poly1305,
    rest: [u8; TAG_STRIDE],
    rest_length: usize,
}

impl Tag {
    fn update(&mut self, mut bytes: &[u8]) {
        if self.rest_length > 0 {
            let taken = bytes.len().min(TAG_STRIDE - self.rest_length);
            self.rest[self.rest_length..self.rest_length + taken].copy_from_slice(&bytes[..taken]);
            self.rest_length += taken;
            bytes = &bytes[taken..];
            if self.rest_length < TAG_STRIDE {
                return;
            }
            self.poly.update(poly1305::Block::slice_as_chunks(&self.rest).0);
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % TAG_STRIDE);
        self.poly.update(poly1305::Block::slice_as_chunks(whole).0);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.rest_length = rest.len();
    }

    fn finish(self) -> [u8; MAC_LENGTH] {
        self.poly.compute_unpadded(&self.rest[..self.rest_length]).into()
    }
}

/// Seals while it is written to: for what is too large for memory. Only [`SealWriter::finish`]
/// makes the output valid.
pub struct SealWriter<W> {
    output: W,
    counter: Counter,
    tag: Tag,
    buffer: Vec<u8>,
    digest: Sha256,
    sealed_length: u64,
}

/// What a [`SealWriter`] wrote.
pub struct Sealed<W> {
    /// Where the bytes went.
    pub output: W,
    /// Bytes written, IV and tag included.
    pub sealed_length: u64,
    /// SHA-256 of the bytes written, not yet closed, so that more may follow (a pack's header).
    pub digest: Sha256,
}

impl<W: Write> SealWriter<W> {
    /// Writes the IV.
    ///
    /// # Errors
    /// Those of `output`; `InvalidData` if the source of randomness is broken.
    pub fn new(key: &MasterKey, mut output: W, random: &dyn Random) -> io::Result<Self> {
        let iv = nonce(random).map_err(invalid_data)?;
        output.write_all(&iv)?;
        Ok(Self {
            output,
            counter: key.counter(&iv),
            tag: key.tag(&iv),
            buffer: Vec::new(),
            digest: Sha256::new_with_prefix(iv),
            sealed_length: IV_LENGTH as u64,
        })
    }

    /// Writes the tag.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<Sealed<W>> {
        let mac = self.tag.finish();
        self.output.write_all(&mac)?;
        self.output.flush()?;
        self.digest.update(mac);
        let sealed_length = self.sealed_length + MAC_LENGTH as u64;
        Ok(Sealed { output: self.output, sealed_length, digest: self.digest })
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.write_all(plain)?;
        Ok(plain.len())
    }

    // An error leaves the keystream ahead of the output; the object is useless from then on, and
    // its MAC will not fit.
    fn write_all(&mut self, plain: &[u8]) -> io::Result<()> {
        for piece in plain.chunks(STRIDE) {
            self.buffer.resize(piece.len(), 0);
            self.counter.apply_keystream_b2b(piece, &mut self.buffer);
            self.tag.update(&self.buffer);
            self.digest.update(&self.buffer);
            self.output.write_all(&self.buffer)?;
            self.sealed_length += piece.len() as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Decrypts sealed bytes piece by piece while they are read, so that they are held once only.
/// The tag was checked over the whole before the first byte comes out.
pub struct OpenReader {
    sealed: Bytes,
    counter: Counter,
    /// Next ciphertext byte that was not decrypted.
    position: usize,
    buffer: Vec<u8>,
    consumed: usize,
}

impl OpenReader {
    /// Checks the tag of `sealed`.
    ///
    /// # Errors
    /// `TooShort` or `BadTag`.
    pub fn new(key: &MasterKey, sealed: Bytes) -> Result<Self, CryptoError> {
        let (iv, _) = key.verify(&sealed)?;
        Ok(Self { counter: key.counter(&iv), sealed, position: IV_LENGTH, buffer: Vec::new(), consumed: 0 })
    }
}

impl BufRead for OpenReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.consumed == self.buffer.len() {
            let end = (self.position + STRIDE).min(self.sealed.len() - MAC_LENGTH);
            let piece = &self.sealed[self.position..end];
            self.buffer.resize(piece.len(), 0);
            self.counter.apply_keystream_b2b(piece, &mut self.buffer);
            self.position = end;
            self.consumed = 0;
        }
        Ok(&self.buffer[self.consumed..])
    }

    fn consume(&mut self, amount: usize) {
        self.consumed = (self.consumed + amount).min(self.buffer.len());
    }
}

impl Read for OpenReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// A typed error behind the `std::io` traits.
fn invalid_data(error: CryptoError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
#[path = "crypto_tests.rs"]
mod tests;
