//! What is left out of a backup, with the meaning that restic's options have.
//!
//! Two questions in this order, for every entry below a target (a target that was named is never
//! excluded itself, but may be asked about where it was found by expanding `.`):
//! [`Excludes::rejects_path`] before the entry is looked at, [`Excludes::rejects_entry`] after. And one
//! for each directory that is listed: [`Excludes::inspect_directory`]. Paths are the absolute paths of
//! the targets as given (links in them not resolved), as restic matches them.

use serde::{Deserialize, Serialize};

use super::targets::Resolver;
use crate::paths;
use crate::patterns::{InvalidPatterns, Patterns};
use crate::source::{FileKind, Metadata, Source, SourceError};

/// What `--exclude-caches` looks for (https://bford.info/cachedir/).
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG:Signature: 8a477f597d28d172789f06886806bc55";

/// Settings: what to leave out. Travels in jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcludeRules {
    /// `--exclude`, then what the `--exclude-file`s hold.
    #[serde(with = "crate::serialized::list")]
    pub patterns: Vec<Vec<u8>>,
    /// `--iexclude`, then what the `--iexclude-file`s hold.
    #[serde(with = "crate::serialized::list")]
    pub insensitive_patterns: Vec<Vec<u8>>,
    /// `--exclude-if-present`, and `--exclude-caches` as [`TagFile::cache`].
    pub tag_files: Vec<TagFile>,
    /// `--exclude-larger-than`: entries (not directories) with more bytes are left out.
    pub larger_than: Option<u64>,
    /// `--one-file-system`.
    pub one_file_system: bool,
}

/// A file whose presence says that its directory's other contents are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TagFile {
    /// Name of the file.
    #[serde(with = "crate::serialized")]
    pub name: Vec<u8>,
    /// What the file must begin with; empty: it need only be there.
    #[serde(with = "crate::serialized")]
    pub header: Vec<u8>,
}

impl TagFile {
    /// Reads `NAME[:HEADER]`.
    pub fn parse(argument: &[u8]) -> Result<Self, ExcludeError> {
        let (name, header) = match argument.iter().position(|byte| *byte == b':') {
            Some(colon) => (&argument[..colon], &argument[colon + 1..]),
            None => (argument, &b""[..]),
        };
        if name.is_empty() {
            return Err(ExcludeError::NoTagName { argument: String::from_utf8_lossy(argument).into_owned() });
        }
        Ok(Self { name: name.to_vec(), header: header.to_vec() })
    }

    /// The tag of cache directories.
    pub fn cache() -> Self {
        Self::parse(CACHE_TAG).unwrap_or_else(|error| unreachable!("the constant has a name: {error}"))
    }
}

/// Excludes that cannot be understood: usage errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExcludeError {
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] InvalidPatterns),
    /// `--exclude-if-present` without a name.
    #[error("no file name in --exclude-if-present {argument:?}")]
    NoTagName {
        /// The argument as given.
        argument: String,
    },
    /// `--exclude-larger-than` with something else than a number and k, m, g or t.
    #[error("{argument:?} is not a size (a number, or one with k, m, g or t behind it)")]
    Size {
        /// The argument as given.
        argument: String,
    },
}

/// Reads a size as restic does: a number, then nothing or one of b, k, m, g, t (powers of 1024).
pub fn parse_size(argument: &str) -> Result<u64, ExcludeError> {
    let error = || ExcludeError::Size { argument: argument.to_owned() };
    let shift = match argument.bytes().last().map(|byte| byte.to_ascii_lowercase()) {
        Some(b'b') => 0,
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        Some(b't') => 40,
        _ => return argument.parse::<i64>().ok().and_then(|value| u64::try_from(value).ok()).ok_or_else(error),
    };
    let value: i64 = argument[..argument.len() - 1].parse().map_err(|_| error())?;
    let bytes = value.checked_mul(1 << shift).ok_or_else(error)?;
    u64::try_from(bytes).map_err(|_| error())
}

/// Compiled excludes.
#[derive(Clone, Debug, Default)]
pub struct Excludes {
    patterns: Patterns,
    insensitive_patterns: Patterns,
    tag_files: Vec<TagFile>,
    larger_than: Option<u64>,
    /// With `--one-file-system`: each target's path and `st_dev` on this host.
    target_devices: Option<Vec<(Vec<u8>, u64)>>,
}

