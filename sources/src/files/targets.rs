//! From the paths of a backup command to the shape of the snapshot's tree, as restic makes it
//! (internal/archiver/tree.go).
//!
//! A relative target keeps only its named components: `../a/b` becomes `/a/b`. A target without any
//! (`.`, `..`, `/`) is replaced by its entries. Directories above a target have the metadata of the real
//! directory, links followed, and hold only what leads to targets. When two targets have the same first
//! component but start from different directories, the second gets `name-1`.
//!
//! Everything is asked through the source door, so that a worker can do it for a fleet. The result
//! holds real paths (no links above the last component), which is what the door wants.

mod draft;
mod resolve;

use serde::{Deserialize, Serialize};

use self::draft::Draft;
pub use self::resolve::Resolver;
use crate::names::Names;
use crate::paths;
use crate::source::{FileKind, Source, SourceError};

/// The shape of a snapshot above its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetTree {
    /// What stands in the root, ascending by name.
    pub entries: Vec<TargetNode>,
}

/// One entry of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetNode {
    /// Name in the snapshot.
    #[serde(with = "crate::serialized")]
    pub name: Vec<u8>,
    /// Where it comes from.
    pub place: TargetPlace,
}

/// Where an entry of the tree comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetPlace {
    /// A directory that leads to targets and holds nothing else.
    Above {
        /// The directory whose metadata is used; its attributes may be unreadable (see
        /// [`crate::source::MetadataWarning::is_list_denied`]).
        #[serde(with = "crate::serialized")]
        real_path: Vec<u8>,
        /// Ascending by name.
        entries: Vec<TargetNode>,
    },
    /// Backed up with everything below.
    Target {
        /// Absolute and cleaned, as given: what exclude patterns match and messages name. What stands
        /// below has this path and its names.
        #[serde(with = "crate::serialized")]
        path: Vec<u8>,
        /// Where it is read. What stands below has this path and its names.
        #[serde(with = "crate::serialized")]
        real_path: Vec<u8>,
        /// Named by the user: excludes do not apply to itself. Else it was found by expanding.
        is_explicit: bool,
    },
}

/// A target that exists: `--one-file-system` keeps what is on its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRoot {
    /// Absolute and cleaned, as given.
    #[serde(with = "crate::serialized")]
    pub path: Vec<u8>,
    /// Where it is read.
    #[serde(with = "crate::serialized")]
    pub real_path: Vec<u8>,
}

/// What became of the arguments.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The tree to make.
    pub tree: TargetTree,
    /// Paths of the snapshot: absolute and cleaned, in the order given, duplicates kept.
    pub snapshot_paths: Vec<Vec<u8>>,
    /// One for each snapshot path.
    pub roots: Vec<TargetRoot>,
    /// Arguments that do not exist or cannot be reached, and directories above targets that turned out
    /// not to be readable: left out, exit 3.
    pub problems: Vec<SourceError>,
}

/// No tree can be made.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is no argument, or not one of them exists.
    #[error("none of the {} paths to back up exists", .problems.len())]
    NothingThere {
        /// One per argument.
        problems: Vec<SourceError>,
    },
    /// The directory that stands for its entries (`.`), or one that holds another target, cannot be listed.
    #[error("cannot expand a path to back up")]
    Expand(#[source] SourceError),
    /// The current directory is needed and cannot be reached.
    #[error("cannot use the current directory")]
    CurrentDirectory(#[source] SourceError),
}

/// Makes the tree for `arguments`. `current_directory` is absolute; as in Go it is `$PWD` where that
/// names the current directory, for its spelling shows in the snapshot's paths.
pub fn resolve(source: &dyn Source, arguments: &[Vec<u8>], current_directory: &[u8]) -> Result<Targets, TargetError> {
    let mut builder = Builder::new(source, arguments, current_directory)?;
    let mut problems = Vec::new();
    let mut existing = Vec::new();
    let mut roots = Vec::new();
    for argument in arguments {
        match builder.resolver.locate(&builder.real_directory, argument) {
            Err(error) => problems.push(SourceError { path: argument.clone(), ..error }),
            Ok(_) => {
                let path = paths::absolute(current_directory, argument);
                // What is backed up is the cleaned path, which may name something else (`link/../x`).
                let cleaned = paths::clean(argument);
                let real_path = builder.resolver.locate(&builder.real_directory, &cleaned);
                let real_path = real_path.map_or_else(|_| path.clone(), |(real_path, _)| real_path);
                roots.push(TargetRoot { path, real_path });
                existing.push(cleaned);
            }
        }
    }
    if existing.is_empty() {
        return Err(TargetError::NothingThere { problems });
    }
    let draft = builder.draft(&existing)?;
    let entries = builder.finish(draft);
    problems.append(&mut builder.problems);
    let snapshot_paths = roots.iter().map(|root| root.path.clone()).collect();
    Ok(Targets { tree: TargetTree { entries }, snapshot_paths, roots, problems })
}

/// `st_dev` of every target on this host, for [`super::exclude::Excludes::compile`].
pub fn devices(source: &dyn Source, roots: &[TargetRoot]) -> Result<Vec<(Vec<u8>, u64)>, SourceError> {
    roots.iter().map(|root| Ok((root.path.clone(), source.metadata(&root.real_path)?.device))).collect()
}

struct Builder<'a> {
    source: &'a dyn Source,
    resolver: Resolver<'a>,
    current_directory: &'a [u8],
    /// The current directory without links: where relative paths start.
    real_directory: Vec<u8>,
    problems: Vec<SourceError>,
}

