//! A private Azurite, Microsoft's emulator of Azure Blob Storage: in memory, on a port of its own, ended with its value.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::cli::Longshore;
use crate::process;
use crate::restic::Restic;
use crate::scratch::Scratch;

/// The account of every private emulator.
pub const ACCOUNT: &str = "lab";
/// The bytes of its key; what is signed with them, and their base64, must never be printed by anybody.
const KEY_BYTES: &[u8] = b"the planted key of the test's account";
/// The version of the emulator that the project is tested with; the newest for Node.js 20.
pub const VERSION: &str = "3.35.0";
/// The service version that signatures are made for.
const SAS_VERSION: &str = "2021-12-02";
/// What a full signature allows: read, write, delete, list, add, create.
pub const ALL_RIGHTS: &str = "rwdlac";

/// A running emulator.
#[derive(Debug)]
pub struct Azurite {
    child: Child,
    port: u16,
    authority: Option<PathBuf>,
    _folder: Scratch,
}

impl Azurite {
    /// Starts one that speaks plain http.
    pub fn start() -> Self {
        Self::start_with(Scratch::new("azurite"), None)
    }

    /// Starts one that speaks https, with a certificate of a private authority, and believes tokens of Entra ID unseen.
    pub fn start_with_tls() -> Self {
        let folder = Scratch::new("azurite");
        let openssl = |words: &str| {
            let mut command = Command::new("openssl");
            process::run(command.args(words.split_whitespace()).current_dir(folder.path())).expect_code(0);
        };
        folder.file("extensions", "basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\n");
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        openssl("req -newkey rsa:2048 -nodes -subj /CN=azurite -keyout key.pem -out request.pem");
        openssl(
            "x509 -req -days 2 -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out own.pem",
        );
        let (certificate, key) = (folder.join("own.pem"), folder.join("key.pem"));
        Self::start_with(folder, Some((certificate, key)))
    }

    fn start_with(folder: Scratch, tls: Option<(PathBuf, PathBuf)>) -> Self {
        let mut command = Command::new(binary());
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent"]);
        command.args(["--disableTelemetry"]).current_dir(folder.path());
        if let Some((certificate, key)) = &tls {
            command.args(["--oauth", "basic", "--cert"]).arg(certificate).arg("--key").arg(key);
        }
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", key_text()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.find_map(|line| port_in(&line.expect("text")));
        let port = ready.unwrap_or_else(|| panic!("Azurite ended before it listened"));
        // Its further words go nowhere, but it must be able to say them.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port, authority: tls.map(|_| folder.join("ca.pem")), _folder: folder }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that its own one is from.
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// The endpoint of the account.
    pub fn endpoint(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// `longshore` with the account's key and a repository in it.
    pub fn longshore(&self, repository: &str, password_file: &Path) -> Longshore {
        longshore_at(&self.endpoint(), repository, password_file).variable("AZURE_ACCOUNT_KEY", &key_text())
    }

    /// Stock restic on the same repository: through rclone, as the restic of Debian has no client for Azure. `path` is
    /// container and prefix.
    pub fn restic(&self, path: &str, password_file: &Path) -> Restic {
        let url = format!("{}?{}", self.endpoint(), signature(ALL_RIGHTS));
        let variables = [
            ("RCLONE_CONFIG_AZ_TYPE", "azureblob"),
            ("RCLONE_CONFIG_AZ_SAS_URL", &url),
            ("RCLONE_CONFIG", "/dev/null"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Restic::elsewhere(&format!("rclone:az:{path}"), password_file, variables)
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `longshore` with an endpoint and without any credential.
pub fn longshore_at(endpoint: &str, repository: &str, password_file: &Path) -> Longshore {
    Longshore::new()
        .variable("AZURE_BLOB_ENDPOINT", endpoint)
        .variable("LONGSHORE_REPOSITORY", repository)
        .variable("LONGSHORE_PASSWORD_FILE", password_file.to_str().expect("plain"))
}

/// The account's key as variables have it.
pub fn key_text() -> String {
    BASE64.encode(KEY_BYTES)
}

/// A shared access signature of the whole account with these rights, as a query.
pub fn signature(rights: &str) -> String {
    let expiry = "2099-01-01T00:00:00Z";
    let fields = [ACCOUNT, rights, "b", "sco", "", expiry, "", "https,http", SAS_VERSION, ""];
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY_BYTES).expect("any length");
    mac.update(format!("{}\n", fields.join("\n")).as_bytes());
    let signature = BASE64.encode(&mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv={SAS_VERSION}&ss=b&srt=sco&sp={rights}&se={expiry}&spr=https,http&sig={signature}")
}

/// A token of Entra ID for storage; the emulator looks at its claims alone.
pub fn token() -> String {
    let header = r#"{"alg":"RS256","typ":"JWT"}"#;
    let claims = r#"{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/tenant/","nbf":1,"iat":1,"exp":4070908800,"ver":"1.0"}"#;
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    format!("{}.{}.{}", encode(header), encode(claims), encode("a planted signature"))
}

/// The emulator: `LONGSHORE_AZURITE` (set by `cargo xtask test`), else where `cargo xtask services` puts it.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("LONGSHORE_AZURITE") {
        return PathBuf::from(named);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .expect("a home");
    cache.join(format!("longshore/tools/azurite-{VERSION}/node_modules/.bin/azurite-blob"))
}

/// The port in the line that says that it listens.
fn port_in(line: &str) -> Option<u16> {
    let (_, address) = line.split_once("successfully listens on ")?;
    address.trim().rsplit_once(':')?.1.parse().ok()
}
