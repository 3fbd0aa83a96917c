//! Key files: the master key, sealed under a key that scrypt derives from a password.
//!
//! Plain JSON, never compressed, named by the digest of their bytes. Several key files hold the
//! same master key under several passwords.

use data_encoding::BASE64;
use proto::handles::{Random, RandomExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::crypto::{CryptoError, MasterKey};

/// Bytes of salt that every key file has.
const SALT_LENGTH: usize = 64;

/// How dear it is to try a password. Each of the `p` lanes takes `128 * n * r` bytes, and time that grows with `n * r`; some
/// are done at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptParameters {
    /// Cost: a power of two, at least 2.
    pub n: u32,
    /// Block size, at least 1.
    pub r: u32,
    /// Parallelisation, at least 1.
    pub p: u32,
}

impl ScryptParameters {
    /// For new keys: 32 MiB a lane and some tenths of a second of one core, like what restic picks.
    pub const DEFAULT: Self = Self { n: 32768, r: 8, p: 5 };

    /// Memory that a lane of a key file may ask for, in bytes: 2 GiB, 64 times the usual.
    const LANE_MAX: u64 = 2 << 30;
    /// `n * r * p` that a key file may ask for: about 800 times the usual, some minutes.
    const WORK_MAX: u64 = 1 << 30;
    /// Memory of the lanes that are done at the same time, in bytes; a single one may take more.
    const LANES_AT_ONCE_BYTES: u64 = 96 << 20;

    fn check(self) -> Result<scrypt::Params, KeyFileError> {
        let bad = || KeyFileError::BadParameters { n: self.n, r: self.r, p: self.p };
        let [n, r, p] = [self.n, self.r, self.p].map(u64::from);
        let lane = r.checked_mul(n).filter(|lane| *lane <= Self::LANE_MAX / 128).ok_or_else(bad)?;
        let work = lane.checked_mul(p).filter(|work| *work <= Self::WORK_MAX);
        if !self.n.is_power_of_two() || self.n < 2 || work.is_none() || r * p >= 1 << 30 {
            return Err(bad());
        }
        scrypt::Params::new(self.n.trailing_zeros() as u8, self.r, self.p).map_err(|_| bad())
    }

    /// So many lanes are done at the same time on `cores`: what they take together does not grow with the machine.
    fn lanes_at_once(self, cores: usize) -> usize {
        let lane_bytes = (128 * u64::from(self.n) * u64::from(self.r)).max(1);
        let fitting = (Self::LANES_AT_ONCE_BYTES / lane_bytes).min(u64::from(self.p)) as usize;
        fitting.min(cores).max(1)
    }
}

/// Who made a key, and when: for people only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOwner {
    /// RFC 3339, as restic writes times.
    pub created: String,
    /// Login name; may be empty.
    pub username: String,
    /// Host name; may be empty.
    pub hostname: String,
}

/// A key file. Everything in it is public; `data` is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// RFC 3339; for people only.
    #[serde(default)]
    pub created: String,
    /// For people only.
    #[serde(default)]
    pub username: String,
    /// For people only.
    #[serde(default)]
    pub hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
    #[serde(with = "base64")]
    salt: Vec<u8>,
    #[serde(with = "base64")]
    data: Vec<u8>,
}

