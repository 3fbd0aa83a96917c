//! Ways to say who one is: key, signature, connection string, tokens of Entra ID; and what their lack of rights gives.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use tests::azurite::{ACCOUNT, ALL_RIGHTS, Azurite, key_text, longshore_at, signature, token};
use tests::cli::Longshore;

use crate::ground::{Ground, REPOSITORY};

/// Makes a repository, backs a small tree up, and reads it again.
fn assert_works(ground: &Ground, longshore: &Longshore) {
    ground.add_files("tree", 3, 10_000);
    longshore.run(["init"]).expect_code(0);
    let backup = longshore.backup(ground.scratch.path(), &[], ["tree"]);
    assert_eq!(backup.tree, ground.expected_tree());
    longshore.run(["check", "--read-data"]).expect_code(0);
}

fn bare(ground: &Ground) -> Longshore {
    longshore_at(&ground.azurite.endpoint(), REPOSITORY, &ground.password_file)
}

#[test]
fn a_signature_and_a_connection_string_do() {
    let ground = Ground::bare(Azurite::start());
    let sas = format!("?{}", signature(ALL_RIGHTS));
    assert_works(&ground, &bare(&ground).variable("AZURE_ACCOUNT_SAS", &sas));
    let text = format!("AccountName={ACCOUNT};AccountKey={};BlobEndpoint={};", key_text(), ground.azurite.endpoint());
    let longshore = Longshore::new()
        .variable("AZURE_STORAGE_CONNECTION_STRING", &text)
        .variable("LONGSHORE_REPOSITORY", "azure:box:/elsewhere")
        .variable("LONGSHORE_PASSWORD_FILE", ground.password_file.to_str().expect("plain"));
    assert_works(&ground, &longshore);
}

/// The letters that docs/azure.md names are enough, and each of them is needed.
#[test]
fn the_rights_of_the_documentation_are_enough() {
    let ground = Ground::bare(Azurite::start());
    ground.longshore().run(["init"]).expect_code(0);
    ground.add_files("tree", 3, 10_000);
    let with = |rights: &str| bare(&ground).variable("AZURE_ACCOUNT_SAS", &signature(rights));
    for rights in ["rcwdl", "rcdl"] {
        with(rights).backup(ground.scratch.path(), &["--force"], ["tree"]);
    }
    let tree = ground.scratch.join("tree");
    let words = ["backup", tree.to_str().expect("plain")];
    for (rights, missing) in [("cwdl", "read"), ("rdl", "write"), ("rcwd", "list")] {
        let outcome = with(rights).run(words).expect_code(6);
        assert!(outcome.stderr.contains("403"), "without {missing}: {}", outcome.stderr);
    }
}

#[test]
fn the_wrong_key_is_told_from_a_missing_repository() {
    let ground = Ground::bare(Azurite::start());
    ground.longshore().run(["init"]).expect_code(0);
    let outcome = bare(&ground).variable("AZURE_ACCOUNT_KEY", "bm90IHRoZSBrZXk=").run(["snapshots"]).expect_code(6);
    assert!(outcome.stderr.contains("403") && outcome.stderr.contains("credentials"), "{}", outcome.stderr);
}

/// `az` on the PATH that gives a token, https with an authority of its own.
#[test]
fn a_token_of_the_azure_cli_does_over_https() {
    let ground = Ground::bare(Azurite::start_with_tls());
    let az = ground.scratch.folder("bin").join("az");
    let answer = format!(r#"{{"accessToken": "{}", "expires_on": 4070908800, "tokenType": "Bearer"}}"#, token());
    std::fs::write(&az, format!("#!/bin/sh\necho '{answer}'\n")).expect("written");
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:{}", ground.scratch.join("bin").display(), std::env::var("PATH").expect("a PATH"));
    let certificate = ground.azurite.authority().and_then(|path| path.to_str()).expect("plain").to_owned();
    let longshore = bare(&ground).variable("PATH", &path).variable("AZURE_FORCE_CLI_CREDENTIAL", "true");
    let unknown = longshore.run(["snapshots"]).expect_code(7);
    assert!(unknown.stderr.contains("certificate"), "{}", unknown.stderr);
    assert_works(&ground, &longshore.variable("LONGSHORE_AZURE_CA_FILE", &certificate));
}

/// The endpoint of an app service: tokens over plain http in the machine itself.
#[test]
fn a_token_of_a_managed_identity_does() {
    let ground = Ground::bare(Azurite::start_with_tls());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}/msi/token", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut lines = BufReader::new(client.try_clone().expect("cloned")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = format!(
                r#"{{"access_token": "{}", "expires_on": "4070908800", "resource": "https://storage.azure.com", "token_type": "Bearer"}}"#,
                token()
            );
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = (&client).write_all(format!("{head}{body}").as_bytes());
        }
    });
    let certificate = ground.azurite.authority().and_then(|path| path.to_str()).expect("plain").to_owned();
    let longshore = bare(&ground)
        .variable("LONGSHORE_AZURE_CA_FILE", &certificate)
        .variable("IDENTITY_ENDPOINT", &endpoint)
        .variable("IDENTITY_HEADER", "planted header of the identity");
    assert_works(&ground, &longshore);
}

#[test]
fn without_any_credential_every_way_says_why() {
    let ground = Ground::bare(Azurite::start_with_tls());
    let certificate = ground.azurite.authority().and_then(|path| path.to_str()).expect("plain").to_owned();
    let longshore = bare(&ground).variable("LONGSHORE_AZURE_CA_FILE", &certificate).variable("PATH", "/usr/bin:/bin");
    let cli = longshore.variable("AZURE_FORCE_CLI_CREDENTIAL", "1");
    let outcome = cli.run(["snapshots"]).expect_code(6);
    assert!(outcome.stderr.contains("Azure CLI"), "{}", outcome.stderr);
}
