//! How to reach a storage account: what the environment says becomes plain settings, or a usage error. No value of a
//! secret is shown.

use std::net::IpAddr;

use repository::storage::azure::{
    AccountKey, AzureCredential, AzureSettings, Checksum, EntraWay, NotAKey, NotASas, PackTier, Sas, Secret,
};

use crate::environment::{Environment, NotText};

/// The domain of the public cloud, as restic has it.
const DEFAULT_SUFFIX: &str = "core.windows.net";
/// The account of the storage emulator, its key and its place: public knowledge.
/// <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const EMULATOR_ENDPOINT: &str = "http://127.0.0.1:10000/devstoreaccount1";

const NAME: &str = "AZURE_ACCOUNT_NAME";
const KEY: &str = "AZURE_ACCOUNT_KEY";
const SAS: &str = "AZURE_ACCOUNT_SAS";
const CONNECTION: &str = "AZURE_STORAGE_CONNECTION_STRING";
const ENDPOINT: &str = "AZURE_BLOB_ENDPOINT";
const SUFFIX: &str = "AZURE_ENDPOINT_SUFFIX";
const FORCE_CLI: &str = "AZURE_FORCE_CLI_CREDENTIAL";
const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT: &str = "AZURE_CLIENT_ID";
const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const CA_FILE: &str = "LONGSHORE_AZURE_CA_FILE";
const API_VERSION: &str = "LONGSHORE_AZURE_API_VERSION";
const PACK_TIER: &str = "LONGSHORE_AZURE_PACK_TIER";
const CHECKSUM: &str = "LONGSHORE_AZURE_CHECKSUM";
const PLAIN_HTTP: &str = "LONGSHORE_AZURE_PLAIN_HTTP";

/// Variables that name no account that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AzureConfigError {
    /// A variable must be text.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// Nobody says which account.
    #[error("the repository is in Azure Blob Storage, and no variable names the storage account")]
    NoAccount,
    /// Two variables do, and differ.
    #[error("{first} names the storage account {first_account}, and {second} names {second_account}")]
    TwoAccounts {
        /// A variable.
        first: &'static str,
        /// Its account.
        first_account: String,
        /// Another one.
        second: &'static str,
        /// Its account.
        second_account: String,
    },
    /// The key is none.
    #[error("{variable}: {source}")]
    Key {
        /// The variable.
        variable: &'static str,
        /// Why.
        source: NotAKey,
    },
    /// The shared access signature is none.
    #[error("{variable}: {source}")]
    Sas {
        /// The variable.
        variable: &'static str,
        /// Why.
        source: NotASas,
    },
    /// The connection string cannot be taken apart.
    #[error("{CONNECTION} is not made of NAME=VALUE with semicolons between")]
    ConnectionString,
    /// The endpoint has what it is shown and logged without, or is no URL.
    #[error("the endpoint in {variable} is not an http or https URL without user, query and fragment")]
    Endpoint {
        /// The variable.
        variable: &'static str,
    },
    /// Whoever is on the line could use what is sent there.
    #[error("{endpoint} is not https: {credential} is not sent to another host over plain http")]
    PlainHttp {
        /// The endpoint.
        endpoint: String,
        /// What would be sent.
        credential: &'static str,
    },
    /// Packs in the archive cannot be read.
    #[error(
        "{PACK_TIER} is archive: packs in the archive tier take hours to be read again, so no backup could be checked, \
         continued or restored"
    )]
    Archive,
    /// A setting with a value that it does not have.
    #[error("{variable} is {value:?}, which is none of {possible}")]
    BadChoice {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        possible: &'static str,
    },
}

