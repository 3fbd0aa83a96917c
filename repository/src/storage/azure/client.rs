//! Sets the client of the service up: transport, certificates, who signs, and no retries but ours.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::policies::Policy;
use azure_core::http::{ClientOptions, RetryOptions, Transport, Url, UserAgentOptions};
use azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use proto::handles::Clock;
use reqwest::Certificate;

use super::checksum::ChecksumPolicy;
use super::entra::{Chain, Transports};
use super::plain_path::PlainPathPolicy;
use super::settings::{AzureCredential, AzureSettings};
use super::shared_key::SharedKeyPolicy;
use super::wire::{ServiceClock, Wire};

/// A connection that is not there by then will not be.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Unused connections are given up before the service does so, which is after two minutes or more.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// How soon a peer that went away silently is noticed between requests.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// An account that cannot be reached as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum AzureOpenError {
    /// The file of certificates cannot be read.
    #[error("read the certificates in {}", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate in it, or none that is one.
    #[error("{} holds no certificates in PEM", .path.display())]
    CaContent {
        /// The file.
        path: PathBuf,
    },
    /// The endpoint is no URL that containers can be below.
    #[error("the endpoint {endpoint} is not an http or https URL")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// Tokens are not sent where others can read them.
    #[error("the endpoint {endpoint} is not https: tokens of Entra ID are not sent over plain http")]
    PlainToken {
        /// The endpoint.
        endpoint: String,
    },
    /// The HTTP client cannot be made.
    #[error("set the HTTP client up")]
    Http(#[source] reqwest::Error),
    /// The client of the service cannot be made.
    #[error("set the client of Azure Blob Storage up")]
    Client(#[source] azure_core::Error),
}

/// Makes ring the TLS provider of this process, unless one is set. Without one the HTTP client cannot be built.
pub(super) fn install_tls() {
    // A second one is refused, and the first one does.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The client of one container.
pub(super) fn connect(
    settings: &AzureSettings,
    container: &str,
    clock: Arc<dyn Clock>,
    service_clock: Arc<ServiceClock>,
) -> Result<BlobContainerClient, AzureOpenError> {
    install_tls();
    let url = container_url(&settings.endpoint, container)?;
    let client = http_client(settings, Proxy::OfTheEnvironment)?;
    let mut policies: Vec<Arc<dyn Policy>> =
        vec![Arc::new(PlainPathPolicy), Arc::new(ChecksumPolicy(settings.checksum))];
    let (mut sas, mut token): (_, Option<Arc<dyn TokenCredential>>) = (None, None);
    match &settings.credential {
        AzureCredential::SharedKey(key) => {
            policies.push(Arc::new(SharedKeyPolicy::new(&settings.account, key.clone(), clock.clone())));
        }
        AzureCredential::Sas(signature) => sas = Some(signature.clone()),
        AzureCredential::Entra(_) if url.scheme() != "https" => {
            return Err(AzureOpenError::PlainToken { endpoint: settings.endpoint.clone() });
        }
        AzureCredential::Entra(ways) => {
            let transport = |client| {
                Arc::new(Wire { client, sas: None, clock: clock.clone(), service_clock: Arc::new(ServiceClock::new()) })
            };
            let machine = http_client(settings, Proxy::Never)?;
            let transports = Transports {
                outside: client_options(Vec::new(), transport(client.clone())),
                machine: client_options(Vec::new(), transport(machine)),
            };
            token = Some(Arc::new(Chain::new(ways, &transports, clock.clone())));
        }
    }
    let options = BlobContainerClientOptions {
        client_options: client_options(policies, Arc::new(Wire { client, sas, clock, service_clock })),
        version: settings.api_version.clone(),
    };
    BlobContainerClient::new(url, token, Some(options)).map_err(AzureOpenError::Client)
}

fn container_url(endpoint: &str, container: &str) -> Result<Url, AzureOpenError> {
    let wrong = || AzureOpenError::Endpoint { endpoint: endpoint.to_owned() };
    let mut url = Url::parse(endpoint).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
        return Err(wrong());
    }
    url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().push(container);
    Ok(url)
}

/// Whether HTTPS_PROXY and its like count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proxy {
    OfTheEnvironment,
    Never,
}

/// No redirects, no decompression, and no limit on a whole request: that one grows with the body, and is ours.
fn http_client(settings: &AzureSettings, proxy: Proxy) -> Result<reqwest::Client, AzureOpenError> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIME_MAX)
        .pool_idle_timeout(IDLE_TIME_MAX)
        .tcp_keepalive(KEEPALIVE)
        .tls_certs_merge(certificates(settings)?);
    if proxy == Proxy::Never {
        builder = builder.no_proxy();
    }
    builder.build().map_err(AzureOpenError::Http)
}

fn certificates(settings: &AzureSettings) -> Result<Vec<Certificate>, AzureOpenError> {
    let Some(path) = &settings.ca_file else { return Ok(Vec::new()) };
    let pem = std::fs::read(path).map_err(|source| AzureOpenError::CaFile { path: path.clone(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(AzureOpenError::CaContent { path: path.clone() }),
    }
}

/// Options without retries: there is one ladder, [`crate::storage::retry`].
fn client_options(per_try_policies: Vec<Arc<dyn Policy>>, wire: Arc<Wire>) -> ClientOptions {
    ClientOptions {
        per_try_policies,
        retry: RetryOptions::none(),
        transport: Some(Transport::new(wire)),
        user_agent: UserAgentOptions { application_id: Some("longshore".to_owned()) },
        ..ClientOptions::default()
    }
}
