//! One directory that the walk is in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fleet::cpu::{Cpu, Panicked};
use proto::id::Id;
use proto::restore::TreePart;
use repository::format::node::{Kind, Node};
use repository::format::tree::{TreeReadError, TreeReader};
use sources::names::NamesBuilder;

use super::super::tools::{Directory, chain};
use super::{TreeSource, is_plain_name};

/// Nodes that are decoded in one go.
const NODES_AHEAD: usize = 256;
/// And not more than this many blobs in them: a node of a huge file takes megabytes.
const BLOBS_AHEAD: usize = 16 << 10;

/// One directory that the walk is in.
pub(super) struct Frame {
    pub(super) directory: Arc<Directory>,
    /// None for the target itself, and where another task sees to its metadata.
    pub(super) node: Option<Node>,
    pub(super) tree: Option<Id>,
    reader: Option<TreeReader<TreeSource>>,
    ahead: VecDeque<Node>,
    /// Why the tree cannot be read on, once all `ahead` is dealt with.
    damage: Option<String>,
    /// Only names behind this one belong to the part.
    pub(super) after: Option<Vec<u8>>,
    /// And up to this one.
    pub(super) until: Option<Vec<u8>>,
    /// The last name that was visited.
    pub(super) last_name: Option<Vec<u8>>,
    /// Every name in the snapshot, if other names are to be removed.
    pub(super) names: Option<NamesBuilder>,
    /// Names are plain and ascend, and the tree can be read.
    pub(super) is_orderly: bool,
    pub(super) is_selected: bool,
    pub(super) is_made: bool,
    pub(super) has_restored: bool,
    pub(super) is_late: bool,
    /// Trees of entries ahead that were opened before it is their turn.
    pub(super) opened: BTreeMap<Id, TreeSource>,
}

/// What comes next in a directory.
pub(super) enum Next {
    Node(Box<Node>),
    /// The tree cannot be read on.
    Damaged(String),
    End,
}

impl Frame {
    fn new(directory: Arc<Directory>, node: Option<Node>) -> Self {
        Self {
            directory,
            node,
            tree: None,
            reader: None,
            ahead: VecDeque::new(),
            damage: None,
            after: None,
            until: None,
            last_name: None,
            names: None,
            is_orderly: true,
            is_selected: false,
            is_made: false,
            has_restored: false,
            is_late: false,
            opened: BTreeMap::new(),
        }
    }

    /// A directory above the part, that nobody has made.
    pub(super) fn above(directory: Arc<Directory>, node: Node) -> Self {
        // Other tasks may work in it as well.
        Self { is_late: true, ..Self::new(directory, Some(node)) }
    }

    /// The directory of the part. `node`: it is not made yet.
    pub(super) fn of_part(part: &TreePart, node: Option<Node>, source: Option<TreeSource>, delete: bool) -> Self {
        let bound = |name: &Option<proto::name::RawName>| name.as_ref().map(|name| name.0.clone());
        Self {
            tree: Some(part.tree),
            names: (delete && source.is_some()).then(NamesBuilder::default),
            reader: source.map(TreeReader::new),
            after: bound(&part.after),
            until: bound(&part.until),
            is_selected: part.selected,
            is_made: node.is_none(),
            is_late: true,
            ..Self::new(Directory::new(part.path.0.clone()), node)
        }
    }

    /// A directory inside the part.
    pub(super) fn below(
        directory: Arc<Directory>,
        node: Node,
        tree: Id,
        source: Option<TreeSource>,
        is_selected: bool,
        delete: bool,
    ) -> Self {
        Self {
            tree: Some(tree),
            reader: source.map(TreeReader::new),
            names: delete.then(NamesBuilder::default),
            is_selected,
            ..Self::new(directory, Some(node))
        }
    }