/// What the variables say.
pub(crate) fn settings(environment: &Environment) -> Result<AzureSettings, AzureConfigError> {
    let text = |name| environment.text(name).map(|text| text.map(str::trim));
    let connection = text(CONNECTION)?.map(ConnectionString::parse).transpose()?.unwrap_or_default();
    let suffix = text(SUFFIX)?.or(connection.suffix).unwrap_or(DEFAULT_SUFFIX);
    let endpoint = text(ENDPOINT)?.map(|endpoint| plain_endpoint(ENDPOINT, endpoint)).transpose()?;
    let account = one_account(&[
        (NAME, text(NAME)?.map(str::to_owned)),
        (CONNECTION, connection.account.map(str::to_owned)),
        (CONNECTION, connection.endpoint.and_then(account_in)),
        (ENDPOINT, endpoint.and_then(account_in)),
    ])?;
    let public = || format!("{}://{account}.blob.{suffix}", connection.protocol.unwrap_or("https"));
    let endpoint = endpoint.or(connection.endpoint).map_or_else(public, str::to_owned);
    let mut settings = AzureSettings::new(&account, &endpoint, credential(environment, &connection)?);
    if !text(PLAIN_HTTP)?.map(switch).transpose()?.unwrap_or(false) {
        refuse_plain_http(&settings)?;
    }
    if let Some(version) = text(API_VERSION)? {
        settings.api_version = version.to_owned();
    }
    settings.pack_tier = text(PACK_TIER)?.map(pack_tier).transpose()?;
    settings.checksum = text(CHECKSUM)?.map(checksum).transpose()?.unwrap_or_default();
    settings.ca_file = environment.get(CA_FILE).map(Into::into);
    Ok(settings)
}

/// The parts of a connection string, as the portal gives it.
#[derive(Default)]
struct ConnectionString<'a> {
    account: Option<&'a str>,
    key: Option<&'a str>,
    sas: Option<&'a str>,
    endpoint: Option<&'a str>,
    suffix: Option<&'a str>,
    protocol: Option<&'a str>,
}

impl<'a> ConnectionString<'a> {
    fn parse(text: &'a str) -> Result<Self, AzureConfigError> {
        let mut parts = Self::default();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(AzureConfigError::ConnectionString)?;
            match name.to_ascii_lowercase().as_str() {
                "accountname" => parts.account = Some(value),
                "accountkey" => parts.key = Some(value),
                "sharedaccesssignature" => parts.sas = Some(value),
                "blobendpoint" => parts.endpoint = Some(plain_endpoint(CONNECTION, value)?),
                "endpointsuffix" => parts.suffix = Some(value),
                "defaultendpointsprotocol" => parts.protocol = Some(value),
                "usedevelopmentstorage" if value.eq_ignore_ascii_case("true") => {
                    parts.account = Some(EMULATOR_ACCOUNT);
                    parts.key = Some(EMULATOR_KEY);
                    parts.endpoint = Some(EMULATOR_ENDPOINT);
                }
                _ => {} // queues, tables and files have endpoints too
            }
        }
        Ok(parts)
    }
}

/// An endpoint that can be shown: a signature behind a question mark would be a secret.
fn plain_endpoint<'a>(variable: &'static str, endpoint: &'a str) -> Result<&'a str, AzureConfigError> {
    let is_url = ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
    if !is_url || endpoint.contains(['?', '#', '@']) {
        return Err(AzureConfigError::Endpoint { variable });
    }
    Ok(endpoint.trim_end_matches('/'))
}

/// Refuses a credential that others could read or use on its way: a signature as it is, and what a key signs within the
/// minutes that it holds. Tokens are refused by the storage, with no exception.
fn refuse_plain_http(settings: &AzureSettings) -> Result<(), AzureConfigError> {
    let credential = match &settings.credential {
        AzureCredential::SharedKey(key) if AccountKey::parse(EMULATOR_KEY).is_ok_and(|public| public == *key) => {
            return Ok(()); // everybody knows it
        }
        AzureCredential::SharedKey(_) => "what an account key signs",
        AzureCredential::Sas(_) => "a shared access signature",
        AzureCredential::Entra(_) => return Ok(()),
    };
    let is_plain = settings.endpoint.strip_prefix("http://").is_some_and(|rest| !is_this_host(rest));
    let endpoint = || settings.endpoint.clone();
    if is_plain { Err(AzureConfigError::PlainHttp { endpoint: endpoint(), credential }) } else { Ok(()) }
}

/// Whether `host[:port][/path]` does not leave this machine.
fn is_this_host(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || host.eq_ignore_ascii_case("localhost")
}

fn switch(value: &str) -> Result<bool, AzureConfigError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad_choice(PLAIN_HTTP, value, "true, false")),
    }
}