impl Excludes {
    /// Compiles `rules`. `target_devices` matters for `--one-file-system` only (see
    /// [`super::targets::devices`]).
    pub fn compile(rules: &ExcludeRules, target_devices: Vec<(Vec<u8>, u64)>) -> Result<Self, ExcludeError> {
        Ok(Self {
            patterns: Patterns::compile(&rules.patterns, false)?,
            insensitive_patterns: Patterns::compile(&rules.insensitive_patterns, true)?,
            tag_files: rules.tag_files.clone(),
            larger_than: rules.larger_than,
            target_devices: rules.one_file_system.then_some(target_devices),
        })
    }

    /// Whether `path` is left out because of its name.
    pub fn rejects_path(&self, path: &[u8]) -> bool {
        self.insensitive_patterns.matches(path) || self.patterns.matches(path)
    }

    /// Whether the entry at `path` is left out because of what it is. `parent_device` is the `st_dev` of
    /// the directory that holds it.
    ///
    /// With `--one-file-system` a mount point itself is kept (its contents are not).
    pub fn rejects_entry(&self, path: &[u8], metadata: &Metadata, parent_device: u64) -> bool {
        let is_directory = metadata.kind == FileKind::Directory;
        if let Some(devices) = &self.target_devices
            && on_target_device(devices, path, metadata.device) == Some(false)
        {
            let parent = paths::split_last(path).map_or(&b"/"[..], |(parent, _)| parent);
            if !is_directory || on_target_device(devices, parent, parent_device) != Some(true) {
                return true;
            }
        }
        !is_directory && self.larger_than.is_some_and(|limit| metadata.size > limit)
    }

    /// Which of the tag files stand in the directory that is really at `real_path`.
    pub fn inspect_directory(&self, source: &dyn Source, real_path: &[u8]) -> DirectoryTags {
        let mut tags = DirectoryTags::default();
        for tag_file in &self.tag_files {
            match is_tagged(source, real_path, tag_file) {
                Ok(true) => tags.names.push(tag_file.name.clone()),
                Ok(false) => {}
                Err(warning) => tags.warnings.push(warning),
            }
        }
        tags
    }
}

/// What the tag files of one directory say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryTags {
    /// Names of the tag files that are there and valid.
    names: Vec<Vec<u8>>,
    /// Tag files that do not count, and why. No reason for exit 3.
    pub warnings: Vec<String>,
}

impl DirectoryTags {
    /// Whether the entry `name` of the directory is left out: every tag leaves out all but itself.
    pub fn rejects(&self, name: &[u8]) -> bool {
        self.names.iter().any(|tag| tag != name)
    }
}

/// Whether `device` is that of the nearest target at or above `path`; none without such a target.
fn on_target_device(devices: &[(Vec<u8>, u64)], path: &[u8], device: u64) -> Option<bool> {
    let above = devices.iter().filter(|(target, _)| paths::below(target, path).is_some());
    above.max_by_key(|(target, _)| target.len()).map(|(_, allowed)| *allowed == device)
}

fn is_tagged(source: &dyn Source, directory: &[u8], tag_file: &TagFile) -> Result<bool, String> {
    let path = paths::child(directory, &tag_file.name);
    let describe = |what: &str, error: SourceError| format!("{what} exclusion tag file: {error}: {}", error.source);
    let metadata = match source.metadata(&path) {
        Err(error) if error.is_vanished() => return Ok(false),
        Err(error) => return Err(describe("could not access", error)),
        Ok(metadata) => metadata,
    };
    if tag_file.header.is_empty() {
        return Ok(true);
    }
    let is_link = metadata.kind == FileKind::Symlink;
    let (path, metadata) = if is_link {
        Resolver::new(source).follow(&path).map_err(|error| describe("could not open", error))?
    } else {
        (path, metadata)
    };
    let mut file = source.open(&path, &metadata).map_err(|error| describe("could not open", error))?;
    let mut start = vec![0; tag_file.header.len()];
    let length = file.read_at(0, &mut start).map_err(|error| describe("could not read", error))?;
    if start[..length] == tag_file.header[..] {
        return Ok(true);
    }
    let problem = if length < start.len() { "a signature that is too short" } else { "another signature" };
    Err(format!("exclusion tag file {} has {problem}", String::from_utf8_lossy(&path)))
}

#[cfg(test)]
#[path = "exclude_tests.rs"]
mod tests;
