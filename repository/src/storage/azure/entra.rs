//! Tokens of Entra ID: the first of several ways that gives one, and from then on that one.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::ClientOptions;
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use proto::handles::Clock;

use super::settings::EntraWay;

/// A way that gives no token within this time gives none. On a machine without a managed identity nobody answers at its
/// address.
const WAY_TIME_MAX: Duration = Duration::from_secs(10);
/// No way has given a token yet.
const NONE_YET: usize = usize::MAX;

/// No way gave a token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no token of Entra ID: {}", .reasons.join("; "))]
pub(super) struct NoToken {
    reasons: Vec<String>,
    transient: bool,
}

impl NoToken {
    /// Whether a service could not be reached, so that asking again may help.
    pub(super) fn is_transient(&self) -> bool {
        self.transient
    }
}

type Built = azure_core::Result<Arc<dyn TokenCredential>>;

/// One way of a chain.
struct Way {
    name: &'static str,
    credential: Built,
    /// It may well not be there at all: then that it cannot be reached says nothing.
    is_guess: bool,
}

/// Ways to a token, in their order.
pub(super) struct Chain {
    ways: Vec<Way>,
    /// The way that gave the last token.
    chosen: AtomicUsize,
    clock: Arc<dyn Clock>,
}

/// HTTP clients for the ways: the address of a managed identity is never asked for through a proxy.
pub(super) struct Transports {
    pub(super) outside: ClientOptions,
    pub(super) machine: ClientOptions,
}

impl Chain {
    /// The chain of `ways`. What is wrong with one of them shows when it is its turn.
    pub(super) fn new(ways: &[EntraWay], transports: &Transports, clock: Arc<dyn Clock>) -> Self {
        let ways = ways.iter().map(|way| build(way, transports)).collect();
        Self { ways, chosen: AtomicUsize::new(NONE_YET), clock }
    }

    async fn ask(&self, way: &Way, scopes: &[&str]) -> Result<AccessToken, (String, bool)> {
        let credential = way.credential.as_ref().map_err(|error| (words(error), false))?;
        let asked = tokio::select! {
            biased;
            asked = credential.get_token(scopes, None) => asked,
            () = self.clock.sleep(WAY_TIME_MAX) => {
                return Err((format!("no answer within {} seconds", WAY_TIME_MAX.as_secs()), true));
            }
        };
        asked.map_err(|error| (words(&error), may_pass(&error)))
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.ways.iter().map(|way| way.name)).finish()
    }
}

#[async_trait]
impl TokenCredential for Chain {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let chosen = self.chosen.load(Ordering::Relaxed);
        let (mut reasons, mut transient) = (Vec::new(), false);
        for (index, way) in self.ways.iter().enumerate() {
            if chosen != NONE_YET && chosen != index {
                continue;
            }
            match self.ask(way, scopes).await {
                Ok(token) => {
                    tracing::debug!(way = way.name, "a token of Entra ID");
                    self.chosen.store(index, Ordering::Relaxed);
                    return Ok(token);
                }
                Err((reason, may_pass)) => {
                    reasons.push(format!("{}: {reason}", way.name));
                    transient |= may_pass && (chosen == index || !way.is_guess);
                }
            }
        }
        Err(azure_core::Error::new(ErrorKind::Credential, NoToken { reasons, transient }))
    }
}

fn build(way: &EntraWay, transports: &Transports) -> Way {
    let outside = transports.outside.clone();
    let (name, credential): (_, Built) = match way {
        EntraWay::WorkloadIdentity { tenant, client, token_file } => {
            let options = WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options: outside },
                client_id: Some(client.clone()),
                tenant_id: Some(tenant.clone()),
                token_file_path: Some(token_file.clone()),
            };
            ("workload identity", WorkloadIdentityCredential::new(Some(options)).map(|way| way as _))
        }
        EntraWay::ManagedIdentity { client, .. } => {
            let options = ManagedIdentityCredentialOptions {
                user_assigned_id: client.clone().map(UserAssignedId::ClientId),
                client_options: transports.machine.clone(),
            };
            ("managed identity", ManagedIdentityCredential::new(Some(options)).map(|way| way as _))
        }
        EntraWay::ClientSecret { tenant, client, secret } => {
            let options = ClientSecretCredentialOptions { client_options: outside };
            let secret = Secret::new(secret.expose().to_owned());
            let built = ClientSecretCredential::new(tenant, client.clone(), secret, Some(options));
            ("client secret", built.map(|way| way as _))
        }
        EntraWay::AzureCli => ("Azure CLI", AzureCliCredential::new(None).map(|way| way as _)),
    };
    let is_guess = matches!(way, EntraWay::AzureCli | EntraWay::ManagedIdentity { is_announced: false, .. });
    Way { name, credential, is_guess }
}

