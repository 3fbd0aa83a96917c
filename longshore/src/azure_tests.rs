//! What variables come to, and what is refused.

use super::*;

/// Base64 of `hunter2`.
const A_KEY: &str = "aHVudGVyMg==";

fn resolve<const N: usize>(variables: [(&str, &str); N]) -> Result<AzureSettings, AzureConfigError> {
    settings(&variables.into())
}

fn key() -> AzureCredential {
    AzureCredential::SharedKey(AccountKey::parse(A_KEY).unwrap())
}

fn sas(text: &str) -> AzureCredential {
    AzureCredential::Sas(Sas::parse(text).unwrap())
}

#[test]
fn an_account_is_at_its_public_place() {
    let found = resolve([(NAME, "name"), (KEY, A_KEY)]).unwrap();
    assert_eq!(found, AzureSettings::new("name", "https://name.blob.core.windows.net", key()));
    let china = resolve([(NAME, "name"), (KEY, A_KEY), (SUFFIX, "core.chinacloudapi.cn")]).unwrap();
    assert_eq!(china.endpoint, "https://name.blob.core.chinacloudapi.cn");
    let emulator = resolve([(ENDPOINT, "http://127.0.0.1:10000/name/"), (KEY, A_KEY)]).unwrap();
    assert_eq!(emulator, AzureSettings::new("name", "http://127.0.0.1:10000/name", key()));
    let private = [(NAME, "name"), (ENDPOINT, "https://blobs.corp.example"), (KEY, A_KEY)];
    assert_eq!(resolve(private).unwrap(), AzureSettings::new("name", "https://blobs.corp.example", key()));
}

#[test]
fn a_connection_string_says_all_at_once() {
    let portal =
        "DefaultEndpointsProtocol=https;AccountName=name;AccountKey=aHVudGVyMg==;EndpointSuffix=core.windows.net";
    let found = resolve([(CONNECTION, portal)]).unwrap();
    assert_eq!(found, AzureSettings::new("name", "https://name.blob.core.windows.net", key()));
    let signed =
        "BlobEndpoint=https://name.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D;QueueEndpoint=https://q";
    let found = resolve([(CONNECTION, signed)]).unwrap();
    assert_eq!(found, AzureSettings::new("name", "https://name.blob.core.windows.net", sas("sv=1&sig=x%3D")));
    let emulator = resolve([(CONNECTION, "UseDevelopmentStorage=true")]).unwrap();
    assert_eq!((emulator.account.as_str(), emulator.endpoint.as_str()), (EMULATOR_ACCOUNT, EMULATOR_ENDPOINT));
    assert_eq!(resolve([(CONNECTION, "no pairs")]).unwrap_err(), AzureConfigError::ConnectionString);
}

#[test]
fn the_nearest_credential_counts() {
    let both = [(NAME, "name"), (KEY, A_KEY), (SAS, "?sig=x")];
    assert_eq!(resolve(both).unwrap().credential, key());
    assert_eq!(resolve([both[0], both[2]]).unwrap().credential, sas("sig=x"));
    let connection = (CONNECTION, "AccountName=name;AccountKey=aHVudGVyMg==");
    assert_eq!(resolve([both[2], connection]).unwrap().credential, sas("sig=x"));
    assert_eq!(resolve([connection]).unwrap().credential, key());
}

