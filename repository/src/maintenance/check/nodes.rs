//! Looks at the entries of one tree.

use std::io::BufRead;

use bytes::Bytes;
use proto::id::Id;

use super::finding::{FileFindings, Finding, FindingKind, chain};
use super::pack_table::PackTable;
use super::verify::drain;
use crate::crypto::MasterKey;
use crate::format::node::{Kind, Node};
use crate::format::pack::{BlobType, PackEntry};
use crate::format::tree::TreeReader;
use crate::seal::{BlobReader, open_blob};

/// Trees whose plain bytes are more than this are never held decompressed: some 10,000 entries.
const HELD_PLAIN_BYTES_MAX: u32 = 4 << 20;

/// What is in a tree that is what its id says.
#[derive(Debug, Default)]
pub(super) struct TreeContent {
    /// Numbers of the trees of its directories, not each only once.
    pub(super) subtrees: Vec<u32>,
    pub(super) nodes: u64,
    pub(super) findings: Vec<Finding>,
}

/// Opens a tree and looks at all its entries. `pack` is the name of the file that holds it.
///
/// # Errors
/// What is wrong, if it does not open or is not what its id says. Another copy may do.
pub(super) fn check_tree(
    table: &PackTable,
    key: &MasterKey,
    pack: &str,
    entry: &PackEntry,
    sealed: Bytes,
) -> Result<TreeContent, String> {
    let mut visitor = Visitor::new(table, pack, entry.id);
    if entry.plain_length() <= HELD_PLAIN_BYTES_MAX {
        let plain = open_blob(key, entry, &sealed).map_err(|error| chain(&error))?;
        visitor.read(&plain[..]);
    } else {
        let is_compressed = entry.uncompressed_length.is_some();
        let opened = BlobReader::new(key, entry.kind, entry.id, sealed, is_compressed);
        let mut reader = opened.map_err(|error| chain(&error))?;
        visitor.read(&mut reader);
        // What was seen counts only if it is what the id says, which shows at the end.
        drain(&mut reader).map_err(|error| chain(&error))?;
    }
    Ok(visitor.finish())
}

struct Visitor<'a> {
    table: &'a PackTable,
    pack: &'a str,
    tree: Id,
    last_name: Vec<u8>,
    subtrees: Vec<u32>,
    nodes: u64,
    findings: FileFindings,
}

impl<'a> Visitor<'a> {
    fn new(table: &'a PackTable, pack: &'a str, tree: Id) -> Self {
        let (last_name, subtrees, findings) = Default::default();
        Self { table, pack, tree, last_name, subtrees, nodes: 0, findings }
    }

    fn finish(self) -> TreeContent {
        TreeContent { subtrees: self.subtrees, nodes: self.nodes, findings: self.findings.finish() }
    }

    fn found(&mut self, kind: FindingKind, detail: std::fmt::Arguments<'_>) {
        let tree = self.tree;
        self.findings.push(Finding::new(kind, self.pack, format!("tree {tree}: {detail}")));
    }

    /// Reads up to the end, or to what is no entry of a tree.
    fn read(&mut self, reader: impl BufRead) {
        for node in TreeReader::new(reader) {
            match node {
                Ok(node) => self.visit(node),
                Err(error) => self.found(FindingKind::TreeMalformed, format_args!("{}", chain(&error))),
            }
        }
    }

    fn visit(&mut self, node: Node) {
        self.nodes += 1;
        self.check_name(&node);
        match node.kind {
            Kind::File => self.check_content(&node),
            Kind::Dir => self.check_subtree(&node),
            Kind::Symlink | Kind::Device | Kind::CharDevice | Kind::Fifo | Kind::Socket => {}
            Kind::Irregular | Kind::Unknown => {
                self.found(FindingKind::NodeType, format_args!("{} has no known type", shown(&node.name)));
            }
        }
        self.last_name = node.name;
    }

    fn check_name(&mut self, node: &Node) {
        let name = &node.name[..];
        if name.is_empty() {
            self.found(FindingKind::NodeNameEmpty, format_args!("an entry has no name"));
        } else if name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            self.found(FindingKind::NodeNameUnsafe, format_args!("{} is no name of a file", shown(name)));
        }
        if self.nodes > 1 && name <= &self.last_name[..] {
            let last = shown(&self.last_name);
            self.found(FindingKind::NodeOrder, format_args!("{} follows {last}", shown(name)));
        }
    }

    fn check_content(&mut self, node: &Node) {
        let name = &node.name;
        let Some(content) = &node.content else {
            return self.found(FindingKind::NodeContent, format_args!("file {} has no list of blobs", shown(name)));
        };
        let mut size = Some(0u64);
        for id in content {
            match self.table.find(BlobType::Data, id).next() {
                Some(position) => {
                    let plain = u64::from(self.table.entry(position).plain_length());
                    size = size.and_then(|size| size.checked_add(plain));
                }
                None => {
                    size = None;
                    let detail = format_args!("data blob {id} of file {} is in no pack of the index", shown(name));
                    self.found(FindingKind::DataMissing, detail);
                }
            }
        }
        if let Some(size) = size.filter(|size| *size != node.size) {
            let detail = format_args!("file {} has {} bytes, its blobs have {size}", shown(name), node.size);
            self.found(FindingKind::NodeSize, detail);
        }
    }

    fn check_subtree(&mut self, node: &Node) {
        let name = &node.name;
        let Some(subtree) = node.subtree else {
            return self.found(FindingKind::NodeSubtree, format_args!("directory {} has no tree", shown(name)));
        };
        match self.table.find(BlobType::Tree, &subtree).next() {
            Some(position) => self.subtrees.push(position),
            None => {
                let detail = format_args!("tree {subtree} of directory {} is in no pack of the index", shown(name));
                self.found(FindingKind::TreeMissing, detail);
            }
        }
    }
}

/// A name for people: quoted, unprintable characters escaped.
fn shown(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}
