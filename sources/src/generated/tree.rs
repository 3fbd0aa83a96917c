//! The tree itself: inodes, names, mounts, and changes planted for later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::handles::UnixTime;

use super::content::Content;
use crate::names::Names;
use crate::paths;
use crate::source::{ExtendedAttribute, FileKind, Metadata, SourceError, SourceErrorKind};

/// 2024-01-01T00:00:00Z: when a tree begins.
const FIRST_SECOND: i64 = 1_704_067_200;

/// The device that the root is on.
const FIRST_DEVICE: u64 = 1;

/// The inode number of a file system's root.
const ROOT_INODE: u64 = 2;

/// Symbolic links followed above a root before it is taken for a loop.
const LINKS_MAX: usize = 40;

/// Position of a node in the tree's table. Nodes are never dropped: an open file keeps its own.
pub(super) type NodeNumber = usize;

/// What one host does not see as the tree has it.
pub(super) struct View {
    pub(super) device_shift: u64,
    pub(super) unmounted: BTreeSet<Vec<u8>>,
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A file cannot be opened, a directory neither listed nor entered.
    Denied,
    /// Reading fails from this offset on.
    Broken {
        /// The first byte that cannot be read.
        offset: u64,
    },
}

/// A change that can be planted.
#[derive(Clone, Debug)]
pub enum Change {
    /// The same inode has other content, modified now.
    Rewrite(String, Content),
    /// Another inode takes the name (as by writing a new file and renaming it).
    Replace(String, Content),
    /// The name goes away, with all below it.
    Remove(String),
    /// A new file appears.
    Create(String, Content),
    /// The node is in trouble, or no longer.
    Trouble(String, Option<Trouble>),
    /// The file system at this path is gone for all hosts.
    Unmount(String),
}

enum Body {
    Directory(BTreeMap<Vec<u8>, NodeNumber>),
    File(Content),
    Special,
}

struct Node {
    metadata: Metadata,
    body: Body,
    trouble: Option<Trouble>,
}

struct Planted {
    path: Vec<u8>,
    /// How many reads of `path` are still to happen before it.
    reads_left: u64,
    change: Change,
}

struct State {
    nodes: Vec<Node>,
    /// Mount point to the root node of what is mounted there.
    mounts: BTreeMap<Vec<u8>, NodeNumber>,
    /// The next inode number of each device.
    next_inode: BTreeMap<u64, u64>,
    now: UnixTime,
    planted: Vec<Planted>,
}

/// A file tree in memory. Paths in its methods are absolute and cleaned; wrong ones panic, for they are
/// mistakes in a test.
pub struct GeneratedTree {
    state: Mutex<State>,
}

impl Default for GeneratedTree {
    fn default() -> Self {
        Self::new()
    }
}

impl GeneratedTree {
    /// Just the root directory.
    pub fn new() -> Self {
        let mut state = State {
            nodes: Vec::new(),
            mounts: BTreeMap::new(),
            next_inode: BTreeMap::new(),
            now: UnixTime::from_seconds(FIRST_SECOND),
            planted: Vec::new(),
        };
        state.create(FIRST_DEVICE, 0o040_755, Body::Directory(BTreeMap::new()));
        Self { state: Mutex::new(state) }
    }

