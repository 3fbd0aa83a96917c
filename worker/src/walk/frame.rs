//! One directory that the walk is in.

use std::collections::VecDeque;
use std::sync::Arc;

use fleet::objects::{Objects, ObjectsExt};
use proto::id::{Id, JobId};
use proto::job::TargetNode;
use proto::name::RawName;
use proto::report::{OpenNames, Payload};
use proto::task::Names as NamesOnWire;
use sources::files::exclude::DirectoryTags;
use sources::names::Names;
use sources::source::{Metadata, SourceError};

use super::ahead::{Ahead, ENTRIES_AHEAD, Looked, Looker, Place, Seen};
use crate::error::WorkerError;
use crate::parent::ParentDir;

/// Longer lists of names are stored as an object, and referred to.
const LISTED_BYTES_MAX: usize = 16 << 10;

/// One directory that the walk is in.
pub(super) struct Frame {
    /// Where the source has it.
    pub(super) source: Vec<u8>,
    /// What exclude patterns match.
    pub(super) path: Vec<u8>,
    /// Its `st_dev` on this host.
    pub(super) local_device: u64,
    /// Its number in the snapshot.
    pub(super) device: u64,
    pub(super) parents: Vec<ParentDir>,
    /// The number that the parent snapshot has for its file system.
    pub(super) parent_device: Option<u64>,
    pub(super) tags: DirectoryTags,
    pub(super) children: Children,
    /// Its directories that are looked at before their turn.
    pub(super) ahead: Ahead,
    /// A step says that it began: so one must say that it ends. Not so for the scope's own directory and the root.
    pub(super) is_entered: bool,
}

/// What is left to visit in a directory.
pub(super) enum Children {
    /// What leads to targets.
    Targets(VecDeque<TargetNode>),
    /// Names of a listing.
    Listed(Listing),
}

/// Names of a listing, from `next` to `end`.
pub(super) struct Listing {
    names: Arc<Names>,
    next: usize,
    end: usize,
    /// Metadata of the entries from `next` on.
    seen: Seen,
    /// Directories before this entry are looked at before their turn.
    looked_ahead: usize,
    /// The listing as it is stored already, and which of its entries is the first of `names`.
    stored: Option<(Id, u64)>,
}

impl Frame {
    /// The top of the snapshot's tree.
    pub(super) fn root(parents: Vec<ParentDir>, targets: Vec<TargetNode>) -> Self {
        Self { is_entered: false, ..Self::above(Vec::new(), 0, 0, parents, targets) }
    }

    /// A directory that leads to targets.
    pub(super) fn above(
        source: Vec<u8>,
        local_device: u64,
        device: u64,
        parents: Vec<ParentDir>,
        targets: Vec<TargetNode>,
    ) -> Self {
        Self {
            path: source.clone(),
            source,
            local_device,
            device,
            parents,
            parent_device: None,
            tags: DirectoryTags::default(),
            children: Children::Targets(targets.into()),
            ahead: Ahead::default(),
            is_entered: true,
        }
    }

    /// A directory with all its names.
    pub(super) fn listed(
        source: Vec<u8>,
        path: Vec<u8>,
        local_device: u64,
        device: u64,
        parents: Vec<ParentDir>,
        looked: Looked,
    ) -> Self {
        let Looked { names, tags, first, below } = looked;
        let listing =
            Listing { end: names.len(), names: Arc::new(names), next: 0, seen: first, looked_ahead: 0, stored: None };
        Self {
            source,
            path,
            local_device,
            device,
            parents,
            parent_device: None,
            tags,
            children: Children::Listed(listing),
            ahead: below,
            is_entered: true,
        }
    }

    /// The same, which the parent snapshot has on the file system of this number.
    pub(super) fn on_parent_device(self, parent_device: Option<u64>) -> Self {
        Self { parent_device, ..self }
    }

    /// Some names of the scope's own directory; `stored` tells where the names are stored already.
    pub(super) fn scope(self, stored: Option<(Id, u64)>) -> Self {
        let children = match self.children {
            Children::Listed(listing) => Children::Listed(Listing { stored, ..listing }),
            targets => targets,
        };
        Self { is_entered: false, children, ..self }
    }

