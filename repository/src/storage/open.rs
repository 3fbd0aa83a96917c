//! The one place where a storage and its wrappers are stacked.
//!
//! ```text
//! caller -> Retry -> Limit -> Meter -> the storage itself
//! ```
//! A try that waits for its turn holds no place; each try is counted by itself.

use std::sync::Arc;

use proto::handles::{Clock, Random};

use super::azure::{AzureOpenError, AzureSettings};
use super::limit::{Limit, Limits};
use super::meter::{Counters, Meter};
use super::retry::{Backoff, Retry};
use super::{Azure, Local, Location, Storage};

/// What a user can set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Requests and bytes.
    pub limits: Limits,
    /// When to try again, and when to give up.
    pub backoff: Backoff,
}

/// What a storage needs from its process.
pub struct Options {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Where the requests are counted.
    pub counters: Arc<Counters>,
    /// What a user can set.
    pub settings: Settings,
    /// The storage account, where one is configured.
    pub azure: Option<AzureSettings>,
}

impl Options {
    /// Options with their defaults and counters of their own.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random, counters: Arc::default(), settings: Settings::default(), azure: None }
    }
}

/// A storage that cannot be opened at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody said which storage account it is.
    #[error("{location}: no storage account is configured")]
    NoAccount {
        /// The place in restic's notation.
        location: String,
    },
    /// The storage account cannot be reached as it is configured.
    #[error("{location}")]
    Account {
        /// The place in restic's notation.
        location: String,
        /// What is wrong.
        source: AzureOpenError,
    },
}

/// The storage at `location`. Nothing is read or made; see [`Storage::create`].
///
/// # Errors
/// An account that is missing or cannot be used, for `azure:`.
pub fn open(location: &Location, options: Options) -> Result<Arc<dyn Storage>, OpenError> {
    let storage: Arc<dyn Storage> = match location {
        Location::Local(path) => Arc::new(Local::new(path)),
        Location::Azure { container, prefix } => {
            let location = location.to_string();
            let Some(settings) = &options.azure else { return Err(OpenError::NoAccount { location }) };
            let azure = Azure::new(settings, container, prefix, options.clock.clone(), options.random.clone());
            Arc::new(azure.map_err(|source| OpenError::Account { location, source })?)
        }
        #[cfg(any(test, feature = "testing"))]
        Location::Memory => Arc::new(super::Memory::new()),
    };
    Ok(stack(storage, options))
}

/// Puts the wrappers round `storage`, which may be one of a test's own.
pub fn stack(storage: Arc<dyn Storage>, options: Options) -> Arc<dyn Storage> {
    let Options { clock, random, counters, settings, azure: _ } = options;
    let metered = Arc::new(Meter::new(storage, counters.clone(), clock.clone()));
    let limited = Arc::new(Limit::new(metered, settings.limits, clock.clone()));
    Arc::new(Retry::new(limited, settings.backoff, clock, random, counters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::azure::{AzureCredential, EntraWay};
    use crate::storage::faulty::{Fault, Faulty};
    use crate::storage::test_handles::{JumpingClock, SeededRandom};
    use crate::storage::{Memory, Operation, StorageErrorKind, contract};

    fn options() -> Options {
        Options::new(Arc::new(JumpingClock::default()), Arc::new(SeededRandom::new(1)))
    }

    #[tokio::test]
    async fn the_whole_stack_keeps_the_contract() {
        contract::run(|| open(&Location::Memory, options()).unwrap()).await;
    }

    #[tokio::test]
    async fn a_directory_is_opened_where_it_is_said_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        let storage = open(&Location::Local(root.clone()), options()).unwrap();
        assert_eq!(storage.location(), root.display().to_string());
        storage.create().await.unwrap();
        storage.put("keys/a", b"content".to_vec().into()).await.unwrap();
        assert_eq!(std::fs::read(root.join("keys/a")).unwrap(), b"content");
    }

    #[test]
    fn azure_says_what_is_missing() {
        let location: Location = "azure:box:/prefix".parse().unwrap();
        let error = open(&location, options()).unwrap_err();
        assert_eq!(error.to_string(), "azure:box:/prefix: no storage account is configured");
        let credential = AzureCredential::Entra(vec![EntraWay::AzureCli]);
        for (endpoint, ca_file, words) in [
            ("file:///x", None, "not an http or https URL"),
            ("http://h/name", None, "not https"),
            ("https://h", Some("/nonexistent".into()), "read the certificates in /nonexistent"),
            ("https://h", Some("/dev/null".into()), "no certificates"),
        ] {
            let settings = AzureSettings { ca_file, ..AzureSettings::new("name", endpoint, credential.clone()) };
            let error = open(&location, Options { azure: Some(settings), ..options() }).unwrap_err();
            let OpenError::Account { source, .. } = error else { panic!("{error}") };
            assert!(source.to_string().contains(words), "{source}");
        }
    }

    #[tokio::test]
    async fn each_try_is_counted() {
        let options = options();
        let counters = options.counters.clone();
        let faults = [Fault::Refused(StorageErrorKind::Unavailable), Fault::LostAnswer];
        let faulty = Faulty::scripted(Arc::new(Memory::new()), options.clock.clone(), faults);
        stack(Arc::new(faulty), options).put("config", b"x".to_vec().into()).await.unwrap();
        let totals = counters.snapshot();
        assert_eq!(totals.retries, 2);
        assert_eq!(totals.requests(Operation::Put, Err(StorageErrorKind::Unavailable)), 1);
        assert_eq!(totals.requests(Operation::Put, Err(StorageErrorKind::Unknown)), 1);
        assert_eq!(totals.requests(Operation::Put, Err(StorageErrorKind::AlreadyThere)), 1);
        assert_eq!(totals.requests(Operation::Size, Ok(())), 1);
        assert_eq!(totals.requests(Operation::Get, Ok(())), 1);
    }
}
