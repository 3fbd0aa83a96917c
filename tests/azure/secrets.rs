//! Planted secrets: nothing that the program writes at its most talkative holds one, whatever goes wrong.

use tests::azurite::{ALL_RIGHTS, Azurite, key_text, longshore_at, signature, token};
use tests::proxy::{Fault, Kind, Proxy};

use crate::ground::{Ground, REPOSITORY};

/// Every form in which a planted secret could be printed.
fn planted() -> Vec<String> {
    let signature = signature(ALL_RIGHTS);
    let (_, encoded) = signature.split_once("sig=").expect("signed");
    let decoded = encoded.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    vec![
        key_text(),
        "the planted key".to_owned(),
        encoded.to_owned(),
        decoded,
        token(),
        tests::restic::PASSWORD.to_owned(),
    ]
}

#[test]
fn no_secret_is_in_anything_that_is_printed() {
    let ground = Ground::bare(Azurite::start());
    ground.add_files("tree", 3, 10_000);
    let proxy = Proxy::before(ground.azurite.port());
    let through = format!("http://127.0.0.1:{}/{}", proxy.port(), tests::azurite::ACCOUNT);
    ground.longshore().run(["init"]).expect_code(0);
    let tree = ground.scratch.join("tree");
    let tree = tree.to_str().expect("plain");
    let mut printed = 0;
    for endpoint in [through.as_str(), "http://127.0.0.1:1/lab", "https://lab.blob.storage.invalid"] {
        for (variable, value) in [("AZURE_ACCOUNT_KEY", key_text()), ("AZURE_ACCOUNT_SAS", signature(ALL_RIGHTS))] {
            for (kind, fault) in
                [(Kind::PutBlob, Fault::LoseAnswer), (Kind::Get, Fault::LoseRequest), (Kind::List, Fault::Busy)]
            {
                proxy.plan(kind, "", fault, 1);
            }
            let longshore = longshore_at(endpoint, REPOSITORY, &ground.password_file)
                .variable(variable, &value)
                .variable("LONGSHORE_LOG", "trace")
                .limit_seconds(120);
            for words in [&["backup", tree][..], &["snapshots"], &["check", "--read-data"]] {
                let outcome = longshore.run(words);
                assert_eq!(outcome.code, if endpoint == through { 0 } else { 7 }, "{}", outcome.stderr);
                assert!(outcome.stderr.contains("TRACE") || outcome.stderr.contains("DEBUG"), "it is not talkative");
                let text = format!("{}{}", outcome.text(), outcome.stderr);
                printed += text.len();
                for secret in planted() {
                    assert!(!text.contains(&secret), "{words:?} with {variable} at {endpoint} prints {secret}");
                }
                if endpoint != through {
                    break; // one command tells enough of a service that is not there
                }
            }
        }
    }
    println!("{printed} bytes were looked through");
    assert!(printed > 100_000);
}

#[test]
fn a_refused_credential_is_not_printed() {
    let ground = Ground::bare(Azurite::start());
    ground.longshore().run(["init"]).expect_code(0);
    let wrong_key = "cGxhbnRlZCB3cm9uZyBrZXk=";
    let wrong_sas = signature("l").replace("sig=", "sig=planted%2F");
    for (variable, value, secret) in
        [("AZURE_ACCOUNT_KEY", wrong_key, wrong_key), ("AZURE_ACCOUNT_SAS", wrong_sas.as_str(), "planted")]
    {
        let longshore = longshore_at(&ground.azurite.endpoint(), REPOSITORY, &ground.password_file)
            .variable(variable, value)
            .variable("LONGSHORE_LOG", "trace");
        let outcome = longshore.run(["--json", "snapshots"]).expect_code(6);
        assert!(!format!("{}{}", outcome.text(), outcome.stderr).contains(secret), "{}", outcome.stderr);
    }
}
