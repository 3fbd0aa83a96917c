//! A repository in a container of Azure Blob Storage, with the names that restic gives its files.
//!
//! # Order and consistency
//! The service is strongly consistent: what was created is seen by every later request of anybody. Puts are create-only
//! ([`blocks`]). A put that was refused because the name is taken (409, 412) is `AlreadyThere`, be it by our own write
//! whose answer got lost.
//!
//! # Retries
//! None here, and none in the client: [`super::retry`] is the one ladder. An error says whether trying again may help
//! ([`errors`]); a wait that the service asks for goes with it.
//!
//! # Cancellation
//! A call whose future is dropped may or may not have happened.
//!
//! # What may leak
//! Nothing of a credential: see [`wire`].

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_storage_blob::models::AccessTier;
use azure_storage_blob::{BlobClient, BlobContainerClient};
use bytes::Bytes;
use proto::handles::{Clock, Random};

use super::error::{Failure, StorageError, StorageErrorKind};
use super::operation::Operation;
use super::request::{check_name, check_prefix, check_range};
use super::{Body, Location, Page, Storage};

mod blocks;
mod checksum;
mod client;
mod crc64;
mod deadline;
mod entra;
mod errors;
mod list;
mod plain_path;
mod read;
mod settings;
mod shared_key;
mod wire;

pub use client::AzureOpenError;
pub use settings::{
    AccountKey, AzureCredential, AzureSettings, Checksum, DEFAULT_API_VERSION, EntraWay, NotAKey, NotASas, PackTier,
    Sas, Secret,
};

use self::blocks::BlockSizes;
use self::deadline::{Moving, within};
use self::errors::{code_of, judge};
use self::wire::ServiceClock;

/// The time for a request without a long body, and for each piece of a long answer.
const STATUS_TIME_MAX: Duration = Duration::from_secs(60);
/// Objects a page: as many as the service gives.
const PAGE_ENTRIES: i32 = 5_000;
/// Below this name are packs, the one kind of file that may have a tier of its own.
const PACKS: &str = "data/";

/// A container, or a prefix in one, as storage.
pub struct Azure {
    container: BlobContainerClient,
    /// What stands before the name of each object; empty or with a slash at its end.
    prefix: String,
    location: String,
    pack_tier: Option<PackTier>,
    checksum: Checksum,
    page_entries: i32,
    block_sizes: BlockSizes,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    service_clock: Arc<ServiceClock>,
    moving: Moving,
}

impl Azure {
    /// The storage below `prefix` in `container`. Nothing is asked of the service yet.
    ///
    /// # Errors
    /// What in `settings` cannot be.
    pub fn new(
        settings: &AzureSettings,
        container: &str,
        prefix: &str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, AzureOpenError> {
        let service_clock = Arc::new(ServiceClock::new());
        let location = Location::Azure { container: container.to_owned(), prefix: prefix.to_owned() };
        Ok(Self {
            container: client::connect(settings, container, clock.clone(), service_clock.clone())?,
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            location: location.to_string(),
            pack_tier: settings.pack_tier,
            checksum: settings.checksum,
            page_entries: PAGE_ENTRIES,
            block_sizes: BlockSizes::default(),
            clock,
            random,
            service_clock,
            moving: Moving::default(),
        })
    }

    /// The same storage with at most `entries` objects a page (1 to 5,000).
    pub fn with_page_entries(self, entries: u16) -> Self {
        Self { page_entries: i32::from(entries).clamp(1, PAGE_ENTRIES), ..self }
    }

    /// The same storage with bodies above `one_request_max` bytes in blocks of `block_bytes`.
    pub fn with_block_bytes(self, one_request_max: u64, block_bytes: u64) -> Self {
        Self { block_sizes: BlockSizes { one_request_max, block: block_bytes.max(1) }, ..self }
    }

    fn blob(&self, name: &str) -> BlobClient {
        self.container.blob_client(&format!("{}{name}", self.prefix))
    }

    fn tier_of(&self, name: &str) -> Option<AccessTier> {
        self.pack_tier.filter(|_| name.starts_with(PACKS)).map(|tier| match tier {
            PackTier::Hot => AccessTier::Hot,
            PackTier::Cool => AccessTier::Cool,
            PackTier::Cold => AccessTier::Cold,
        })
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        match within(&*self.clock, STATUS_TIME_MAX, self.blob(name).delete(None)).await? {
            Ok(_) => Ok(()),
            // A container that is not there is not an empty one.
            Err(error) if code_of(&error) == "BlobNotFound" => Ok(()),
            Err(error) => Err(judge(Operation::Delete, &error, self.service_clock.offset_seconds())),
        }
    }

    /// Who may not make containers may still use one that is there: so it is looked for first.
    async fn create_container(&self) -> Result<(), Failure> {
        match self.page("", None).await {
            Err(failure) if failure.kind == StorageErrorKind::NotFound => {}
            looked => return looked.map(drop),
        }
        match within(&*self.clock, STATUS_TIME_MAX, self.container.create(None)).await? {
            Ok(_) => Ok(()),
            Err(error) if code_of(&error) == "ContainerAlreadyExists" => Ok(()),
            Err(error) => Err(judge(Operation::Create, &error, self.service_clock.offset_seconds())),
        }
    }

    fn told(&self, operation: Operation, name: &str) -> impl Fn(Failure) -> StorageError {
        move |failure| StorageError::new(operation, name, self.location.clone(), failure)
    }
}

impl fmt::Debug for Azure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Azure").field(&self.location).finish()
    }
}

#[async_trait]
impl Storage for Azure {
    fn location(&self) -> String {
        self.location.clone()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        let told = self.told(Operation::Put, name);
        check_name(name).map_err(|error| told(error.into()))?;
        self.create_blob(name, &body).await.map_err(told)
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        let told = self.told(Operation::Get, name);
        check_name(name).map_err(|error| told(error.into()))?;
        // Only what runs backwards is refused here: how long the object is shows later.
        check_range(range.clone(), u64::MAX).map_err(|error| told(error.into()))?;
        self.read(name, range).await.map_err(told)
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        let told = self.told(Operation::Size, name);
        check_name(name).map_err(|error| told(error.into()))?;
        self.length(&self.blob(name)).await.map_err(told)
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        let told = self.told(Operation::List, prefix);
        check_prefix(prefix).map_err(|error| told(error.into()))?;
        self.page(prefix, from).await.map_err(told)
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let told = self.told(Operation::Delete, name);
        check_name(name).map_err(|error| told(error.into()))?;
        self.remove(name).await.map_err(told)
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.create_container().await.map_err(self.told(Operation::Create, "the container"))
    }

    fn clock_offset_seconds(&self) -> Option<i64> {
        self.service_clock.offset_seconds()
    }
}
