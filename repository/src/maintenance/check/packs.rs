//! Compares the packs that are there with those that the index names, by name and length.

use std::collections::HashSet;

use proto::id::Id;

use super::finding::{Finding, FindingKind};
use super::pack_table::PackTable;
use crate::repository::{FileKind, Repository, RepositoryError};

/// What lies in the folder of packs.
#[derive(Debug, Default)]
pub(super) struct ListedPacks {
    /// Packs and their lengths, by id.
    packs: Vec<(Id, u64)>,
    /// Files that have a pack's name and lie in the wrong folder.
    misplaced: Vec<String>,
}

/// Lists all packs.
///
/// # Errors
/// `Storage`.
pub(super) async fn list_packs(repository: &Repository) -> Result<ListedPacks, RepositoryError> {
    let mut listed = ListedPacks::default();
    let mut from = None;
    loop {
        let page = repository.storage().list(FileKind::Pack.prefix(), from.as_deref()).await?;
        for entry in page.entries {
            if let Some(id) = FileKind::Pack.id(&entry.name) {
                listed.packs.push((id, entry.size));
            } else if entry.name.rsplit('/').next().is_some_and(|base| base.parse::<Id>().is_ok()) {
                listed.misplaced.push(entry.name);
            }
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    listed.packs.sort_unstable();
    listed.packs.dedup_by_key(|(id, _)| *id);
    Ok(listed)
}

/// What differs, and which packs are missing. Packs that no index names are only told of if the
/// index `is_whole`.
pub(super) fn compare(table: &PackTable, listed: ListedPacks, is_whole: bool) -> (Vec<Finding>, HashSet<Id>) {
    let mut findings = Vec::new();
    let mut missing = HashSet::new();
    let name = |id: &Id| FileKind::Pack.name(id);
    let mut there = listed.packs.iter().peekable();
    let mut orphans = Vec::new();
    for row in table.packs() {
        while let Some((id, _)) = there.next_if(|(id, _)| *id < row.id) {
            orphans.push(*id);
        }
        match there.next_if(|(id, _)| *id == row.id) {
            None => {
                findings.push(Finding::new(
                    FindingKind::PackMissing,
                    name(&row.id),
                    "the index names it, it is not there",
                ));
                missing.insert(row.id);
            }
            Some(&(_, length)) if length != row.length => {
                let detail = format!("it has {length} bytes, by the index it should have {}", row.length);
                findings.push(Finding::new(FindingKind::PackLength, name(&row.id), detail));
            }
            Some(_) => {}
        }
    }
    if is_whole {
        orphans.extend(there.map(|(id, _)| *id));
        let orphan = |id: Id| Finding::new(FindingKind::PackNotIndexed, name(&id), "no index names it");
        findings.extend(orphans.into_iter().map(orphan));
    }
    let misplaced = |file: String| Finding::new(FindingKind::PackMisplaced, file, "it lies in the wrong folder");
    findings.extend(listed.misplaced.into_iter().map(misplaced));
    (findings, missing)
}
