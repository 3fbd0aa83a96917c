//! Looking at directories before the walk comes to them: beside it, and at neighbours in one go. On a local disk that
//! saves most changes of threads, on a network's file system most of the waiting.

use std::collections::VecDeque;

use fleet::cpu::Begun;
use sources::files::exclude::{DirectoryTags, Excludes};
use sources::names::Names;
use sources::paths;
use sources::source::{Metadata, Source, SourceError};

use crate::error::WorkerError;
use crate::job::JobContext;

/// Entries whose metadata is read in one go.
pub(super) const ENTRIES_AHEAD: usize = 256;
/// Neighbouring directories that are looked at in one go.
const DIRECTORIES_IN_GROUP: usize = 16;
/// A group that has found so many entries looks at no more directories.
const ENTRIES_IN_GROUP: usize = 512;
/// A directory of more entries is not kept: it is listed again when the walk gets there.
const NAMES_AHEAD_MAX: usize = 8192;
/// Groups of one directory that are looked at before they are needed.
const GROUPS_AHEAD: usize = 2;

/// What one look at a directory tells.
pub(super) struct Looked {
    pub(super) names: Names,
    /// What excludes its entries.
    pub(super) tags: DirectoryTags,
    /// Metadata of the first [`ENTRIES_AHEAD`] names.
    pub(super) first: Seen,
}

/// Metadata of successive names.
pub(super) type Seen = VecDeque<Result<Metadata, SourceError>>;

/// Looks at a directory.
pub(super) async fn look(context: &JobContext, directory: &[u8]) -> Result<Result<Looked, SourceError>, WorkerError> {
    let (source, excludes, directory) = (context.source.clone(), context.excludes.clone(), directory.to_vec());
    Ok(context.cpu.read(move || look_now(&*source, &excludes, &directory)).await?)
}

fn look_now(source: &dyn Source, excludes: &Excludes, directory: &[u8]) -> Result<Looked, SourceError> {
    let names = source.list(directory)?;
    let tags = excludes.inspect_directory(source, directory);
    let first = entries(source, directory, &names, 0, names.len().min(ENTRIES_AHEAD));
    Ok(Looked { names, tags, first })
}

/// Metadata of the entries `from..to` of a directory.
pub(super) fn entries(source: &dyn Source, directory: &[u8], names: &Names, from: usize, to: usize) -> Seen {
    if from == to {
        return Seen::new();
    }
    match source.metadata_of(directory, &names.range(from, to)) {
        Ok(seen) => seen.into(),
        // The directory itself cannot be opened any more: so says each of its entries.
        Err(error) => (from..to).map(|_| Err(error.clone())).collect(),
    }
}

/// Looks at neighbouring directories, until there is enough; one answer per directory that it got to.
fn look_at_group(source: &dyn Source, excludes: &Excludes, directories: &[Vec<u8>]) -> Answers {
    let (mut answers, mut found) = (Answers::new(), 0);
    for directory in directories {
        let looked = look_now(source, excludes, directory);
        let entries = looked.as_ref().map_or(0, |looked| looked.names.len());
        if entries > NAMES_AHEAD_MAX {
            break;
        }
        answers.push_back(looked);
        found += entries;
        if found >= ENTRIES_IN_GROUP {
            break;
        }
    }
    answers
}

type Answers = VecDeque<Result<Looked, SourceError>>;

/// The directories of one directory that are looked at before the walk comes to them, in the order of their names.
#[derive(Default)]
pub(super) struct Ahead {
    /// Names that belong to no group yet.
    waiting: VecDeque<Vec<u8>>,
    groups: VecDeque<Group>,
}

struct Group {
    names: VecDeque<Vec<u8>>,
    looking: Looking,
}

enum Looking {
    Begun(Begun<Answers>),
    Done(Answers),
}

impl Ahead {
    /// The walk will come to this entry of `directory`.
    pub(super) fn expect(&mut self, name: Vec<u8>) {
        self.waiting.push_back(name);
    }

    /// Begins to look at what the walk will come to next.
    pub(super) fn begin(&mut self, context: &JobContext, directory: &[u8]) {
        while self.groups.len() < GROUPS_AHEAD && !self.waiting.is_empty() {
            let names: VecDeque<Vec<u8>> = self.waiting.drain(..self.waiting.len().min(DIRECTORIES_IN_GROUP)).collect();
            let paths: Vec<Vec<u8>> = names.iter().map(|name| paths::child(directory, name)).collect();
            let (source, excludes) = (context.source.clone(), context.excludes.clone());
            let begun = context.cpu.begin_read(move || look_at_group(&*source, &excludes, &paths));
            self.groups.push_back(Group { names, looking: Looking::Begun(begun) });
        }
    }

    /// What was seen of `name`; `None` if it was not looked at. Names must be asked for in ascending order.
    ///
    /// # Errors
    /// A thread panicked.
    pub(super) async fn take(&mut self, name: &[u8]) -> Result<Option<Result<Looked, SourceError>>, WorkerError> {
        while let Some(group) = self.groups.pop_front() {
            let Group { mut names, looking } = group;
            if names.back().is_none_or(|last| last.as_slice() < name) {
                continue;
            }
            let mut answers = match looking {
                Looking::Begun(begun) => begun.result().await?,
                Looking::Done(answers) => answers,
            };
            while names.front().is_some_and(|first| first.as_slice() < name) {
                names.pop_front();
                answers.pop_front();
            }
            let found = match names.front().is_some_and(|first| first == name) {
                true => names.pop_front().and_then(|_| answers.pop_front()),
                false => None,
            };
            if !names.is_empty() {
                self.groups.push_front(Group { names, looking: Looking::Done(answers) });
            }
            return Ok(found);
        }
        Ok(None)
    }
}