/// The account that all agree on.
fn one_account(named: &[(&'static str, Option<String>)]) -> Result<String, AzureConfigError> {
    let mut all = named.iter().filter_map(|(variable, account)| Some((*variable, account.as_ref()?)));
    let (first, first_account) = all.next().ok_or(AzureConfigError::NoAccount)?;
    match all.find(|(_, account)| *account != first_account) {
        None => Ok(first_account.clone()),
        Some((second, second_account)) => Err(AzureConfigError::TwoAccounts {
            first,
            first_account: first_account.clone(),
            second,
            second_account: second_account.clone(),
        }),
    }
}

/// The account in the URL of an endpoint: the first part of its path, or the first label of `NAME.blob.DOMAIN` and
/// `NAME.privatelink.blob.DOMAIN`. Other hosts say nothing.
fn account_in(endpoint: &str) -> Option<String> {
    let (_, rest) = endpoint.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let in_path = path.split('/').find(|part| !part.is_empty());
    if let Some(account) = in_path {
        return Some(account.to_owned());
    }
    let (account, domain) = authority.split_once('.')?;
    let is_blob = domain.starts_with("blob.") || domain.starts_with("privatelink.blob.");
    is_blob.then(|| account.to_owned())
}

/// A key counts before a signature, as in restic, and both before the connection string. Without any: Entra ID.
fn credential(
    environment: &Environment,
    connection: &ConnectionString<'_>,
) -> Result<AzureCredential, AzureConfigError> {
    let key = environment.text(KEY)?.map(|key| (KEY, key));
    let sas = environment.text(SAS)?.map(|sas| (SAS, sas));
    let connection_key = connection.key.map(|key| (CONNECTION, key)).filter(|_| sas.is_none());
    if let Some((variable, key)) = key.or(connection_key) {
        let key = AccountKey::parse(key).map_err(|source| AzureConfigError::Key { variable, source })?;
        return Ok(AzureCredential::SharedKey(key));
    }
    if let Some((variable, sas)) = sas.or(connection.sas.map(|sas| (CONNECTION, sas))) {
        let sas = Sas::parse(sas).map_err(|source| AzureConfigError::Sas { variable, source })?;
        return Ok(AzureCredential::Sas(sas));
    }
    Ok(AzureCredential::Entra(entra_ways(environment)?))
}

/// Workload identity, managed identity, client secret, Azure CLI: of these, what the environment speaks of. A virtual
/// machine says nothing of its managed identity, so that one is tried where no other is spoken of; the CLI comes last.
fn entra_ways(environment: &Environment) -> Result<Vec<EntraWay>, AzureConfigError> {
    let text = |name| environment.text(name).map(|text| text.map(str::to_owned));
    if text(FORCE_CLI)?.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return Ok(vec![EntraWay::AzureCli]);
    }
    let (tenant, client) = (text(TENANT)?, text(CLIENT)?);
    let mut ways = Vec::new();
    if let (Some(tenant), Some(client), Some(file)) = (&tenant, &client, environment.get(TOKEN_FILE)) {
        let (tenant, client) = (tenant.clone(), client.clone());
        ways.push(EntraWay::WorkloadIdentity { tenant, client, token_file: file.into() });
    }
    let secret = environment.text(CLIENT_SECRET)?.map(Secret::new);
    let by_secret = tenant.zip(client.clone()).zip(secret);
    let is_announced = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"].iter().any(|name| environment.get(name).is_some());
    if is_announced || (ways.is_empty() && by_secret.is_none()) {
        ways.push(EntraWay::ManagedIdentity { client, is_announced });
    }
    ways.extend(by_secret.map(|((tenant, client), secret)| EntraWay::ClientSecret { tenant, client, secret }));
    ways.push(EntraWay::AzureCli);
    Ok(ways)
}

fn pack_tier(value: &str) -> Result<PackTier, AzureConfigError> {
    match value.to_ascii_lowercase().as_str() {
        "hot" => Ok(PackTier::Hot),
        "cool" => Ok(PackTier::Cool),
        "cold" => Ok(PackTier::Cold),
        "archive" => Err(AzureConfigError::Archive),
        _ => Err(bad_choice(PACK_TIER, value, "hot, cool, cold")),
    }
}

fn checksum(value: &str) -> Result<Checksum, AzureConfigError> {
    match value.to_ascii_lowercase().as_str() {
        "md5" => Ok(Checksum::Md5),
        "crc64" => Ok(Checksum::Crc64),
        _ => Err(bad_choice(CHECKSUM, value, "md5, crc64")),
    }
}

fn bad_choice(variable: &'static str, value: &str, possible: &'static str) -> AzureConfigError {
    AzureConfigError::BadChoice { variable, value: value.to_owned(), possible }
}

#[cfg(test)]
#[path = "azure_tests.rs"]
mod tests;
