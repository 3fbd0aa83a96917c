//! The walk through the snapshot's trees: entries in order, directories made before and left after what is in them.
//!
//! **Hostile snapshots:** a name that is no plain name is refused and reported; what it stands for is not looked at. A
//! directory with such a name, or whose names do not ascend, is not cleared of what the snapshot has not.

mod frame;
mod rest;

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::sync::Arc;

use futures::future::join_all;
use proto::id::Id;
use proto::report::ProblemKind;
use proto::restore::{NamedNode, TreePart};
use repository::format::node::{Kind, Node};
use repository::format::pack::BlobType;
use repository::repository::RepositoryError;
use sources::names::{Names, NamesBuilder};
use sources::paths;

use self::frame::{Frame, Next};
pub(super) use self::rest::Rest;
use super::tools::{Directory, Halt, Tools, file_kind};
use crate::error::WorkerError;

/// Trees of neighbouring directories that are opened together.
const TREES_AT_ONCE: usize = 16;
/// A longer sealed tree is not opened before it is its turn.
const TREE_AHEAD_BYTES_MAX: u32 = 256 << 10;

type TreeSource = Box<dyn BufRead + Send>;

/// One thing to do, in order.
#[derive(Debug)]
pub(super) enum Step {
    /// A directory shall be there.
    Make(Arc<Directory>),
    /// A selected entry that is no directory.
    Entry(Box<Leaf>),
    /// All in the directory was said.
    Leave(Box<Leave>),
}

/// A selected entry that is no directory.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) directory: Arc<Directory>,
    pub(super) node: Node,
}

/// The end of a directory, or of a task's part of it.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) directory: Arc<Directory>,
    /// Its metadata; none for the target itself, and where another task sees to it.
    pub(super) node: Option<Node>,
    /// Others work in it too: its metadata comes in the last stage.
    pub(super) is_late: bool,
    /// What else is in it is to be removed.
    pub(super) clear: Option<Clear>,
}

/// Which entries of a directory stay.
#[derive(Debug)]
pub(super) struct Clear {
    /// Every name in the snapshot.
    pub(super) names: Names,
    /// Only names behind this one are looked at.
    pub(super) after: Option<Vec<u8>>,
    /// Only names up to this one are looked at.
    pub(super) until: Option<Vec<u8>>,
}

/// Walks through one part of the tree.
pub(super) struct Walker {
    tools: Arc<Tools>,
    frames: Vec<Frame>,
    steps: VecDeque<Step>,
    /// Files with several names are finished in a later stage, and so are the directories that they are in.
    links_are_late: bool,
}

impl Walker {
    /// A walk through `part`.
    pub(super) async fn begin(tools: &Arc<Tools>, part: &TreePart, links_are_late: bool) -> Result<Self, Halt> {
        let mut walker = Self { tools: tools.clone(), frames: Vec::new(), steps: VecDeque::new(), links_are_late };
        let mut own = None;
        for unmade in &part.unmade {
            let node = decode(unmade)?;
            if unmade.path == part.path {
                own = Some(node);
            } else {
                walker.frames.push(Frame::above(Directory::new(unmade.path.0.clone()), node));
            }
        }
        let source = match tools.site.repository.open_tree(&tools.site.index, &part.tree).await {
            Ok(source) => Some(source),
            Err(error) => {
                tools.unreadable(&part.path.0, error)?;
                None
            }
        };
        walker.frames.push(Frame::of_part(part, own, source, tools.request().delete));
        Ok(walker)
    }

