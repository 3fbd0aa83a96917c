//! Storage in memory: for tests, the simulation and as an oracle. Deterministic, never blocks
//! (except to read a spooled body), never fails by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::error::{Failure, StorageError, StorageErrorKind};
use super::operation::Operation;
use super::request::{check_name, check_prefix, check_range};
use super::{Body, Entry, Page, Storage};

/// Objects a page; tests ask for less.
const PAGE_ENTRIES: usize = 5_000;

/// A storage that is lost with the process. Clones share their content.
#[derive(Clone)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    page_entries: usize,
}

impl Memory {
    /// An empty storage.
    pub fn new() -> Self {
        Self::from_content(BTreeMap::new())
    }

    /// A storage that holds `content`, as [`Memory::content`] gave it.
    pub fn from_content(content: BTreeMap<String, Bytes>) -> Self {
        Self { objects: Arc::new(Mutex::new(content)), page_entries: PAGE_ENTRIES }
    }

    /// The same storage with at most `entries` objects a page (at least 1).
    pub fn with_page_entries(self, entries: usize) -> Self {
        Self { page_entries: entries.max(1), ..self }
    }

    /// Everything that is stored at this moment, by name. The bytes are shared, not copied.
    pub fn content(&self) -> BTreeMap<String, Bytes> {
        self.objects().clone()
    }

    /// Puts damage into the storage: `name` becomes `bytes`, or goes away.
    pub fn tamper(&self, name: &str, bytes: Option<Bytes>) {
        match bytes {
            Some(bytes) => self.objects().insert(name.to_owned(), bytes),
            None => self.objects().remove(name),
        };
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        // Every change is one call on the map, so a panic elsewhere leaves it whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<Bytes, Failure> {
        check_name(name)?;
        Ok(self.objects().get(name).cloned().ok_or(StorageErrorKind::NotFound)?)
    }

    fn insert(&self, name: &str, body: &Body) -> Result<(), Failure> {
        check_name(name)?;
        let bytes = body.read(0..body.len())?;
        match self.objects().entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => Err(StorageErrorKind::AlreadyThere.into()),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(bytes);
                Ok(())
            }
        }
    }

    fn page(&self, prefix: &str, from: Option<&str>) -> Result<Page, Failure> {
        check_prefix(prefix)?;
        let start = match from {
            Some(from) if from >= prefix => Bound::Excluded(from),
            _ => Bound::Included(prefix),
        };
        let objects = self.objects();
        let mut rest =
            objects.range::<str, _>((start, Bound::Unbounded)).take_while(|(name, _)| name.starts_with(prefix));
        let entry = |(name, bytes): (&String, &Bytes)| Entry { name: name.clone(), size: bytes.len() as u64 };
        let entries: Vec<Entry> = rest.by_ref().take(self.page_entries).map(entry).collect();
        let next = rest.next().and_then(|_| entries.last().map(|last| last.name.clone()));
        Ok(Page { entries, next })
    }

    fn error(&self, operation: Operation, name: &str) -> impl FnOnce(Failure) -> StorageError {
        move |failure| StorageError::new(operation, name, self.location(), failure)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").field("objects", &self.objects().len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for Memory {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        self.insert(name, &body).map_err(self.error(Operation::Put, name))
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        let slice = |bytes: Bytes| {
            let range = check_range(range, bytes.len() as u64)?;
            Ok(bytes.slice(range.start as usize..range.end as usize))
        };
        self.find(name).and_then(slice).map_err(self.error(Operation::Get, name))
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.find(name).map(|bytes| bytes.len() as u64).map_err(self.error(Operation::Size, name))
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.page(prefix, from).map_err(self.error(Operation::List, prefix))
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        check_name(name).map_err(Failure::from).map_err(self.error(Operation::Delete, name))?;
        self.objects().remove(name);
        Ok(())
    }

    async fn create(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::run(|| Arc::new(Memory::new())).await;
    }

    #[tokio::test]
    async fn keeps_the_contract_with_one_object_a_page() {
        contract::run(|| Arc::new(Memory::new().with_page_entries(1))).await;
    }

    #[tokio::test]
    async fn a_page_is_full_before_there_is_another() {
        let storage = Memory::new().with_page_entries(2);
        let mut pages = Vec::new();
        for name in ["keys/a", "keys/b", "keys/c"] {
            storage.put(name, vec![].into()).await.unwrap();
            let page = storage.list("keys/", None).await.unwrap();
            pages.push((page.entries.len(), page.next));
        }
        assert_eq!(pages, [(1, None), (2, None), (2, Some("keys/b".to_owned()))]);
    }

    #[tokio::test]
    async fn content_is_a_snapshot_and_clones_share() {
        let storage = Memory::new();
        storage.clone().put("keys/a", b"one".to_vec().into()).await.unwrap();
        let before = storage.content();
        storage.tamper("keys/a", Some(Bytes::from_static(b"damaged")));
        assert_eq!(storage.get("keys/a", None).await.unwrap(), "damaged");
        storage.tamper("keys/a", None);
        assert_eq!(storage.size("keys/a").await.unwrap_err().kind, StorageErrorKind::NotFound);
        assert_eq!(Memory::from_content(before).get("keys/a", None).await.unwrap(), "one");
    }
}