impl<'a> Builder<'a> {
    fn new(source: &'a dyn Source, arguments: &[Vec<u8>], current_directory: &'a [u8]) -> Result<Self, TargetError> {
        let mut resolver = Resolver::new(source);
        let real_directory = if arguments.iter().all(|argument| paths::is_absolute(argument)) {
            b"/".to_vec()
        } else {
            resolver.directory(b"/", current_directory).map_err(TargetError::CurrentDirectory)?
        };
        Ok(Self { source, resolver, current_directory, real_directory, problems: Vec::new() })
    }

    /// Puts all targets in, expanding those without components and those that hold other targets.
    fn draft(&mut self, targets: &[Vec<u8>]) -> Result<Draft, TargetError> {
        let mut draft = Draft::default();
        let mut seen = std::collections::HashSet::new();
        for target in targets {
            if target.split(|byte| *byte == b'/').any(paths::is_entry_name) {
                if seen.insert(target.clone()) {
                    draft.add(target, true);
                }
                continue;
            }
            for name in self.list(target)?.iter() {
                let path = paths::join(target, name);
                if seen.insert(path.clone()) {
                    draft.add(&path, false);
                }
            }
        }
        draft.expand(&mut |path| self.list(path))?;
        Ok(draft)
    }

    fn list(&mut self, path: &[u8]) -> Result<Names, TargetError> {
        let real_path = self.resolver.directory(&self.real_directory, path).map_err(TargetError::Expand)?;
        self.source.list(&real_path).map_err(TargetError::Expand)
    }

    /// Turns the draft's paths into real ones; what cannot be reached becomes a problem.
    fn finish(&mut self, draft: Draft) -> Vec<TargetNode> {
        let mut nodes = Vec::new();
        for (name, entry) in draft.entries {
            let place = match entry.target {
                Some((path, is_explicit)) => self.target(&path, is_explicit),
                None => self
                    .above(&entry.directory)
                    .map(|real_path| TargetPlace::Above { real_path, entries: self.finish(entry.below) }),
            };
            match place {
                Ok(place) => nodes.push(TargetNode { name, place }),
                Err(error) => self.problems.push(error),
            }
        }
        nodes
    }

    fn target(&mut self, path: &[u8], is_explicit: bool) -> Result<TargetPlace, SourceError> {
        let absolute = paths::absolute(self.current_directory, path);
        let real_path = match paths::split_last(path) {
            None if paths::is_absolute(path) => path.to_vec(),
            None => paths::child(&self.real_directory, path),
            Some((parent, name)) => paths::child(&self.resolver.directory(&self.real_directory, parent)?, name),
        };
        Ok(TargetPlace::Target { path: absolute, real_path, is_explicit })
    }

    fn above(&mut self, directory: &[u8]) -> Result<Vec<u8>, SourceError> {
        self.resolver.directory(&self.real_directory, directory)
    }
}

/// Whether `kind` can hold entries.
fn is_directory(kind: FileKind) -> bool {
    kind == FileKind::Directory
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
