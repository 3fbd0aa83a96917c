//! Symbolic links resolved through the source door, component by component, as the kernel would.

use std::collections::HashSet;

use super::is_directory;
use crate::paths;
use crate::source::{FileKind, Metadata, Source, SourceError, SourceErrorKind};

/// More links than this in one path are taken for a loop, as Linux does.
const LINKS_MAX: usize = 40;

/// Finds real paths. Remembers directories that it has seen.
pub struct Resolver<'a> {
    source: &'a dyn Source,
    directories: HashSet<Vec<u8>>,
}

impl<'a> Resolver<'a> {
    /// Resolves in `source`.
    pub fn new(source: &'a dyn Source) -> Self {
        Self { source, directories: HashSet::from([b"/".to_vec()]) }
    }

    /// The real path and metadata of what the absolute `path` names, a link at its end followed.
    pub fn follow(&mut self, path: &[u8]) -> Result<(Vec<u8>, Metadata), SourceError> {
        let real_path = self.walk(b"/", path, true)?;
        let metadata = self.source.metadata(&real_path)?;
        Ok((real_path, metadata))
    }

    /// The real path and metadata of `path`, seen from the directory `start` (a real path). A link at its
    /// end is not followed unless a slash stands behind it.
    pub(super) fn locate(&mut self, start: &[u8], path: &[u8]) -> Result<(Vec<u8>, Metadata), SourceError> {
        if path.is_empty() {
            return Err(SourceError::new(SourceErrorKind::Vanished, "resolve", path, "the path is empty"));
        }
        let real_path = self.walk(start, path, false)?;
        let metadata = self.source.metadata(&real_path)?;
        Ok((real_path, metadata))
    }

    /// The real path of the directory `path`, seen from `start`, links followed.
    pub(super) fn directory(&mut self, start: &[u8], path: &[u8]) -> Result<Vec<u8>, SourceError> {
        self.walk(start, &[path, b"/."].concat(), true)
    }

    fn walk(&mut self, start: &[u8], path: &[u8], follows_last: bool) -> Result<Vec<u8>, SourceError> {
        let mut real_path = if paths::is_absolute(path) { b"/".to_vec() } else { start.to_vec() };
        let mut waiting: Vec<Vec<u8>> = components(path);
        let mut links = 0;
        while let Some(component) = waiting.pop() {
            match &component[..] {
                b"" | b"." => continue,
                b".." => {
                    real_path = paths::split_last(&real_path).map_or(b"/".to_vec(), |(parent, _)| parent.to_vec());
                    continue;
                }
                _ => {}
            }
            let candidate = paths::child(&real_path, &component);
            if self.directories.contains(&candidate) {
                real_path = candidate;
                continue;
            }
            let metadata = self.source.metadata(&candidate)?;
            if metadata.kind == FileKind::Symlink && (follows_last || !waiting.is_empty()) {
                links += 1;
                if links > LINKS_MAX {
                    let explanation = "there are too many symbolic links in the path";
                    return Err(SourceError::new(SourceErrorKind::Unreadable, "resolve", path, explanation));
                }
                if paths::is_absolute(&metadata.link_target) {
                    real_path = b"/".to_vec();
                }
                waiting.append(&mut components(&metadata.link_target));
                continue;
            }
            if is_directory(metadata.kind) {
                self.directories.insert(candidate.clone());
            } else if !waiting.is_empty() {
                let explanation = "it is not a directory";
                return Err(SourceError::new(SourceErrorKind::Changed, "resolve", &candidate, explanation));
            }
            real_path = candidate;
        }
        Ok(real_path)
    }
}

/// The components of `path`, the last one first; empty and `.` ones included: behind a name they demand
/// a directory.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
}