    /// The next thing to do; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Step>, Halt> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(Some(step));
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            match frame.next(&self.tools.site.cpu).await? {
                Next::Node(node) => self.visit(*node).await?,
                Next::Damaged(message) => {
                    let path = frame.directory.path.clone();
                    self.tools.problem(ProblemKind::Damaged, &path, message);
                }
                Next::End => self.leave(),
            }
        }
    }

    async fn visit(&mut self, node: Node) -> Result<(), Halt> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let path = frame.directory.child(&node.name);
        if let Err(message) = frame.admit(&node.name) {
            self.tools.problem(ProblemKind::NotRestored, &path, message.to_owned());
            return Ok(());
        }
        if node.kind == Kind::Socket {
            return Ok(()); // a socket is nothing without who listens; restic leaves them out too
        }
        let selected = self.tools.site.selection.select(&path, node.kind == Kind::Dir);
        match node.kind {
            Kind::Dir => {
                if selected.itself || selected.below {
                    self.enter(path, node, selected.itself, selected.below).await?;
                }
            }
            _ if !selected.itself => {}
            kind if file_kind(kind).is_none() => {
                let message = "it is of a kind that cannot be restored".to_owned();
                self.tools.problem(ProblemKind::NotRestored, &path, message);
            }
            _ => self.entry(node),
        }
        Ok(())
    }

    fn entry(&mut self, node: Node) {
        self.make_frames();
        let Some(frame) = self.frames.last_mut() else { return };
        frame.has_restored = true;
        frame.is_late |= self.links_are_late && node.kind == Kind::File && node.links > 1;
        self.steps.push_back(Step::Entry(Box::new(Leaf { directory: frame.directory.clone(), node })));
    }

    async fn enter(&mut self, path: Vec<u8>, node: Node, is_selected: bool, looks_below: bool) -> Result<(), Halt> {
        let Some(tree) = node.subtree else {
            self.tools.problem(ProblemKind::Damaged, &path, "the snapshot has no tree for it".to_owned());
            return Ok(());
        };
        let source = match looks_below {
            false => None,
            true => match self.open(&tree).await {
                Ok(source) => Some(source),
                Err(error) => {
                    self.tools.unreadable(&path, error)?;
                    None
                }
            },
        };
        let delete = self.tools.request().delete && source.is_some();
        self.frames.push(Frame::below(Directory::new(path), node, tree, source, is_selected, delete));
        if is_selected {
            self.make_frames();
        }
        Ok(())
    }

    /// Opens a tree, and its neighbours that will be wanted next.
    async fn open(&mut self, tree: &Id) -> Result<TreeSource, RepositoryError> {
        let site = &self.tools.site;
        let Some(frame) = self.frames.last_mut() else {
            return site.repository.open_tree(&site.index, tree).await;
        };
        if let Some(source) = frame.opened.remove(tree) {
            return Ok(source);
        }
        let is_short = |tree: &Id| {
            site.index.find(BlobType::Tree, tree).next().is_some_and(|(_, entry)| entry.length <= TREE_AHEAD_BYTES_MAX)
        };
        let ahead = frame.subtrees_ahead().filter(|ahead| ahead != tree && is_short(ahead));
        let wanted: Vec<Id> = std::iter::once(*tree).chain(ahead.take(TREES_AT_ONCE - 1)).collect();
        let opened = join_all(wanted.iter().map(|tree| site.repository.open_tree(&site.index, tree))).await;
        let mut result = None;
        frame.opened = BTreeMap::new();
        for (id, source) in wanted.into_iter().zip(opened) {
            match source {
                source if id == *tree => result = Some(source),
                Ok(source) => _ = frame.opened.insert(id, source),
                Err(_) => {} // asked for again when it is its turn
            }
        }
        result.unwrap_or(Err(RepositoryError::BlobMissing { kind: BlobType::Tree, id: *tree }))
    }

    /// Has every directory that leads here made.
    fn make_frames(&mut self) {
        for frame in &mut self.frames {
            if !frame.is_made {
                frame.is_made = true;
                self.steps.push_back(Step::Make(frame.directory.clone()));
            }
        }
    }

    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let has_restored = frame.has_restored || frame.is_selected;
        if let Some(above) = self.frames.last_mut() {
            above.has_restored |= has_restored && frame.is_made;
            above.is_late |= frame.is_late;
        }
        if !has_restored || !frame.is_made {
            return;
        }
        self.steps.push_back(Step::Leave(Box::new(frame.into_leave())));
    }
}

impl Frame {
    fn into_leave(self) -> Leave {
        let clear = self.names.filter(|_| self.is_orderly).map(NamesBuilder::finish);
        let clear = clear.map(|names| Clear { names, after: self.after, until: self.until });
        Leave { directory: self.directory, node: self.node, is_late: self.is_late, clear }
    }
}

/// The node of a directory that a task was told of.
pub(super) fn decode(named: &NamedNode) -> Result<Node, WorkerError> {
    Node::decode(&named.node)
        .map_err(|error| WorkerError::Malformed { what: format!("the node of {}: {error}", named.path) })
}

/// Whether `name` can be the name of an entry.
fn is_plain_name(name: &[u8]) -> bool {
    // What is longer cannot be made anywhere, and is not worth a try.
    paths::is_entry_name(name) && name.len() < 4096
}
