//! Looking at directories before the walk comes to them: beside it, and at many in one go. On a local disk that saves
//! most changes of threads, on a network's file system most of the waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use fleet::cpu::{Begun, Cpu};
use sources::files::exclude::{DirectoryTags, Excludes};
use sources::names::Names;
use sources::paths;
use sources::source::{FileKind, Metadata, Source, SourceError};
use tokio::sync::Semaphore;

use crate::error::WorkerError;
use crate::job::JobContext;

/// Entries whose metadata is read in one go.
pub(super) const ENTRIES_AHEAD: usize = 256;
/// One look goes on to what is below and beside, until it has found so many entries.
const ENTRIES_IN_LOOK: usize = 512;
/// A directory whose names take more memory is left alone until it is its turn.
const NAMES_AHEAD_BYTES_MAX: usize = 128 << 10;
/// Neighbouring directories that one look is for.
const DIRECTORIES_IN_GROUP: usize = 16;
/// Groups of one directory that are looked at before they are needed.
const GROUPS_AHEAD: usize = 2;
/// Groups of one walk that are looked at at the same time, all its directories together: where a file system hangs, so
/// many threads hang.
const LOOKS_AT_ONCE: usize = 4;

/// A directory to look at.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Where the source has it.
    pub(super) source: &'a [u8],
    /// What exclude patterns match.
    pub(super) path: &'a [u8],
    /// Its `st_dev` on this host.
    pub(super) device: u64,
}

/// What one look at a directory tells.
pub(super) struct Looked {
    pub(super) names: Names,
    /// What excludes its entries.
    pub(super) tags: DirectoryTags,
    /// Metadata of the first [`ENTRIES_AHEAD`] names.
    pub(super) first: Seen,
    /// What was seen of its own directories at the same time: of the first ones in the order of their names.
    pub(super) below: Ahead,
}

/// Metadata of successive names.
pub(super) type Seen = VecDeque<Result<Metadata, SourceError>>;

/// What looks at directories. Cheap to clone.
#[derive(Clone)]
pub(super) struct Looker {
    cpu: Cpu,
    source: Arc<dyn Source>,
    excludes: Arc<Excludes>,
    /// Entries that one look finds before it ends.
    enough: usize,
    permits: Arc<Semaphore>,
}

impl Looker {
    /// For a task that may look at so many `entries`.
    pub(super) fn of(context: &JobContext, entries: u64) -> Self {
        let JobContext { cpu, source, excludes, .. } = context;
        Self {
            cpu: cpu.clone(),
            source: source.clone(),
            excludes: excludes.clone(),
            enough: usize::try_from(entries).unwrap_or(usize::MAX).clamp(1, ENTRIES_IN_LOOK),
            permits: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
        }
    }

    /// Looks at a directory whose turn it is.
    pub(super) async fn look(&self, place: Place<'_>) -> Result<Result<Looked, SourceError>, WorkerError> {
        let (looker, source, path, device) = (self.clone(), place.source.to_vec(), place.path.to_vec(), place.device);
        let look = move || {
            let place = Place { source: &source, path: &path, device };
            let names = looker.source.list(place.source)?;
            let mut left = looker.enough;
            Ok(looker.look_below(place, names, &mut left))
        };
        Ok(self.cpu.read(look).await?)
    }

    /// Looks at what excludes entries of a directory whose names are known.
    pub(super) async fn tags(&self, directory: &[u8]) -> Result<DirectoryTags, WorkerError> {
        let (looker, directory) = (self.clone(), directory.to_vec());
        Ok(self.cpu.read(move || looker.excludes.inspect_directory(&*looker.source, &directory)).await?)
    }

    /// Metadata of the entries `from..to` of a directory.
    pub(super) async fn entries(
        &self,
        directory: &[u8],
        names: &Arc<Names>,
        (from, to): (usize, usize),
    ) -> Result<Seen, WorkerError> {
        let (looker, directory, names) = (self.clone(), directory.to_vec(), names.clone());
        Ok(self.cpu.read(move || looker.entries_now(&directory, &names, from, to)).await?)
    }

    fn entries_now(&self, directory: &[u8], names: &Names, from: usize, to: usize) -> Seen {
        if from == to {
            return Seen::new();
        }
        match self.source.metadata_of(directory, &names.range(from, to)) {
            Ok(seen) => seen.into(),
            // The directory itself cannot be opened any more: so says each of its entries.
            Err(error) => (from..to).map(|_| Err(error.clone())).collect(),
        }
    }

    /// Whether the walk goes into an entry of `place` which it needs to ask nobody about: other file systems are left
    /// alone until it is their turn.
    pub(super) fn is_entered(&self, place: Place<'_>, tags: &DirectoryTags, name: &[u8], metadata: &Metadata) -> bool {
        if metadata.kind != FileKind::Directory || metadata.device != place.device || tags.rejects(name) {
            return false;
        }
        let path = paths::child(place.path, name);
        !self.excludes.rejects_path(&path) && !self.excludes.rejects_entry(&path, metadata, place.device)
    }