#[test]
fn two_accounts_are_one_too_many() {
    let other = "AccountName=other;AccountKey=aHVudGVyMg==";
    for (variables, words) in [
        (
            [(NAME, "name"), (CONNECTION, other)],
            "AZURE_ACCOUNT_NAME names the storage account name, and AZURE_STORAGE_CONNECTION_STRING names other",
        ),
        ([(NAME, "name"), (ENDPOINT, "http://127.0.0.1:10000/other")], "AZURE_BLOB_ENDPOINT names other"),
        ([(NAME, "name"), (ENDPOINT, "https://other.blob.core.windows.net")], "names other"),
        ([(NAME, "name"), (ENDPOINT, "https://other.privatelink.blob.core.windows.net")], "names other"),
        ([(CONNECTION, other), (ENDPOINT, "http://h/name")], "names name"),
    ] {
        let error = resolve(variables).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(resolve([(KEY, A_KEY)]).unwrap_err(), AzureConfigError::NoAccount);
    assert_eq!(
        resolve([(KEY, A_KEY), (ENDPOINT, "https://blobs.corp.example")]).unwrap_err(),
        AzureConfigError::NoAccount
    );
}

#[test]
fn entra_id_goes_the_ways_that_the_environment_speaks_of() {
    let name = (NAME, "name");
    let (tenant, client) = ((TENANT, "t"), (CLIENT, "c"));
    let ways = |variables: &[(&str, &str)]| {
        let mut all = vec![name];
        all.extend(variables);
        let found = match all.len() {
            1 => resolve([all[0]]),
            2 => resolve([all[0], all[1]]),
            4 => resolve([all[0], all[1], all[2], all[3]]),
            _ => resolve([all[0], all[1], all[2], all[3], all[4], all[5]]),
        };
        let AzureCredential::Entra(ways) = found.unwrap().credential else { panic!("no token") };
        ways
    };
    let managed = |client: Option<&str>, is_announced| EntraWay::ManagedIdentity {
        client: client.map(str::to_owned),
        is_announced,
    };
    let workload = EntraWay::WorkloadIdentity { tenant: "t".into(), client: "c".into(), token_file: "/token".into() };
    let secret = EntraWay::ClientSecret { tenant: "t".into(), client: "c".into(), secret: Secret::new("s") };
    assert_eq!(ways(&[]), [managed(None, false), EntraWay::AzureCli]);
    assert_eq!(ways(&[client]), [managed(Some("c"), false), EntraWay::AzureCli]);
    assert_eq!(ways(&[(FORCE_CLI, "true")]), [EntraWay::AzureCli]);
    assert_eq!(ways(&[tenant, client, (TOKEN_FILE, "/token")]), [workload.clone(), EntraWay::AzureCli]);
    assert_eq!(ways(&[tenant, client, (CLIENT_SECRET, "s")]), [secret.clone(), EntraWay::AzureCli]);
    let all = [tenant, client, (TOKEN_FILE, "/token"), (CLIENT_SECRET, "s"), ("IDENTITY_ENDPOINT", "http://h")];
    assert_eq!(ways(&all), [workload, managed(Some("c"), true), secret, EntraWay::AzureCli]);
}

#[test]
fn settings_have_their_choices() {
    let account = [(NAME, "name"), (KEY, A_KEY)];
    let with = |variable, value| resolve([account[0], account[1], (variable, value)]);
    assert_eq!(with(PACK_TIER, "Cold").unwrap().pack_tier, Some(PackTier::Cold));
    assert_eq!(with(CHECKSUM, "crc64").unwrap().checksum, Checksum::Crc64);
    assert_eq!(with(API_VERSION, "2021-12-02").unwrap().api_version, "2021-12-02");
    assert_eq!(with(CA_FILE, "/ca.pem").unwrap().ca_file, Some("/ca.pem".into()));
    assert!(with(PACK_TIER, "archive").unwrap_err().to_string().contains("hours"));
    assert!(with(PACK_TIER, "warm").unwrap_err().to_string().contains("none of hot, cool, cold"));
    assert!(with(CHECKSUM, "sha1").unwrap_err().to_string().contains("md5, crc64"));
}

#[test]
fn no_secret_is_shown() {
    let account = (NAME, "name");
    for variables in [[account, (KEY, "hunter2 is no key")], [account, (SAS, "hunter2 is no signature")]] {
        let error = resolve(variables).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    for (variable, value) in [
        (CONNECTION, "AccountName=name;AccountKey=!hunter2"),
        (CONNECTION, "BlobEndpoint=https://h/name?sig=hunter2"),
        (ENDPOINT, "https://h/name?sig=hunter2"),
        (ENDPOINT, "https://user:hunter2@h/name"),
        (ENDPOINT, "hunter2"),
    ] {
        let error = resolve([(variable, value)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn no_credential_leaves_the_machine_over_plain_http() {
    let with = |endpoint, credential| resolve([(NAME, "name"), (ENDPOINT, endpoint), credential]);
    for credential in [(KEY, A_KEY), (SAS, "sig=hunter2")] {
        for endpoint in
            ["http://blobs.corp.example", "http://10.0.0.7:10000/name", "http://127.0.0.1.evil.example/name"]
        {
            let error = with(endpoint, credential).unwrap_err();
            assert!(matches!(error, AzureConfigError::PlainHttp { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2") && error.to_string().contains(endpoint), "{error}");
        }
        for endpoint in
            ["https://blobs.corp.example", "http://127.0.0.1:1/name", "http://localhost/name", "http://[::1]:9/name"]
        {
            assert!(with(endpoint, credential).is_ok(), "{endpoint}");
        }
        let plain =
            |value| resolve([(NAME, "name"), (ENDPOINT, "http://azurite:10000/name"), credential, (PLAIN_HTTP, value)]);
        assert!(plain("true").is_ok());
        assert!(matches!(plain("false"), Err(AzureConfigError::PlainHttp { .. })));
        assert!(matches!(plain("yes, please"), Err(AzureConfigError::BadChoice { .. })));
    }
    let portal =
        "DefaultEndpointsProtocol=http;AccountName=name;AccountKey=aHVudGVyMg==;EndpointSuffix=core.windows.net";
    assert!(matches!(resolve([(CONNECTION, portal)]), Err(AzureConfigError::PlainHttp { .. })));
    assert!(with("http://azurite:10000/name", (KEY, EMULATOR_KEY)).is_ok(), "the emulator's key is no secret");
}