/// Why a way gave no token, in one line.
fn words(error: &azure_core::Error) -> String {
    let said = if error.source().is_some() { super::errors::deepest(error) } else { error.to_string() };
    said.lines().next().unwrap_or_default().chars().take(300).collect()
}

/// Whether asking again may give a token. A refusal is what the token service says in an answer that can be read, and
/// what a way finds out by itself, as that a program is not there; everything else is the line, or what stands in it.
fn may_pass(error: &azure_core::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut may_pass = false;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<azure_core::Error>() {
            match error.kind() {
                ErrorKind::HttpResponse { status, .. } => return !matches!(u16::from(*status), 400 | 401 | 403),
                ErrorKind::Credential => {} // says that there is no token; why stands below
                _ => may_pass = true,
            }
        }
        cause = error.source();
    }
    may_pass
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use azure_core::time::OffsetDateTime;

    use super::*;
    use crate::storage::test_handles::JumpingClock;

    /// Gives what it is told to, in turn; then never answers.
    #[derive(Debug)]
    struct Scripted(Mutex<Vec<azure_core::Result<&'static str>>>);

    #[async_trait]
    impl TokenCredential for Scripted {
        async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
            let next = self.0.lock().unwrap().pop();
            match next {
                Some(answer) => answer.map(|token| AccessToken::new(token, OffsetDateTime::UNIX_EPOCH)),
                None => std::future::pending().await,
            }
        }
    }

    fn chain(ways: Vec<Vec<azure_core::Result<&'static str>>>) -> Chain {
        let way = |mut answers: Vec<_>| {
            answers.reverse();
            let credential: Arc<dyn TokenCredential> = Arc::new(Scripted(Mutex::new(answers)));
            Way { name: "way", credential: Ok(credential), is_guess: false }
        };
        let ways = ways.into_iter().map(way).collect();
        Chain { ways, chosen: AtomicUsize::new(NONE_YET), clock: Arc::new(JumpingClock::default()) }
    }

    fn refused() -> azure_core::Result<&'static str> {
        Err(azure_core::Error::with_message(ErrorKind::Credential, "refused\nsecond line"))
    }

    fn away() -> azure_core::Result<&'static str> {
        let cause = azure_core::Error::with_message(ErrorKind::Connection, "away");
        Err(azure_core::Error::with_error(ErrorKind::Credential, cause, "failed"))
    }

    /// What the client makes of an answer of the token service.
    fn answered(kind: ErrorKind) -> azure_core::Result<&'static str> {
        let cause = azure_core::Error::with_message(kind, "answered");
        Err(azure_core::Error::with_error(ErrorKind::Credential, cause, "failed"))
    }

    #[tokio::test]
    async fn only_an_answer_that_can_be_read_is_a_refusal() {
        let status = |status: u16| ErrorKind::HttpResponse {
            status: azure_core::http::StatusCode::from(status),
            error_code: None,
            raw_response: None,
        };
        for (kind, is_transient) in [
            (status(400), false),
            (status(401), false),
            (status(403), false),
            (status(404), true),
            (status(410), true),
            (status(429), true),
            (status(502), true),
            (ErrorKind::DataConversion, true),
            (ErrorKind::Other, true),
            (ErrorKind::Io, true),
        ] {
            let error = ask(&chain(vec![vec![answered(kind.clone())]])).await.unwrap_err();
            assert_eq!(error.is_transient(), is_transient, "{kind:?}");
        }
    }

    async fn ask(chain: &Chain) -> Result<String, NoToken> {
        match chain.get_token(&["scope"], None).await {
            Ok(token) => Ok(token.token.secret().to_owned()),
            Err(error) => Err(error.downcast_ref::<NoToken>().unwrap().clone()),
        }
    }

    #[tokio::test]
    async fn the_first_way_that_gives_a_token_stays_the_one() {
        let chain = chain(vec![vec![refused(), Ok("never")], vec![Ok("one"), away(), Ok("two")]]);
        assert_eq!(ask(&chain).await.unwrap(), "one");
        let error = ask(&chain).await.unwrap_err();
        assert!(error.is_transient(), "the way that worked is away for a moment: {error}");
        assert_eq!(ask(&chain).await.unwrap(), "two");
    }

    #[tokio::test]
    async fn every_way_says_why_it_gives_none() {
        let error = ask(&chain(vec![vec![refused()], vec![away()], vec![]])).await.unwrap_err();
        let expected = "no token of Entra ID: way: refused; way: away; way: no answer within 10 seconds";
        assert_eq!(error.to_string(), expected);
        assert!(error.is_transient());
        let mut guess = chain(vec![vec![away()]]);
        guess.ways[0].is_guess = true;
        assert!(!ask(&guess).await.unwrap_err().is_transient(), "there may be none at all");
    }
}
