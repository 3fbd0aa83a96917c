//! Finished entries to trees: directories that are whole become tree blobs, others are reported open.

use fleet::objects::{Objects, ObjectsExt};
use proto::facts::{Facts, HostFacts};
use proto::id::{Id, JobId};
use proto::name::RawName;
use proto::report::{Counts, Fragment, Item, Missing, OpenDir, OpenNames, Payload};
use proto::task::Names;
use repository::format::node::{ExtendedAttribute, Kind, Node, mode_from_stat};
use repository::format::node_time::NodeTime;
use repository::format::zone::Zone;
use sources::source::{FileKind, Metadata};

use crate::dedupe::NewBlob;
use crate::error::WorkerError;
use crate::walk::{Entry, view_of};

/// Nodes of one directory that are held as bytes; beyond, they go into an object and the coordinator assembles.
const NODES_HELD_BYTES: usize = 8 << 20;
/// Neighbouring entries that another worker shall read are handed out together, up to so many.
const JOINED_NAMES_MAX: u64 = 64;

/// Makes the node of an entry, without content and subtree.
pub(crate) fn node_of(name: &[u8], metadata: &Metadata, device: u64, facts: &Facts, zone: &Zone) -> Node {
    let kind = kind_of(metadata.kind);
    let time = |instant| NodeTime::from_unix(instant, zone);
    let counts_links = matches!(kind, Kind::File | Kind::Symlink | Kind::Device | Kind::CharDevice);
    let nobody = HostFacts::default();
    let host = facts.host.as_ref().unwrap_or(&nobody);
    let name_of = |names: &std::collections::BTreeMap<u32, String>, id| {
        names.get(&id).map(|name: &String| name.clone().into_bytes()).unwrap_or_default()
    };
    Node {
        name: name.to_vec(),
        kind,
        mode: mode_from_stat(metadata.st_mode),
        mtime: time(metadata.modified),
        atime: time(if facts.with_atime { metadata.accessed } else { metadata.modified }),
        ctime: time(metadata.changed),
        uid: metadata.uid,
        gid: metadata.gid,
        user: name_of(&host.users, metadata.uid),
        group: name_of(&host.groups, metadata.gid),
        inode: metadata.inode,
        device_id: device,
        size: 0,
        links: if counts_links { metadata.links } else { 0 },
        link_target: metadata.link_target.clone(),
        extended_attributes: metadata
            .extended_attributes
            .iter()
            .map(|attribute| ExtendedAttribute { name: attribute.name.clone(), value: attribute.value.clone() })
            .collect(),
        device: if matches!(kind, Kind::Device | Kind::CharDevice) { metadata.rdev } else { 0 },
        ..Node::default()
    }
}

fn kind_of(kind: FileKind) -> Kind {
    match kind {
        FileKind::File => Kind::File,
        FileKind::Directory => Kind::Dir,
        FileKind::Symlink => Kind::Symlink,
        FileKind::BlockDevice => Kind::Device,
        FileKind::CharacterDevice => Kind::CharDevice,
        FileKind::Fifo => Kind::Fifo,
        FileKind::Socket => Kind::Socket,
        FileKind::Unknown => Kind::Irregular,
    }
}

/// Builds trees from what the walk met, in its order.
pub(crate) struct TreeBuilder {
    frames: Vec<Frame>,
    counts: Counts,
    /// Missing from directories that were left open.
    missing: Missing,
}

/// What became of a scope.
pub(crate) struct Built {
    pub(crate) items: Vec<Item>,
    /// Its finished directories.
    pub(crate) counts: Counts,
    pub(crate) missing: Missing,
}

/// A directory that was entered.
struct Frame {
    dir: Option<EnteredDir>,
    items: Vec<Item>,
    run: Run,
    missing: Missing,
}

struct EnteredDir {
    node: Node,
    entry: Box<Entry>,
    parents: Vec<Id>,
}

/// Neighbouring finished nodes.
#[derive(Default)]
struct Run {
    first: Vec<u8>,
    last: Vec<u8>,
    count: u64,
    json: Vec<u8>,
}

impl Run {
    fn push(&mut self, name: &[u8], node: &Node) {
        if self.count == 0 {
            self.first = name.to_vec();
        } else {
            self.json.push(b',');
        }
        self.last.clear();
        self.last.extend_from_slice(name);
        node.encode(&mut self.json);
        self.count += 1;
    }

    fn into_item(self) -> Option<Item> {
        (self.count > 0).then(|| {
            Item::Nodes(Fragment {
                first: self.first.into(),
                last: self.last.into(),
                count: self.count,
                nodes: Payload::Inline(self.json),
            })
        })
    }
}

impl Frame {
    fn of(dir: Option<EnteredDir>) -> Self {
        Self { dir, items: Vec::new(), run: Run::default(), missing: Missing::default() }
    }

