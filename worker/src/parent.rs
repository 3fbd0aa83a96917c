//! Looking entries up in the parent snapshot's tree, beside the walk.

use std::io::BufRead;

use proto::id::Id;
use repository::format::node::{Kind, Node};
use repository::format::tree::TreeReader;
use sources::source::{FileKind, Metadata};

/// One directory of a parent, read in step with the ascending names of the walk.
pub(crate) struct ParentDir {
    reader: TreeReader<Box<dyn BufRead + Send>>,
    /// Read, and not behind any name that was asked for.
    ahead: Option<Node>,
    ended: bool,
}

impl ParentDir {
    /// Reads the tree that `reader` gives.
    pub(crate) fn new(reader: Box<dyn BufRead + Send>) -> Self {
        Self { reader: TreeReader::new(reader), ahead: None, ended: false }
    }

    /// The entry `name`. Names must be asked for in ascending order; a tree that cannot be read is a parent without it.
    pub(crate) fn find(&mut self, name: &[u8]) -> Option<Node> {
        loop {
            if self.ahead.is_none() && !self.ended {
                match self.reader.next() {
                    Some(Ok(node)) => self.ahead = Some(node),
                    Some(Err(_)) | None => self.ended = true,
                }
            }
            let ahead = self.ahead.as_ref()?;
            match ahead.name.as_slice().cmp(name) {
                std::cmp::Ordering::Less => self.ahead = None,
                std::cmp::Ordering::Equal => return self.ahead.take(),
                std::cmp::Ordering::Greater => return None,
            }
        }
    }
}

/// What the parents have under one name, best parent first.
#[derive(Default)]
pub(crate) struct Found {
    /// The parents' nodes.
    pub(crate) nodes: Vec<Node>,
}

impl Found {
    /// Looks `name` up in all parents.
    pub(crate) fn find(parents: &mut [ParentDir], name: &[u8]) -> Self {
        Self { nodes: parents.iter_mut().filter_map(|parent| parent.find(name)).collect() }
    }

    /// Trees of the same directory in the parents.
    pub(crate) fn subtrees(&self) -> Vec<Id> {
        let mut trees: Vec<Id> = self.nodes.iter().filter_map(|node| node.subtree).collect();
        trees.dedup();
        trees
    }

    /// The same of an entry that is a directory in the parent.
    pub(crate) fn directory_device(&self) -> Option<u64> {
        self.device().filter(|_| self.nodes.first().is_some_and(|node| node.kind == Kind::Dir))
    }

    /// The number of the file system that the entry is on.
    pub(crate) fn device(&self) -> Option<u64> {
        self.nodes.first().map(|node| node.device_id).filter(|device| *device != 0)
    }
}

/// What is compared beside size and mtime to call a file unchanged (FORMAT 7).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    pub(crate) ctime: bool,
    pub(crate) inode: bool,
}

impl Comparison {
    /// Whether the file is as the parent has it, so that its content need not be read.
    pub(crate) fn is_unchanged(self, node: &Node, metadata: &Metadata) -> bool {
        node.kind == Kind::File
            && metadata.kind == FileKind::File
            && node.size == metadata.size
            && node.mtime.instant() == metadata.modified
            && (!self.ctime || node.ctime.instant() == metadata.changed)
            && (!self.inode || node.inode == metadata.inode)
            && node.content.is_some()
    }
}