    /// The next name and what is known of it; `None` behind the last one.
    pub(super) async fn next_entry(
        &mut self,
        looker: &Looker,
    ) -> Result<Option<(Vec<u8>, Result<Metadata, SourceError>)>, WorkerError> {
        let Children::Listed(listing) = &mut self.children else { return Ok(None) };
        if listing.seen.is_empty() && listing.next < listing.end {
            let range = (listing.next, listing.end.min(listing.next + ENTRIES_AHEAD));
            listing.seen = looker.entries(&self.source, &listing.names, range).await?;
        }
        if listing.looked_ahead <= listing.next {
            let place = Place { source: &self.source, path: &self.path, device: self.local_device };
            for (at, seen) in (listing.next..).zip(&listing.seen) {
                let name = &listing.names[at];
                if let Ok(metadata) = seen
                    && looker.is_entered(place, &self.tags, name, metadata)
                {
                    self.ahead.expect(name);
                }
            }
            listing.looked_ahead = listing.next + listing.seen.len();
            self.ahead.begin(looker, place);
        }
        let Some(seen) = listing.seen.pop_front() else { return Ok(None) };
        let name = listing.names[listing.next].to_vec();
        listing.next += 1;
        Ok(Some((name, seen)))
    }

    /// What is in its directory `name`, whose metadata is known.
    pub(super) async fn look(
        &mut self,
        looker: &Looker,
        name: &[u8],
        below: Place<'_>,
    ) -> Result<Result<Looked, SourceError>, WorkerError> {
        let place = Place { source: &self.source, path: &self.path, device: self.local_device };
        let ahead = self.ahead.take(name).await?;
        self.ahead.begin(looker, place);
        match ahead {
            Some(looked) => Ok(Ok(looked)),
            None => looker.look(below).await,
        }
    }

    /// What is left, in items of at most `per_item` names; a long listing is stored once and referred to.
    pub(super) async fn open_rest(
        &mut self,
        job: &JobId,
        objects: &dyn Objects,
        per_item: usize,
    ) -> Result<Vec<OpenNames>, WorkerError> {
        let Children::Listed(listing) = &mut self.children else { return Ok(Vec::new()) };
        let rest = listing.names.range(listing.next, listing.end);
        let bytes: usize = rest.iter().map(|name| name.len()).sum();
        if bytes > LISTED_BYTES_MAX && listing.stored.is_none() {
            let mut joined = Vec::with_capacity(bytes + rest.len());
            for name in &rest {
                joined.extend_from_slice(name);
                joined.push(0);
            }
            if let Payload::Object { id, .. } = objects.store(job, joined).await? {
                // The stored listing begins with the first name that is left.
                listing.stored = Some((id, 0));
                listing.names = Arc::new(rest.iter().collect());
                (listing.next, listing.end) = (0, listing.names.len());
            }
        }
        let items = (listing.next..listing.end).step_by(per_item).map(|from| {
            let to = listing.end.min(from + per_item);
            let names = match listing.stored.filter(|_| bytes > LISTED_BYTES_MAX) {
                Some((id, base)) => NamesOnWire::Slice { listing: id, from: base + from as u64, to: base + to as u64 },
                None => NamesOnWire::Listed((from..to).map(|at| RawName::from(&listing.names[at])).collect()),
            };
            let bounds = (RawName::from(&listing.names[from]), RawName::from(&listing.names[to - 1]));
            OpenNames { names, count: (to - from) as u64, bounds, second_opinion: false }
        });
        let items = items.collect();
        listing.next = listing.end;
        Ok(items)
    }
}

/// Decodes a stored listing: entries `from..to` of names that are each ended by a zero byte.
pub(super) fn decode_listing(listing: &[u8], from: u64, to: u64) -> Names {
    let take = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let skip = usize::try_from(from).unwrap_or(usize::MAX);
    let all = listing.split(|byte| *byte == 0);
    all.skip(skip).take(take).filter(|name| !name.is_empty()).collect()
}
