//! How to reach a storage account: plain values, decided by whoever reads the environment.

use std::fmt;
use std::path::PathBuf;

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// The service version that is asked for where nobody says another: the newest that Azurite 3.35 knows too.
pub const DEFAULT_API_VERSION: &str = "2025-11-05";

/// A secret text: never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a copy of `text`.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text itself.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// An account key, decoded. Never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountKey(Zeroizing<Vec<u8>>);

/// A text that is no account key. Does not say which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account key is base64")]
pub struct NotAKey;

impl AccountKey {
    /// Reads a key as the portal shows it.
    ///
    /// # Errors
    /// [`NotAKey`] for what is empty or not base64.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let bytes = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).map_err(|_| NotAKey)?);
        if bytes.is_empty() { Err(NotAKey) } else { Ok(Self(bytes)) }
    }

    /// The bytes that requests are signed with.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccountKey(..)")
    }
}

/// A shared access signature: the query that goes with every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sas(Secret);

/// A text that is no shared access signature. Does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shared access signature is the part of a URL behind the question mark, with sig= in it")]
pub struct NotASas;

impl Sas {
    /// Reads a signature, with or without its question mark.
    ///
    /// # Errors
    /// [`NotASas`] for what has no `sig`, or cannot be part of a URL.
    pub fn parse(text: &str) -> Result<Self, NotASas> {
        let query = text.trim().trim_start_matches('?');
        let has_signature = query.split('&').any(|pair| pair.strip_prefix("sig=").is_some_and(|sig| !sig.is_empty()));
        let is_plain = query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if has_signature && is_plain { Ok(Self(Secret::new(query))) } else { Err(NotASas) }
    }

    /// The query without its question mark.
    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Who we are to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureCredential {
    /// An account key: every request is signed.
    SharedKey(AccountKey),
    /// A shared access signature.
    Sas(Sas),
    /// Tokens of Entra ID: the first of these ways that gives one.
    Entra(Vec<EntraWay>),
}

/// A way to a token of Entra ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntraWay {
    /// A token file that the platform renews (Kubernetes).
    WorkloadIdentity {
        /// The tenant.
        tenant: String,
        /// The application.
        client: String,
        /// The file.
        token_file: PathBuf,
    },
    /// The identity of the machine or app service.
    ManagedIdentity {
        /// The application of a user-assigned identity.
        client: Option<String>,
        /// Whether the environment says that there is one; else it is tried, as a virtual machine does not say so.
        is_announced: bool,
    },
    /// An application and its secret.
    ClientSecret {
        /// The tenant.
        tenant: String,
        /// The application.
        client: String,
        /// Its secret.
        secret: Secret,
    },
    /// Who is logged in with `az login`.
    AzureCli,
}

/// The access tier of packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackTier {
    /// Dear to keep, cheap to read.
    Hot,
    /// Between the two.
    Cool,
    /// Cheap to keep, dear to read; still read at once.
    Cold,
}

/// What bodies are checked by on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// MD5: every service and emulator knows it; half a gigabyte a second and core.
    #[default]
    Md5,
    /// CRC64 as the service has it: much cheaper; the emulator refuses it.
    Crc64,
}

/// Everything that decides how a storage account is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureSettings {
    /// The account's name.
    pub account: String,
    /// The URL below which the containers are, without slash at the end: `https://NAME.blob.core.windows.net`, or
    /// `http://127.0.0.1:10000/NAME` for an emulator.
    pub endpoint: String,
    /// Who we are.
    pub credential: AzureCredential,
    /// The service version that requests ask for.
    pub api_version: String,
    /// The tier of packs; the account's default without one.
    pub pack_tier: Option<PackTier>,
    /// What bodies are checked by.
    pub checksum: Checksum,
    /// Certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

impl AzureSettings {
    /// The account at its public place, and defaults for the rest.
    pub fn new(account: &str, endpoint: &str, credential: AzureCredential) -> Self {
        Self {
            account: account.to_owned(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            credential,
            api_version: DEFAULT_API_VERSION.to_owned(),
            pack_tier: None,
            checksum: Checksum::default(),
            ca_file: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let key = AccountKey::parse("aHVudGVyMg==").unwrap();
        assert_eq!(key.bytes(), b"hunter2");
        let sas = Sas::parse("?sv=2025-11-05&sig=hunter2%3D").unwrap();
        assert_eq!(sas.expose(), "sv=2025-11-05&sig=hunter2%3D");
        let secret = EntraWay::ClientSecret { tenant: "t".into(), client: "c".into(), secret: Secret::new("hunter2") };
        for credential in
            [AzureCredential::SharedKey(key), AzureCredential::Sas(sas), AzureCredential::Entra(vec![secret])]
        {
            let shown = format!("{:?}", AzureSettings::new("name", "https://h/", credential));
            assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
            assert!(shown.contains("https://h\""), "{shown}");
        }
    }

    #[test]
    fn what_is_no_key_or_signature_is_refused() {
        for bad in ["", "  ", "no base64!", "aHVudGVyMg"] {
            assert_eq!(AccountKey::parse(bad), Err(NotAKey), "{bad}");
        }
        for bad in ["", "?", "sv=1", "sig=", "a sig=x", "sig=x y", "sig=x#y"] {
            assert_eq!(Sas::parse(bad), Err(NotASas), "{bad}");
        }
    }
}
