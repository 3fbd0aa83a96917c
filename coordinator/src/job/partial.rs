//! What of the tree is finished, for a job that takes it up.

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
        self.partial_dir(ROOT)
    }

    fn partial_dir(&self, key: DirKey) -> PartialDir {
        let Some(dir) = self.dirs.get(&key) else { return PartialDir::default() };
        let children = dir.pieces.iter().filter_map(|(name, piece)| match piece {
            Piece::Done { fragment } => Some(PartialChild::Nodes(fragment.clone())),
            Piece::Dir => {
                let below = self.dirs.iter().find(|(_, below)| below.above.as_ref() == Some(&(key, name.clone())));
                below.map(|(below, _)| PartialChild::Dir(self.partial_dir(*below)))
            }
            Piece::Open { .. } | Piece::Reopening { .. } | Piece::Unproven { .. } | Piece::File => None,
        });
        PartialDir { node: dir.node.clone(), children: children.collect() }
    }
}