    /// What comes next.
    pub(super) async fn next(&mut self, cpu: &Cpu) -> Result<Next, Panicked> {
        loop {
            if let Some(node) = self.ahead.pop_front() {
                return Ok(Next::Node(Box::new(node)));
            }
            if let Some(message) = self.damage.take() {
                self.is_orderly = false;
                return Ok(Next::Damaged(message));
            }
            let Some(mut reader) = self.reader.take() else { return Ok(Next::End) };
            let (after, until) = (self.after.clone(), self.until.clone());
            let read = cpu.read(move || {
                let mut nodes = VecDeque::new();
                let more = read_nodes(&mut reader, after.as_deref(), until.as_deref(), &mut nodes);
                (reader, nodes, more)
            });
            let (reader, nodes, more) = read.await?;
            self.ahead = nodes;
            match more {
                Ok(true) => self.reader = Some(reader),
                Ok(false) => {}
                Err(error) => self.damage = Some(chain(&error)),
            }
        }
    }

    /// Whether an entry of this name may be restored, or why not.
    pub(super) fn admit(&mut self, name: &[u8]) -> Result<(), &'static str> {
        if !is_plain_name(name) {
            self.is_orderly = false;
            return Err("its name is no plain name of an entry");
        }
        match self.last_name.as_deref() {
            Some(last) if last == name => {
                self.is_orderly = false;
                return Err("the snapshot has it twice");
            }
            Some(last) if last > name => self.is_orderly = false,
            _ => {}
        }
        self.last_name = Some(name.to_vec());
        if let Some(names) = &mut self.names {
            names.push(name);
        }
        Ok(())
    }

    /// Trees of the directories that come next, as far as they are read.
    pub(super) fn subtrees_ahead(&self) -> impl Iterator<Item = Id> + '_ {
        self.ahead.iter().filter(|node| node.kind == Kind::Dir).filter_map(|node| node.subtree)
    }

    /// Every name that was not visited.
    pub(super) async fn names_left(&mut self, cpu: &Cpu) -> Result<(Vec<Vec<u8>>, Option<String>), Panicked> {
        let mut names: Vec<Vec<u8>> = self.ahead.drain(..).map(|node| node.name).collect();
        let Some(mut reader) = self.reader.take() else { return Ok((names, self.damage.take())) };
        let (after, until) = (self.after.clone(), self.until.clone());
        let read = cpu.read(move || {
            let damage = read_names(&mut reader, after.as_deref(), until.as_deref(), &mut names).err();
            (names, damage.map(|error| chain(&error)))
        });
        read.await
    }
}

/// Reads some nodes between the bounds; false when there are no more.
fn read_nodes(
    reader: &mut TreeReader<TreeSource>,
    after: Option<&[u8]>,
    until: Option<&[u8]>,
    nodes: &mut VecDeque<Node>,
) -> Result<bool, TreeReadError> {
    let mut blobs = 0;
    while nodes.len() < NODES_AHEAD && blobs < BLOBS_AHEAD {
        let Some(raw) = reader.next_raw()? else { return Ok(false) };
        if after.is_some() || until.is_some() {
            let (name, _) = raw.name_and_kind()?;
            if after.is_some_and(|after| name.as_slice() <= after) {
                continue;
            }
            if until.is_some_and(|until| name.as_slice() > until) {
                return Ok(false);
            }
        }
        let node = raw.decode()?;
        blobs += node.content.as_ref().map_or(0, Vec::len);
        nodes.push_back(node);
    }
    Ok(true)
}

/// Reads the names of all further nodes between the bounds.
fn read_names(
    reader: &mut TreeReader<TreeSource>,
    after: Option<&[u8]>,
    until: Option<&[u8]>,
    names: &mut Vec<Vec<u8>>,
) -> Result<(), TreeReadError> {
    while let Some(raw) = reader.next_raw()? {
        let (name, _) = raw.name_and_kind()?;
        if until.is_some_and(|until| name.as_slice() > until) {
            return Ok(());
        }
        if after.is_none_or(|after| name.as_slice() > after) {
            names.push(name);
        }
    }
    Ok(())
}