/// Why a key file gives no master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Not JSON of the right shape.
    #[error("the key file is not valid")]
    Json(#[source] serde_json::Error),
    /// Made by a program that derives keys in another way.
    #[error("the key file asks for {kdf:?}, only scrypt is known")]
    UnknownDerivation {
        /// What the file says.
        kdf: String,
    },
    /// The salt must have 64 bytes.
    #[error("the key file's salt has {length} bytes instead of 64")]
    BadSalt {
        /// Its length in bytes.
        length: usize,
    },
    /// Impossible for scrypt, or dearer than any honest key file.
    #[error("the key file's scrypt parameters N={n} r={r} p={p} are out of bounds")]
    BadParameters {
        /// Cost.
        n: u32,
        /// Block size.
        r: u32,
        /// Parallelisation.
        p: u32,
    },
    /// The sealed part does not open: another password's file, or damaged bytes (which the file's
    /// name tells: it is the digest of the content).
    #[error("the password does not open this key")]
    WrongPassword,
    /// The machine gives no threads to try the password with.
    #[error("no threads to try the password with")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// What the password opened is not a master key.
    #[error("the key file does not hold a master key")]
    BadContent(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The sealed part. `mac` stands first, as restic writes it.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct MasterKeyJson {
    mac: MacJson,
    #[serde(with = "base64")]
    encrypt: Vec<u8>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct MacJson {
    #[serde(with = "base64")]
    k: Vec<u8>,
    #[serde(with = "base64")]
    r: Vec<u8>,
}

impl KeyFile {
    /// Seals `master` under `password`.
    ///
    /// # Errors
    /// `BadParameters`, `Threads`, or `BadContent` if the source of randomness is broken.
    pub fn create(
        master: &MasterKey,
        password: &[u8],
        parameters: ScryptParameters,
        owner: KeyOwner,
        random: &dyn Random,
    ) -> Result<Self, KeyFileError> {
        let salt = random.bytes::<SALT_LENGTH>().to_vec();
        let material = master.material();
        let json = MasterKeyJson {
            encrypt: material[..32].to_vec(),
            mac: MacJson { k: material[32..48].to_vec(), r: material[48..].to_vec() },
        };
        let plain = Zeroizing::new(serde_json::to_vec(&json).map_err(KeyFileError::Json)?);
        let password_key = derive(password, &salt, parameters)?;
        let data = password_key.seal(&plain, random).map_err(bad_content)?;
        let KeyOwner { created, username, hostname } = owner;
        let ScryptParameters { n, r, p } = parameters;
        Ok(Self { created, username, hostname, kdf: "scrypt".to_owned(), n, r, p, salt, data })
    }

    /// Reads the bytes of a key file.
    ///
    /// # Errors
    /// `Json`, `UnknownDerivation`, `BadSalt` or `BadParameters`: the file is damaged or foreign.
    pub fn decode(json: &[u8]) -> Result<Self, KeyFileError> {
        let file: Self = serde_json::from_slice(json).map_err(KeyFileError::Json)?;
        if file.kdf != "scrypt" {
            return Err(KeyFileError::UnknownDerivation { kdf: file.kdf.chars().take(40).collect() });
        }
        if file.salt.len() != SALT_LENGTH {
            return Err(KeyFileError::BadSalt { length: file.salt.len() });
        }
        file.parameters().check()?;
        Ok(file)
    }

    /// The bytes of the file; its name is their digest.
    ///
    /// # Errors
    /// None in practice: text and numbers always have a JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, KeyFileError> {
        serde_json::to_vec(self).map_err(KeyFileError::Json)
    }

    /// How dear it is to try a password.
    pub fn parameters(&self) -> ScryptParameters {
        ScryptParameters { n: self.n, r: self.r, p: self.p }
    }

    /// The master key. Takes as long as [`KeyFile::parameters`] say; this thread waits.
    ///
    /// # Errors
    /// `WrongPassword`; `Threads`; `BadContent` if the password fits and yet there is no key.
    pub fn open(&self, password: &[u8]) -> Result<MasterKey, KeyFileError> {
        let plain = match derive(password, &self.salt, self.parameters())?.open(&self.data) {
            Ok(plain) => Zeroizing::new(plain),
            Err(CryptoError::BadTag) => return Err(KeyFileError::WrongPassword),
            Err(error) => return Err(bad_content(error)),
        };
        let json: MasterKeyJson = serde_json::from_slice(&plain).map_err(bad_content)?;
        let encrypt = json.encrypt.as_slice().try_into().map_err(bad_content)?;
        let mac_k = json.mac.k.as_slice().try_into().map_err(bad_content)?;
        let mac_r = json.mac.r.as_slice().try_into().map_err(bad_content)?;
        MasterKey::from_parts(encrypt, mac_k, mac_r).map_err(bad_content)
    }
}

fn bad_content(error: impl std::error::Error + Send + Sync + 'static) -> KeyFileError {
    KeyFileError::BadContent(Box::new(error))
}

fn derive(password: &[u8], salt: &[u8], parameters: ScryptParameters) -> Result<MasterKey, KeyFileError> {
    let checked = parameters.check()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Threads of its own: those that everybody shares would be as many as there are cores, and stay.
    let lanes = rayon::ThreadPoolBuilder::new().num_threads(parameters.lanes_at_once(cores));
    let lanes = lanes.build().map_err(KeyFileError::Threads)?;
    let mut material = Zeroizing::new([0; 64]);
    lanes.install(|| scrypt::scrypt(password, salt, &checked, &mut material[..])).map_err(bad_content)?;
    MasterKey::from_material(&material).map_err(bad_content)
}

/// Standard alphabet, with padding.
mod base64 {
    use super::*;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_random::{FixedRandom, SeededRandom};

    const CHEAP: ScryptParameters = ScryptParameters { n: 2, r: 1, p: 1 };

    fn master() -> MasterKey {
        MasterKey::generate(&SeededRandom::new(7)).unwrap()
    }

    fn create(password: &[u8]) -> KeyFile {
        let owner = KeyOwner {
            created: "2026-11-23T15:37:02.412801701+01:00".to_owned(),
            username: "root".to_owned(),
            hostname: "harbour".to_owned(),
        };
        KeyFile::create(&master(), password, CHEAP, owner, &SeededRandom::new(8)).unwrap()
    }

    #[test]
    fn layout_is_that_of_restic() {
        let json = String::from_utf8(create(b"geheim").encode().unwrap()).unwrap();
        let start = concat!(
            r#"{"created":"2026-11-23T15:37:02.412801701+01:00","username":"root","hostname":"harbour","#,
            r#""kdf":"scrypt","N":2,"r":1,"p":1,"salt":""#
        );
        assert!(json.starts_with(start), "{json}");
        let password_key = derive(b"geheim", &create(b"geheim").salt, CHEAP).unwrap();
        let inner = String::from_utf8(password_key.open(&create(b"geheim").data).unwrap()).unwrap();
        let material = master().material();
        let [encrypt, k, r] = [&material[..32], &material[32..48], &material[48..]].map(|part| BASE64.encode(part));
        assert_eq!(inner, format!(r#"{{"mac":{{"k":"{k}","r":"{r}"}},"encrypt":"{encrypt}"}}"#));
    }

    #[test]
    fn only_the_right_password_opens() {
        let json = create("pässword".as_bytes()).encode().unwrap();
        let file = KeyFile::decode(&json).unwrap();
        assert_eq!(file.open("pässword".as_bytes()).unwrap(), master());
        assert!(matches!(file.open(b"password"), Err(KeyFileError::WrongPassword)));
        assert!(matches!(file.open(b""), Err(KeyFileError::WrongPassword)));
    }

    #[test]
    fn parameters_out_of_bounds_are_refused_before_any_work() {
        let with = |n, r, p| KeyFile { n, r, p, ..create(b"x") };
        for (n, r, p) in [
            (0, 8, 1),
            (1, 8, 1),
            (3, 8, 1),
            (2, 0, 1),
            (2, 8, 0),
            (1 << 31, 8, 1),
            (2, 1 << 29, 2),
            (2, u32::MAX, u32::MAX),
        ] {
            let json = with(n, r, p).encode().unwrap();
            let refused = KeyFile::decode(&json);
            assert!(matches!(refused, Err(KeyFileError::BadParameters { .. })), "{n} {r} {p}");
        }
        for (n, r, p) in [(2, 1, 1), (32768, 8, 11), (1 << 20, 8, 1), (1 << 20, 8, 3), (1024, 16, 3)] {
            KeyFile::decode(&with(n, r, p).encode().unwrap()).unwrap();
        }
    }

    #[test]
    fn lanes_done_at_once_take_no_more_on_larger_machines() {
        let at_once = |(n, r, p), cores| ScryptParameters { n, r, p }.lanes_at_once(cores);
        let usual = (32768, 8, 5);
        assert_eq!([1, 2, 64].map(|cores| at_once(usual, cores)), [1, 2, 3]);
        assert_eq!([(1 << 20, 8, 3), (2, 1, 1), (1024, 8, 64)].map(|key| at_once(key, 16)), [1, 1, 16]);
    }

    #[test]
    fn foreign_and_damaged_files_are_told_from_wrong_passwords() {
        let good = create(b"x");
        let decode = |file: KeyFile| KeyFile::decode(&file.encode().unwrap());
        let foreign = KeyFile { kdf: "argon2".to_owned(), ..good.clone() };
        assert!(matches!(decode(foreign), Err(KeyFileError::UnknownDerivation { .. })));
        let short = KeyFile { salt: vec![1; 63], ..good.clone() };
        assert!(matches!(decode(short), Err(KeyFileError::BadSalt { length: 63 })));
        assert!(matches!(KeyFile::decode(b"{"), Err(KeyFileError::Json(_))));
        let empty = KeyFile { data: vec![], ..good.clone() };
        assert!(matches!(empty.open(b"x"), Err(KeyFileError::BadContent(_))));
        let password_key = derive(b"x", &good.salt, CHEAP).unwrap();
        for content in [&b"nothing"[..], br#"{"mac":{"k":"AA==","r":"AA=="},"encrypt":"AA=="}"#] {
            let data = password_key.seal(content, &FixedRandom([1; 16])).unwrap();
            let odd = KeyFile { data, ..good.clone() };
            assert!(matches!(odd.open(b"x"), Err(KeyFileError::BadContent(_))));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut json = create(b"x").encode().unwrap();
            let at = at.index(json.len());
            json[at] = byte;
            if let Ok(file) = KeyFile::decode(&json) && file.parameters() == CHEAP {
                let _ = file.open(b"x");
            }
            let _ = KeyFile::decode(&json[..at]);
        }
    }
}