    fn close_run(&mut self) {
        self.items.extend(std::mem::take(&mut self.run).into_item());
    }
}

impl TreeBuilder {
    pub(crate) fn new() -> Self {
        Self { frames: vec![Frame::of(None)], counts: Counts::default(), missing: Missing::default() }
    }

    fn top(&mut self) -> &mut Frame {
        match self.frames.last_mut() {
            Some(frame) => frame,
            None => unreachable!("the scope's own frame is never popped"),
        }
    }

    /// A directory begins; `node` is its node without subtree.
    pub(crate) fn enter(&mut self, node: Node, entry: Box<Entry>, parents: Vec<Id>) {
        self.frames.push(Frame::of(Some(EnteredDir { node, entry, parents })));
    }

    /// A finished entry that is not a directory.
    pub(crate) fn add(&mut self, node: &Node) {
        self.top().run.push(&node.name, node);
    }

    /// An entry of the directory that is not in its tree.
    pub(crate) fn miss(&mut self, missing: Missing) {
        add_missing(&mut self.top().missing, missing);
    }

    /// Something that is not finished.
    pub(crate) fn open(&mut self, item: Item) {
        let top = self.top();
        top.close_run();
        match (top.items.last_mut(), item) {
            (Some(Item::Open(before)), Item::Open(next)) if can_join(before, &next) => join(before, next),
            (_, item) => top.items.push(item),
        }
    }

    /// Moves nodes that are too many to be held into an object.
    pub(crate) async fn spill(&mut self, job: &JobId, objects: &dyn Objects) -> Result<(), WorkerError> {
        for frame in &mut self.frames {
            if frame.run.json.len() < NODES_HELD_BYTES {
                continue;
            }
            frame.close_run();
            if let Some(Item::Nodes(fragment)) = frame.items.last_mut()
                && let Payload::Inline(json) = &mut fragment.nodes
            {
                fragment.nodes = objects.store(job, std::mem::take(json)).await?;
            }
        }
        Ok(())
    }

    /// The directory that was entered last ends. Returns its tree if it is whole.
    pub(crate) fn leave(&mut self) -> Option<NewBlob> {
        let mut frame = self.frames.pop()?;
        let Some(mut dir) = frame.dir.take() else {
            self.frames.push(frame); // the scope's own frame stays
            return None;
        };
        if !frame.items.is_empty() {
            frame.close_run();
            add_missing(&mut self.missing, frame.missing);
            self.open(open_dir(dir, frame.items));
            return None;
        }
        let mut json = Vec::with_capacity(frame.run.json.len() + 14);
        json.extend_from_slice(b"{\"nodes\":[");
        json.extend_from_slice(&frame.run.json);
        json.extend_from_slice(b"]}\n");
        let id = Id::of(&json);
        dir.node.subtree = Some(id);
        self.counts.entries += 1;
        match dir.entry.parent.as_deref() {
            None => self.counts.dirs_new += 1,
            Some(parent) if *parent == dir.node => self.counts.dirs_unmodified += 1,
            Some(_) => self.counts.dirs_changed += 1,
        }
        self.add(&dir.node);
        Some(NewBlob { id, plain: json.into() })
    }

    /// What became of the scope.
    pub(crate) fn finish(mut self) -> Built {
        while self.frames.len() > 1 {
            self.leave();
        }
        let mut items = Vec::new();
        if let Some(mut frame) = self.frames.pop() {
            frame.close_run();
            add_missing(&mut self.missing, frame.missing);
            items = frame.items;
        }
        Built { items, counts: self.counts, missing: self.missing }
    }
}

fn add_missing(to: &mut Missing, more: Missing) {
    to.unreadable += more.unreadable;
    to.vanished += more.vanished;
}

/// Whether two neighbouring entries that could not be read are one item: where nothing can be read, there are many.
fn can_join(before: &OpenNames, next: &OpenNames) -> bool {
    let is_short = |names: &OpenNames| matches!(names.names, Names::Listed(_)) && names.count < JOINED_NAMES_MAX;
    before.second_opinion && next.second_opinion && is_short(before) && is_short(next)
}

fn join(before: &mut OpenNames, next: OpenNames) {
    if let (Names::Listed(names), Names::Listed(more)) = (&mut before.names, next.names) {
        names.extend(more);
        before.count += next.count;
        before.bounds.1 = next.bounds.1;
    }
}

fn open_dir(dir: EnteredDir, items: Vec<Item>) -> Item {
    let mut node = Vec::new();
    dir.node.encode(&mut node);
    Item::Dir(OpenDir {
        name: RawName::from(dir.node.name),
        view: view_of(&dir.entry.metadata),
        path: RawName::from(dir.entry.source),
        node,
        parents: dir.parents,
        parent_device: dir.entry.parent_device,
        items,
    })
}