    /// A directory, with those above it that are missing.
    pub fn directory(&self, path: &str) {
        let mut state = self.state();
        let mut made = Vec::new();
        for component in path.as_bytes().split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            made = [&made[..], b"/", component].concat();
            if state.find_own(&made).is_none() {
                state.add(&made, 0o040_755, Body::Directory(BTreeMap::new()));
            }
        }
    }

    /// A regular file.
    pub fn file(&self, path: &str, content: Content) {
        self.state().add(path.as_bytes(), 0o100_644, Body::File(content));
    }

    /// A symbolic link.
    pub fn symlink(&self, path: &str, target: &str) {
        let mut state = self.state();
        let node = state.add(path.as_bytes(), 0o120_777, Body::Special);
        let metadata = &mut state.nodes[node].metadata;
        metadata.link_target = target.as_bytes().to_vec();
        metadata.size = target.len() as u64;
    }

    /// A fifo, socket or device: `st_mode` with its type bits, `rdev` for devices.
    pub fn special(&self, path: &str, st_mode: u32, rdev: u64) {
        let mut state = self.state();
        let node = state.add(path.as_bytes(), st_mode, Body::Special);
        state.nodes[node].metadata.rdev = rdev;
    }

    /// One more name for a file.
    pub fn hard_link(&self, existing: &str, path: &str) {
        let mut state = self.state();
        let node = state.own(existing);
        state.insert(path.as_bytes(), node);
        let now = state.now;
        let metadata = &mut state.nodes[node].metadata;
        metadata.links += 1;
        metadata.changed = now;
    }

    /// Mounts a new, empty file system with this device number on an existing directory.
    pub fn mount(&self, path: &str, device: u64) {
        let mut state = self.state();
        let root = state.create(device, 0o040_755, Body::Directory(BTreeMap::new()));
        state.own(path);
        state.mounts.insert(path.as_bytes().to_vec(), root);
    }

    /// Sets an extended attribute, behind those that are there.
    pub fn attribute(&self, path: &str, name: &str, value: &[u8]) {
        self.edit(path, |metadata| {
            metadata
                .extended_attributes
                .push(ExtendedAttribute { name: name.as_bytes().to_vec(), value: value.to_vec() });
        });
    }

    /// Edits the metadata of an entry; ctime moves on.
    pub fn edit(&self, path: &str, edit: impl FnOnce(&mut Metadata)) {
        let mut state = self.state();
        let node = state.own(path);
        state.tick();
        let now = state.now;
        let metadata = &mut state.nodes[node].metadata;
        metadata.changed = now;
        edit(metadata);
    }

    /// Makes a change now.
    pub fn apply(&self, change: Change) {
        self.state().apply(change);
    }

    /// Makes a change right before read number `read` (from 0) of the file at `path` from now on.
    pub fn apply_at_read(&self, path: &str, read: u64, change: Change) {
        self.state().planted.push(Planted { path: path.as_bytes().to_vec(), reads_left: read, change });
    }

    /// Changes that were planted and have not happened never will.
    pub fn forget_planted(&self) {
        self.state().planted.clear();
    }

    pub(super) fn find(
        &self,
        action: &'static str,
        path: &[u8],
        follows: bool,
        view: &View,
    ) -> Result<NodeNumber, SourceError> {
        self.state().find(path, follows, &|mount_point| !view.unmounted.contains(mount_point)).map_err(|kind| {
            let explanation = match kind {
                SourceErrorKind::Vanished => "no such file or directory",
                SourceErrorKind::Denied => "permission denied",
                _ => "it is not a directory",
            };
            SourceError::new(kind, action, path, explanation)
        })
    }

    pub(super) fn metadata(&self, node: NodeNumber, view: &View) -> Metadata {
        let mut metadata = self.state().nodes[node].metadata.clone();
        metadata.device += view.device_shift;
        metadata
    }

    pub(super) fn check_directory(
        &self,
        action: &'static str,
        path: &[u8],
        node: NodeNumber,
    ) -> Result<(), SourceError> {
        let state = self.state();
        let node = &state.nodes[node];
        if node.trouble == Some(Trouble::Denied) {
            return Err(SourceError::new(SourceErrorKind::Denied, action, path, "permission denied"));
        }
        match node.body {
            Body::Directory(_) => Ok(()),
            _ => Err(SourceError::new(SourceErrorKind::Changed, action, path, "it is not a directory")),
        }
    }

    pub(super) fn list(&self, path: &[u8], node: NodeNumber) -> Result<Names, SourceError> {
        self.check_directory("list", path, node)?;
        match &self.state().nodes[node].body {
            Body::Directory(entries) => Ok(entries.keys().collect()),
            _ => Ok(Names::default()),
        }
    }

    pub(super) fn check_open(&self, path: &[u8], node: NodeNumber) -> Result<(), SourceError> {
        let state = self.state();
        let node = &state.nodes[node];
        if node.trouble == Some(Trouble::Denied) {
            return Err(SourceError::new(SourceErrorKind::Denied, "open", path, "permission denied"));
        }
        match node.body {
            Body::File(_) => Ok(()),
            _ => Err(SourceError::new(SourceErrorKind::Changed, "open", path, "it is no longer a regular file")),
        }
    }

    pub(super) fn read(
        &self,
        path: &[u8],
        node: NodeNumber,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, SourceError> {
        let mut state = self.state();
        state.apply_planted(path);
        let Node { body: Body::File(content), trouble, .. } = &state.nodes[node] else { return Ok(0) };
        if let Some(Trouble::Broken { offset: broken }) = trouble
            && offset + buffer.len() as u64 > *broken
        {
            return Err(SourceError::new(SourceErrorKind::Unreadable, "read", path, "input/output error"));
        }
        Ok(content.read_at(offset, buffer))
    }

    pub(super) fn mount_points(&self, view: &View) -> Vec<Vec<u8>> {
        self.state().mounts.keys().filter(|path| !view.unmounted.contains(*path)).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self) {
        self.now = self.now.plus(Duration::new(1, 1));
    }

    fn create(&mut self, device: u64, st_mode: u32, body: Body) -> NodeNumber {
        self.tick();
        let next = self.next_inode.entry(device).or_insert(ROOT_INODE);
        let inode = *next;
        *next += 1;
        let size = if let Body::File(content) = &body { content.bytes() } else { 0 };
        let metadata = Metadata {
            kind: FileKind::of_mode(st_mode),
            st_mode,
            uid: 1000,
            gid: 1000,
            size,
            links: 1,
            inode,
            device,
            rdev: 0,
            modified: self.now,
            accessed: self.now,
            changed: self.now,
            link_target: Vec::new(),
            extended_attributes: Vec::new(),
            warnings: Vec::new(),
        };
        self.nodes.push(Node { metadata, body, trouble: None });
        self.nodes.len() - 1
    }

    fn add(&mut self, path: &[u8], st_mode: u32, body: Body) -> NodeNumber {
        let parent = self.parent(path);
        let node = self.create(self.nodes[parent].metadata.device, st_mode, body);
        self.insert(path, node);
        node
    }

    fn insert(&mut self, path: &[u8], node: NodeNumber) {
        let parent = self.parent(path);
        let name = paths::split_last(path).map(|(_, name)| name.to_vec()).unwrap_or_default();
        self.tick();
        let now = self.now;
        let parent = &mut self.nodes[parent];
        (parent.metadata.modified, parent.metadata.changed) = (now, now);
        if let Body::Directory(entries) = &mut parent.body {
            entries.insert(name, node);
        }
    }

    fn parent(&self, path: &[u8]) -> NodeNumber {
        let parent = paths::split_last(path).map(|(parent, _)| parent);
        let node = parent.and_then(|parent| self.find_own(parent));
        node.filter(|node| matches!(self.nodes[*node].body, Body::Directory(_)))
            .unwrap_or_else(|| panic!("the test names {:?}, which is in no directory", String::from_utf8_lossy(path)))
    }

    fn own(&self, path: &str) -> NodeNumber {
        self.find_own(path.as_bytes()).unwrap_or_else(|| panic!("the test names {path}, which is not there"))
    }

    /// Looks a path up as a test names it: everything mounted, permissions not asked.
    fn find_own(&self, path: &[u8]) -> Option<NodeNumber> {
        let mut node = self.mounted(b"/", &|_| true).unwrap_or(0);
        let mut reached = Vec::new();
        for component in path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
            let Body::Directory(entries) = &self.nodes[node].body else { return None };
            reached = [&reached[..], b"/", component].concat();
            node = *entries.get(component)?;
            node = self.mounted(&reached, &|_| true).unwrap_or(node);
        }
        Some(node)
    }

    fn mounted(&self, path: &[u8], is_mounted: &dyn Fn(&[u8]) -> bool) -> Option<NodeNumber> {
        self.mounts.get(path).copied().filter(|_| is_mounted(path))
    }

    /// Looks a path up as a host does.
    fn find(
        &self,
        path: &[u8],
        follows: bool,
        is_mounted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<NodeNumber, SourceErrorKind> {
        let components = |path: &[u8]| path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let root = self.mounted(b"/", is_mounted).unwrap_or(0);
        let mut way = vec![(Vec::new(), root)];
        let mut waiting = components(path);
        let mut links = 0;
        while let Some(component) = waiting.pop() {
            let (reached, node) = way.last().cloned().unwrap_or((Vec::new(), root));
            match &component[..] {
                b"" | b"." => continue,
                b".." => {
                    way.truncate((way.len() - 1).max(1));
                    continue;
                }
                _ => {}
            }
            if self.nodes[node].trouble == Some(Trouble::Denied) {
                return Err(SourceErrorKind::Denied);
            }
            let Body::Directory(entries) = &self.nodes[node].body else { return Err(SourceErrorKind::Changed) };
            let found = *entries.get(&component).ok_or(SourceErrorKind::Vanished)?;
            let metadata = &self.nodes[found].metadata;
            if follows && metadata.kind == FileKind::Symlink && links < LINKS_MAX {
                links += 1;
                if paths::is_absolute(&metadata.link_target) {
                    way.truncate(1);
                }
                waiting.append(&mut components(&metadata.link_target));
                continue;
            }
            let reached = [&reached[..], b"/", &component[..]].concat();
            let found = self.mounted(&reached, is_mounted).unwrap_or(found);
            way.push((reached, found));
        }
        Ok(way.last().map_or(root, |(_, node)| *node))
    }

    fn apply(&mut self, change: Change) {
        self.tick();
        let now = self.now;
        match change {
            Change::Rewrite(path, content) => {
                let node = self.own(&path);
                let node = &mut self.nodes[node];
                node.metadata.size = content.bytes();
                (node.metadata.modified, node.metadata.changed) = (now, now);
                node.body = Body::File(content);
            }
            Change::Replace(path, content) => {
                self.unlink(&path);
                self.add(path.as_bytes(), 0o100_644, Body::File(content));
            }
            Change::Create(path, content) => {
                self.add(path.as_bytes(), 0o100_644, Body::File(content));
            }
            Change::Remove(path) => self.unlink(&path),
            Change::Trouble(path, trouble) => {
                let node = self.own(&path);
                self.nodes[node].trouble = trouble;
            }
            Change::Unmount(path) => {
                self.mounts.remove(path.as_bytes());
            }
        }
    }

    fn unlink(&mut self, path: &str) {
        let node = self.own(path);
        let parent = self.parent(path.as_bytes());
        let now = self.now;
        let metadata = &mut self.nodes[node].metadata;
        metadata.links = metadata.links.saturating_sub(1);
        metadata.changed = now;
        let parent = &mut self.nodes[parent];
        (parent.metadata.modified, parent.metadata.changed) = (now, now);
        if let (Body::Directory(entries), Some((_, name))) = (&mut parent.body, paths::split_last(path.as_bytes())) {
            entries.remove(name);
        }
    }

    fn apply_planted(&mut self, path: &[u8]) {
        let mut due = Vec::new();
        self.planted.retain_mut(|planted| {
            if planted.path != path {
                return true;
            }
            if planted.reads_left == 0 {
                due.push(planted.change.clone());
                return false;
            }
            planted.reads_left -= 1;
            true
        });
        for change in due {
            // Another change may have taken away meanwhile what this one is about.
            if self.can_be_applied(&change) {
                self.apply(change);
            }
        }
    }

    fn can_be_applied(&self, change: &Change) -> bool {
        match change {
            Change::Rewrite(path, _) | Change::Replace(path, _) | Change::Remove(path) | Change::Trouble(path, _) => {
                self.find_own(path.as_bytes()).is_some()
            }
            Change::Create(..) | Change::Unmount(_) => true,
        }
    }
}
