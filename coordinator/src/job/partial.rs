//! What of the tree is finished, for a job that takes it up.

use std::collections::BTreeMap;

use proto::name::RawName;
use proto::report::Fragment;

use super::state::{DirKey, Piece, ROOT, State};

/// A directory of which only some entries are finished.
#[derive(Clone, Debug, Default)]
pub struct PartialDir {
    /// Its node without `subtree`; empty for the root.
    pub node: Vec<u8>,
    /// What is finished, in order.
    pub children: Vec<PartialChild>,
}

/// Something finished in a directory.
#[derive(Clone, Debug)]
pub enum PartialChild {
    /// Whole entries.
    Nodes(Fragment),
    /// A directory of which some entries are finished.
    Dir(PartialDir),
}

impl State {
    /// Everything that is finished and proven.
    pub fn partial_tree(&self) -> PartialDir {
        let dirs = self.dirs.iter();
        let below = dirs.filter_map(|(key, dir)| dir.above.as_ref().map(|(above, name)| ((*above, name), *key)));
        self.partial_dir(ROOT, &below.collect())
    }

    fn partial_dir(&self, key: DirKey, below: &BTreeMap<(DirKey, &RawName), DirKey>) -> PartialDir {
        let Some(dir) = self.dirs.get(&key) else { return PartialDir::default() };
        let children = dir.pieces.iter().filter_map(|(name, piece)| match piece {
            Piece::Done { fragment } => Some(PartialChild::Nodes(fragment.clone())),
            Piece::Dir => below.get(&(key, name)).map(|dir| PartialChild::Dir(self.partial_dir(*dir, below))),
            Piece::Open { .. } | Piece::Reopening { .. } | Piece::Unproven { .. } | Piece::File => None,
        });
        PartialDir { node: dir.node.clone(), children: children.collect() }
    }
}
