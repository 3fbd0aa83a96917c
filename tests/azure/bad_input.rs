//! What goes wrong in front of a user ends in time, with its exit code, and with words that name the thing.

use std::net::TcpListener;

use tests::azurite::{ACCOUNT, Azurite, key_text, longshore_at};
use tests::cli::Longshore;

use crate::ground::{Ground, REPOSITORY};

/// Fault, exit code, words of the message, and the program as the fault has it.
type Case<'a> = (&'a str, i32, &'a [&'a str], Longshore);

#[test]
fn every_fault_has_its_code_and_its_words() {
    let ground = Ground::bare(Azurite::start());
    let good = || ground.longshore();
    // Free a moment ago, and nobody's now.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let at = |endpoint: &str| {
        longshore_at(endpoint, REPOSITORY, &ground.password_file).variable("AZURE_ACCOUNT_KEY", &key_text())
    };
    let cases: Vec<Case<'_>> = vec![
        ("no container", 10, &["azure:box:/team/one", "longshore init"], good()),
        ("no account", 2, &["storage account", "AZURE_ACCOUNT_NAME"], at("https://blobs.example")),
        ("two accounts", 2, &["AZURE_ACCOUNT_NAME", "other", ACCOUNT], good().variable("AZURE_ACCOUNT_NAME", "other")),
        ("a key that is none", 2, &["AZURE_ACCOUNT_KEY", "base64"], good().variable("AZURE_ACCOUNT_KEY", "no key!")),
        ("archive", 2, &["archive", "hours", "cold"], good().variable("LONGSHORE_AZURE_PACK_TIER", "archive")),
        ("a tier that is none", 2, &["warm", "cool"], good().variable("LONGSHORE_AZURE_PACK_TIER", "warm")),
        ("no certificates", 2, &["/dev/null", "PEM"], good().variable("LONGSHORE_AZURE_CA_FILE", "/dev/null")),
        ("no file of certificates", 2, &["/nonexistent"], good().variable("LONGSHORE_AZURE_CA_FILE", "/nonexistent")),
        (
            "a token over http",
            2,
            &["https"],
            longshore_at(&ground.azurite.endpoint(), REPOSITORY, &ground.password_file),
        ),
        (
            "an unknown version",
            1,
            &["400", "InvalidHeaderValue"],
            good().variable("LONGSHORE_AZURE_API_VERSION", "2199-01-01"),
        ),
        (
            "a name that no container has",
            1,
            &["400", "No_Box"],
            good().variable("LONGSHORE_REPOSITORY", "azure:No_Box:/"),
        ),
        ("nobody there", 7, &["connect", "network"], at(&format!("http://127.0.0.1:{nobody}/{ACCOUNT}"))),
        ("no such host", 7, &["network"], at(&format!("https://{ACCOUNT}.blob.storage.invalid"))),
    ];
    for (fault, code, words, longshore) in cases {
        let outcome = longshore.limit_seconds(60).run(["snapshots"]);
        assert_eq!(outcome.code, code, "{fault}: {}", outcome.stderr);
        for word in words {
            assert!(outcome.stderr.contains(word), "{fault}: no {word} in {}", outcome.stderr);
        }
        assert!(!outcome.stderr.contains("panicked"), "{fault}: {}", outcome.stderr);
    }
}
