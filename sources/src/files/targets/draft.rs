//! The tree of targets while it is put together. Paths are as given: cleaned, absolute or relative.

use std::collections::BTreeMap;

use super::TargetError;
use crate::names::Names;
use crate::paths;

/// Entries of one directory of the snapshot.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) entries: BTreeMap<Vec<u8>, DraftEntry>,
}

#[derive(Default)]
pub(super) struct DraftEntry {
    /// What is backed up here, and whether the user named it.
    pub(super) target: Option<(Vec<u8>, bool)>,
    /// The directory whose metadata is used if this only leads to targets.
    pub(super) directory: Vec<u8>,
    /// What leads to other targets.
    pub(super) below: Draft,
    /// Of an entry in the root: the directory that its first component stands in.
    start: Vec<u8>,
}

impl Draft {
    /// Adds a target that has at least one named component.
    pub(super) fn add(&mut self, target: &[u8], is_explicit: bool) {
        let mut components: Vec<&[u8]> =
            target.split(|byte| *byte == b'/').filter(|component| paths::is_entry_name(component)).collect();
        let first = components.remove(0);
        let start = start_of(target);
        let entry = self.first_entry(first, &start);
        let path = paths::join(&start, first);
        entry.start = start;
        entry.add(target, is_explicit, path, &components);
    }

    /// The entry in the root for `name` in `start`: under its own name, or the first of `name-1`,
    /// `name-2`... that is free or belongs to the same directory.
    ///
    /// restic looks at `start` only, and so takes a target that is really called `name-1` for this one,
    /// which mixes the two or loses one. Here it keeps looking: the only tree that differs from restic's.
    fn first_entry(&mut self, name: &[u8], start: &[u8]) -> &mut DraftEntry {
        let own_path = paths::join(start, name);
        let mut candidate = name.to_vec();
        let mut number = 0;
        while self.entries.get(&candidate).is_some_and(|other| other.start != start || other.own_path() != own_path) {
            number += 1;
            candidate = [name, format!("-{number}").as_bytes()].concat();
        }
        self.entries.entry(candidate).or_default()
    }

    /// Targets that hold other targets are replaced by their entries, which `list` gives, so that only
    /// leaves are targets.
    pub(super) fn expand(
        &mut self,
        list: &mut dyn FnMut(&[u8]) -> Result<Names, TargetError>,
    ) -> Result<(), TargetError> {
        for entry in self.entries.values_mut() {
            if let Some((path, _)) = entry.target.take_if(|_| !entry.below.entries.is_empty()) {
                for name in list(&path)?.iter() {
                    let below = entry.below.entries.entry(name.to_vec()).or_default();
                    below.target.get_or_insert_with(|| (paths::join(&path, name), false));
                }
            }
            entry.below.expand(list)?;
        }
        Ok(())
    }
}

impl DraftEntry {
    /// `path` is what leads here; `rest` what is left of the target.
    fn add(&mut self, target: &[u8], is_explicit: bool, path: Vec<u8>, rest: &[&[u8]]) {
        match rest.split_first() {
            None => self.target = Some((target.to_vec(), is_explicit)),
            Some((name, rest)) => {
                let below = self.below.entries.entry(name.to_vec()).or_default();
                let path_below = paths::join(&path, name);
                self.directory = path;
                below.add(target, is_explicit, path_below, rest);
            }
        }
    }

    /// The path of this entry as given, whichever way it was added.
    fn own_path(&self) -> &[u8] {
        if self.directory.is_empty() {
            self.target.as_ref().map_or(&b""[..], |(path, _)| path)
        } else {
            &self.directory
        }
    }
}

/// The directory in which the first named component of a target stands: `/`, `.`, `..`, `../..`...
fn start_of(target: &[u8]) -> Vec<u8> {
    if paths::is_absolute(target) {
        return b"/".to_vec();
    }
    let ups = target.split(|byte| *byte == b'/').filter(|component| *component == b"..").count();
    if ups == 0 { b".".to_vec() } else { vec![&b".."[..]; ups].join(&b'/') }
}
