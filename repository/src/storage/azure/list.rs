//! Listing: one page of the service is one page of ours; its marker is where to go on.

use azure_storage_blob::models::{BlobContainerClientListBlobsOptions, BlobItem};
use futures::TryStreamExt;

use super::deadline::within;
use super::errors::judge;
use super::{Azure, STATUS_TIME_MAX};
use crate::storage::error::Failure;
use crate::storage::operation::Operation;
use crate::storage::request::check_name;
use crate::storage::{Entry, Page};

impl Azure {
    pub(super) async fn page(&self, prefix: &str, from: Option<&str>) -> Result<Page, Failure> {
        let failure = |error: &azure_core::Error| judge(Operation::List, error, self.service_clock.offset_seconds());
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(format!("{}{prefix}", self.prefix)).filter(|prefix| !prefix.is_empty()),
            marker: from.map(str::to_owned),
            maxresults: Some(self.page_entries),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let pages = self.container.list_blobs(Some(options)).map_err(|error| failure(&error))?;
        let mut pages = pages.into_pages();
        let answer = within(&*self.clock, STATUS_TIME_MAX, pages.try_next()).await?;
        let Some(answer) = answer.map_err(|error| failure(&error))? else { return Ok(Page::default()) };
        let listed = answer.into_model().map_err(|error| failure(&error))?;
        let entries = listed.blob_items.into_iter().filter_map(|item| self.entry(item)).collect();
        Ok(Page { entries, next: listed.next_marker.filter(|marker| !marker.is_empty()) })
    }

    /// Our object behind a listed blob. What has a name that no object of ours can have is somebody else's.
    fn entry(&self, item: BlobItem) -> Option<Entry> {
        let name = item.name?.strip_prefix(&self.prefix)?.to_owned();
        check_name(&name).ok()?;
        let size = item.properties?.content_length?;
        Some(Entry { name, size })
    }
}
