//! What a check found, by what somebody would do about it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::repository::RepositoryError;

/// Whether something is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The repository is damaged.
    Error,
    /// Odd, and harmless.
    Hint,
}

/// What is wrong with a file of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An index file does not open, is not what its name says, or is no index.
    IndexUnreadable,
    /// A snapshot does not open, is not what its name says, or is no snapshot.
    SnapshotUnreadable,
    /// A key file is not what its name says, or was made in an unknown way. restic's commands fail
    /// if they meet it before the right key; its own check does not look for it.
    KeyUnreadable,
    /// A lock does not open. It blocks restic until `restic unlock --remove-all`.
    LockUnreadable,
    /// The index names a pack that is not there.
    PackMissing,
    /// A pack has another length than its blobs in the index add up to.
    PackLength,
    /// Index files disagree on what a pack holds.
    PackSplit,
    /// Several index files name the same blobs of a pack. `restic repair index` tidies up.
    PackInSeveralIndexes,
    /// A pack holds both trees and data. Pruning tidies up.
    PackMixed,
    /// No index names this pack; pruning removes it.
    PackNotIndexed,
    /// A pack lies in another folder than the first digits of its id say, where nobody looks for it.
    PackMisplaced,
    /// No index knows a tree that a directory or snapshot refers to.
    TreeMissing,
    /// A tree does not open or is not what its id says, in any of its copies.
    TreeUnreadable,
    /// A copy of a tree does not open; another one does.
    TreeCopyUnreadable,
    /// A tree is what its id says and still no tree: it was written wrongly.
    TreeMalformed,
    /// No index knows a piece of a file.
    DataMissing,
    /// A file has no list of pieces.
    NodeContent,
    /// A directory has no tree.
    NodeSubtree,
    /// An entry of a tree is nothing that can be restored.
    NodeType,
    /// An entry of a tree has no name.
    NodeNameEmpty,
    /// A name that no file system has: `.`, `..`, or with a slash. It is not restored.
    NodeNameUnsafe,
    /// Names in a tree do not ascend; programs that compare trees rely on it.
    NodeOrder,
    /// The pieces of a file add up to another length than it says.
    NodeSize,
    /// A pack cannot be read to its end.
    PackUnreadable,
    /// A pack's name is the digest of other bytes.
    PackDigest,
    /// The header of a pack does not open.
    PackHeader,
    /// The header of a pack and the index tell of different blobs.
    PackHeaderDiffers,
    /// By the index there is something between the blobs of a pack, or they overlap.
    PackGaps,
    /// A blob does not open, or is not what its id says.
    BlobDamaged,
    /// A pack was found damaged, and whole when it was read again: memory, disk or network are not
    /// to be trusted.
    ReadUnstable,
}

impl FindingKind {
    /// Whether it is an error or a hint; as stock restic 0.19.1 judges, where it looks at all.
    pub fn severity(self) -> Severity {
        match self {
            Self::LockUnreadable
            | Self::PackInSeveralIndexes
            | Self::PackMixed
            | Self::PackNotIndexed
            | Self::PackMisplaced
            | Self::TreeCopyUnreadable
            | Self::NodeNameUnsafe
            | Self::NodeOrder
            | Self::NodeSize => Severity::Hint,
            _ => Severity::Error,
        }
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The file of the repository: the damaged one, or the one that refers to what is missing.
    pub file: String,
    /// The particulars, for people.
    pub detail: String,
}

impl Finding {
    /// A finding about `file`.
    pub fn new(kind: FindingKind, file: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, file: file.into(), detail: detail.into() }
    }

    /// Whether it is an error or a hint.
    pub fn severity(&self) -> Severity {
        self.kind.severity()
    }

    /// What `error` says about `file`.
    ///
    /// # Errors
    /// `error` itself, if it says nothing about the file: the storage is away, or the program stops.
    pub(super) fn of_error(kind: FindingKind, file: String, error: RepositoryError) -> Result<Self, RepositoryError> {
        match error {
            error if error.is_transient() => Err(error),
            RepositoryError::Stopping => Err(error),
            RepositoryError::Damaged { source, .. } | RepositoryError::NotAsReported { source, .. } => {
                Ok(Self::new(kind, file, chain(&*source)))
            }
            RepositoryError::NotFound { .. } => Ok(Self::new(kind, file, "it is not there any more")),
            error => Ok(Self::new(kind, file, chain(&error))),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.detail)
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Findings about one file are kept up to here, so that a rotten file does not fill the memory.
const KEPT_MAX: usize = 100;

/// The findings about one file.
#[derive(Debug, Default)]
pub(super) struct FileFindings {
    kept: Vec<Finding>,
    dropped: BTreeMap<FindingKind, u64>,
}

impl FileFindings {
    pub(super) fn push(&mut self, finding: Finding) {
        if self.kept.len() < KEPT_MAX {
            self.kept.push(finding);
        } else {
            *self.dropped.entry(finding.kind).or_default() += 1;
        }
    }

    /// All of them, those that were not kept as a number for each kind.
    pub(super) fn finish(self) -> Vec<Finding> {
        let mut findings = self.kept;
        if let Some(file) = findings.first().map(|finding| finding.file.clone()) {
            let more = |(kind, count)| Finding::new(kind, file.clone(), format!("and {count} more of this kind"));
            findings.extend(self.dropped.into_iter().map(more));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotten_file_gives_no_endless_list() {
        let mut findings = FileFindings::default();
        for blob in 0..1_000 {
            findings.push(Finding::new(FindingKind::BlobDamaged, "data/x", blob.to_string()));
        }
        findings.push(Finding::new(FindingKind::PackDigest, "data/x", ""));
        let findings = findings.finish();
        assert_eq!(findings.len(), KEPT_MAX + 2);
        let last: Vec<_> = findings[KEPT_MAX..].iter().map(|finding| (finding.kind, &*finding.detail)).collect();
        let expected = [
            (FindingKind::PackDigest, "and 1 more of this kind"),
            (FindingKind::BlobDamaged, "and 900 more of this kind"),
        ];
        assert_eq!(last, expected);
    }

    #[test]
    fn findings_travel_as_json() {
        let finding = Finding::new(FindingKind::PackInSeveralIndexes, "data/x", "y");
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(json, r#"{"kind":"pack_in_several_indexes","file":"data/x","detail":"y"}"#);
        assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), finding);
        assert_eq!(finding.severity(), Severity::Hint);
    }
}