    fn look_below(&self, place: Place<'_>, names: Names, left: &mut usize) -> Looked {
        let tags = self.excludes.inspect_directory(&*self.source, place.source);
        let first = self.entries_now(place.source, &names, 0, names.len().min(ENTRIES_AHEAD));
        *left = left.saturating_sub(1 + names.len());
        let mut below = Ahead::default();
        for (name, seen) in names.iter().zip(&first) {
            let Ok(metadata) = seen else { continue };
            if !self.is_entered(place, &tags, name, metadata) {
                continue;
            }
            if *left == 0 {
                break;
            }
            let looked = self.look_ahead(place, name, left);
            below.add(name.to_vec(), looked);
        }
        Looked { names, tags, first, below }
    }

    /// Looks at a directory of `above` before it is its turn; `None` if nothing is known of it: then it is too long, or
    /// cannot be read now.
    fn look_ahead(&self, above: Place<'_>, name: &[u8], left: &mut usize) -> Option<Looked> {
        let (source, path) = (paths::child(above.source, name), paths::child(above.path, name));
        match self.source.list_short(&source, NAMES_AHEAD_BYTES_MAX) {
            Ok(Some(names)) => Some(self.look_below(Place { source: &source, path: &path, ..above }, names, left)),
            Ok(None) | Err(_) => {
                *left = left.saturating_sub(1);
                None
            }
        }
    }

    /// Begins to look at neighbouring directories of `above`, unless too many looks are under way. It gets to some of
    /// them, in their order.
    fn begin(&self, above: Place<'_>, names: &VecDeque<Vec<u8>>) -> Option<Begun<Answers>> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        let (looker, names) = (self.clone(), names.clone());
        let (source, path, device) = (above.source.to_vec(), above.path.to_vec(), above.device);
        Some(self.cpu.begin_read(move || {
            let _permit = permit;
            let above = Place { source: &source, path: &path, device };
            let (mut answers, mut left) = (Answers::new(), looker.enough);
            for name in &names {
                answers.push_back(looker.look_ahead(above, name, &mut left));
                if left == 0 {
                    break;
                }
            }
            answers
        }))
    }
}

/// What was seen of directories.
type Answers = VecDeque<Option<Looked>>;

/// Directories of one directory that are looked at before the walk comes to them, in the order of their names.
#[derive(Default)]
pub(super) struct Ahead {
    groups: VecDeque<Group>,
}

/// Neighbours that are looked at in one go.
struct Group {
    names: VecDeque<Vec<u8>>,
    looking: Looking,
}

enum Looking {
    Waiting,
    Begun(Begun<Answers>),
    /// One answer a name.
    Done(Answers),
}

impl Ahead {
    fn add(&mut self, name: Vec<u8>, answer: Option<Looked>) {
        if let Some(Group { names, looking: Looking::Done(answers) }) = self.groups.back_mut() {
            names.push_back(name);
            answers.push_back(answer);
        } else {
            self.groups.push_back(Group { names: [name].into(), looking: Looking::Done([answer].into()) });
        }
    }

    /// The walk will come to this directory. Names must be said in ascending order; those that are known already are
    /// passed over.
    pub(super) fn expect(&mut self, name: &[u8]) {
        let last = self.groups.back_mut();
        if last.as_ref().and_then(|group| group.names.back()).is_some_and(|last| last.as_slice() >= name) {
            return;
        }
        match last {
            Some(Group { names, looking: Looking::Waiting }) if names.len() < DIRECTORIES_IN_GROUP => {
                names.push_back(name.to_vec());
            }
            _ => self.groups.push_back(Group { names: [name.to_vec()].into(), looking: Looking::Waiting }),
        }
    }

    /// Begins to look at what the walk will come to next in `directory`.
    pub(super) fn begin(&mut self, looker: &Looker, directory: Place<'_>) {
        for group in self.groups.iter_mut().take(GROUPS_AHEAD) {
            if let Looking::Waiting = group.looking
                && let Some(begun) = looker.begin(directory, &group.names)
            {
                group.looking = Looking::Begun(begun);
            }
        }
    }

    /// What was seen of `name`; `None` if nothing is known. Names must be asked for in ascending order.
    ///
    /// # Errors
    /// A thread panicked.
    pub(super) async fn take(&mut self, name: &[u8]) -> Result<Option<Looked>, WorkerError> {
        while let Some(Group { mut names, looking }) = self.groups.pop_front() {
            if names.back().is_none_or(|last| last.as_slice() < name) {
                continue;
            }
            let (mut answers, was_begun) = match looking {
                Looking::Waiting => (Answers::new(), false),
                Looking::Begun(begun) => (begun.result().await?, true),
                Looking::Done(answers) => (answers, true),
            };
            if was_begun {
                let not_reached = names.split_off(answers.len().min(names.len()));
                if !not_reached.is_empty() {
                    self.groups.push_front(Group { names: not_reached, looking: Looking::Waiting });
                }
            }
            while names.front().is_some_and(|first| first.as_slice() < name) {
                names.pop_front();
                answers.pop_front();
            }
            let is_here = names.front().is_some_and(|first| first == name);
            let found = if is_here { names.pop_front().and_then(|_| answers.pop_front()) } else { None };
            let is_further = names.is_empty() && !is_here;
            if !names.is_empty() {
                let looking = if was_begun { Looking::Done(answers) } else { Looking::Waiting };
                self.groups.push_front(Group { names, looking });
            }
            if !is_further {
                return Ok(found.flatten());
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
