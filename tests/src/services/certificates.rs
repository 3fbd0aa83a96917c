//! A certificate authority that nobody knows, and a certificate of `localhost` by it.

use std::path::PathBuf;
use std::process::Command;

use crate::process::run;
use crate::scratch::Scratch;

/// An authority and a certificate, in a folder of their own.
pub struct Certificates {
    folder: Scratch,
}

impl Certificates {
    /// New ones.
    pub fn new() -> Self {
        let folder = Scratch::new("certificates");
        folder.file("extensions", "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n");
        let openssl = |words: &str| {
            run(Command::new("openssl").args(words.split(' ')).current_dir(folder.path())).expect_code(0);
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
             -out server.pem",
        );
        Self { folder }
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// That of the server.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// The authority's certificate as text.
    pub fn authority_pem(&self) -> String {
        std::fs::read_to_string(self.authority()).unwrap_or_else(|error| panic!("no certificate: {error}"))
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
