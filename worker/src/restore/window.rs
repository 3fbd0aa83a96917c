//! Cuts the stream of entries into windows: so much is planned, fetched and written at once, whatever the size of the
//! tree or of a file.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use proto::id::Id;
use proto::job::Budget;
use proto::report::ProblemKind;
use proto::restore::{LinkedFile, NamedNode};
use repository::format::node::{Kind, Node};
use repository::format::pack::{BlobType, PackEntry};
use sources::restore_target::WantedMetadata;

use super::file::{FileJob, Frame, Piece};
use super::tools::{Directory, Full, Halt, Tools, instant, named_node, wanted_metadata};
use super::walk::{Leaf, Leave, Rest, Step, Walker};
use crate::stop::Stop;

/// A file that is being restored, and the pieces that it still needs.
type OpenedFile = (Arc<FileJob>, VecDeque<Piece>);

/// Blobs of one window: planning takes some hundred bytes for each.
const BLOBS_MAX: usize = 16 << 10;
/// Bytes of content of one window.
const BYTES_MAX: u64 = 256 << 20;
/// Entries of one window.
const ENTRIES_MAX: usize = 8 << 10;

/// What is done at once: directories first (they are made when the window is cut), then all content and other entries
/// side by side, then links, then what ends here.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Files with content, or parts of such.
    pub(super) parts: Vec<(Arc<FileJob>, Vec<Piece>)>,
    /// Files without content.
    pub(super) empty: Vec<Arc<FileJob>>,
    /// Files whose content others write.
    pub(super) large: Vec<(Arc<FileJob>, NamedNode)>,
    /// Links and special files.
    pub(super) others: Vec<Leaf>,
    /// Further names of files.
    pub(super) links: Vec<Link>,
    /// Directories that end.
    pub(super) leaves: Vec<Leave>,
    /// With the last window: what is left to others.
    pub(super) rest: Option<Rest>,
    /// With the last window: files with several names that this task leaves to others.
    pub(super) linked: Vec<LinkedFile>,
    blobs: usize,
    bytes: u64,
    entries: usize,
}

/// A further name of a file.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) existing: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) wanted: WantedMetadata,
}

impl Window {
    fn is_full(&self) -> bool {
        self.blobs >= BLOBS_MAX || self.bytes >= BYTES_MAX || self.entries >= ENTRIES_MAX
    }
}

/// What a task may do.
#[derive(Clone)]
pub(super) struct Limits {
    /// None: it does all.
    pub(super) budget: Option<Budget>,
    pub(super) stop: Stop,
}

/// How files with several names are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// The first name is written, the others are linked: nobody else works on the tree.
    AtOnce,
    /// They are kept until all entries are seen; those with names elsewhere are left to the coordinator.
    Kept,
    /// Each is a file of its own: others make the links.
    Ignored,
}

/// Cuts windows.
pub(super) struct Windows {
    tools: Arc<Tools>,
    limits: Limits,
    links: Links,
    walker: Option<Walker>,
    queued: VecDeque<Step>,
    /// A file of which some pieces do not fit into the last window.
    pending: Option<(Arc<FileJob>, VecDeque<Piece>)>,
    /// Files with several names are restored when the first is met.
    knows_all_names: bool,
    /// First names of files with several.
    firsts: HashMap<(u64, u64), Vec<u8>>,
    kept: BTreeMap<(u64, u64), KeptFile>,
    entries: u64,
    bytes: u64,
    has_ended: bool,
}

struct KeptFile {
    first: Leaf,
    names: Vec<Vec<u8>>,
}

impl Windows {
    /// Windows of what `walker` meets.
    pub(super) fn of_walk(tools: &Arc<Tools>, walker: Walker, limits: Limits, links: Links) -> Self {
        Self { walker: Some(walker), ..Self::of_steps(tools, Vec::new(), limits, links) }
    }

    /// Windows of these steps.
    pub(super) fn of_steps(tools: &Arc<Tools>, steps: Vec<Step>, limits: Limits, links: Links) -> Self {
        Self {
            tools: tools.clone(),
            limits,
            links,
            walker: None,
            queued: steps.into(),
            pending: None,
            knows_all_names: links == Links::AtOnce,
            firsts: HashMap::new(),
            kept: BTreeMap::new(),
            entries: 0,
            bytes: 0,
            has_ended: false,
        }
    }

    /// Windows of one file's pieces.
    pub(super) fn of_file(tools: &Arc<Tools>, file: Arc<FileJob>, pieces: VecDeque<Piece>, limits: Limits) -> Self {
        let pending = (!pieces.is_empty()).then_some((file, pieces));
        Self { pending, ..Self::of_steps(tools, Vec::new(), limits, Links::Ignored) }
    }

    /// The next window, its directories made; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Window>, Halt> {
        if self.has_ended {
            return Ok(None);
        }
        let mut window = Window::default();
        let mut made = Vec::new();
        while !window.is_full() {
            if self.take_pending(&mut window) {
                continue;
            }
            let step = match self.queued.pop_front() {
                Some(step) => Some(step),
                None => self.walk_on(&mut window).await?,
            };
            match step {
                Some(Step::Make(directory)) => {
                    window.entries += 1;
                    made.push(directory);
                }
                Some(Step::Entry(leaf)) => self.take(*leaf, &mut window)?,
                Some(Step::Leave(leave)) => window.leaves.push(*leave),
                None if self.queued.is_empty() => {
                    window.linked = self.leave_linked();
                    let is_split = window.rest.as_ref().is_some_and(|rest| !rest.parts.is_empty());
                    if is_split && self.knows_all_names {
                        window.linked.extend(self.first_names());
                    }
                    self.has_ended = true;
                    break;
                }
                None => {}
            }
        }
        make_directories(&self.tools, made).await?;
        Ok(Some(window))
    }

    /// The walk's next step. At its end, or when the task shall stop, what was kept is queued.
    async fn walk_on(&mut self, window: &mut Window) -> Result<Option<Step>, Halt> {
        let Some(walker) = &mut self.walker else { return Ok(None) };
        if !self.limits.are_reached(self.entries, self.bytes)
            && let Some(step) = walker.next().await?
        {
            return Ok(Some(step));
        }
        if let Some(walker) = self.walker.take() {
            let mut rest = walker.rest().await?;
            window.leaves.append(&mut rest.leaves);
            window.rest = Some(rest);
        }
        self.queue_complete();
        Ok(None)
    }

    /// Puts on what fits of the pending file.
    fn take_pending(&mut self, window: &mut Window) -> bool {
        let Some((file, mut pieces)) = self.pending.take() else { return false };
        let mut taken = Vec::new();
        while !window.is_full()
            && let Some(piece) = pieces.pop_front()
        {
            window.blobs += 1;
            window.bytes += u64::from(piece.entry.plain_length());
            taken.push(piece);
        }
        window.parts.push((file.clone(), taken));
        if !pieces.is_empty() {
            self.pending = Some((file, pieces));
        }
        true
    }

    fn take(&mut self, leaf: Leaf, window: &mut Window) -> Result<(), Full> {
        self.entries += 1;
        window.entries += 1;
        if leaf.node.kind != Kind::File {
            window.others.push(leaf);
            return Ok(());
        }
        let key = (leaf.node.inode, leaf.node.device_id);
        match self.links {
            Links::AtOnce if leaf.node.links > 1 => {
                let path = leaf.directory.child(&leaf.node.name);
                if let Some(first) = self.firsts.get(&key) {
                    let wanted = wanted_metadata(&leaf.node);
                    window.links.push(Link { existing: first.clone(), path, wanted });
                    return Ok(());
                }
                self.firsts.insert(key, path);
            }
            Links::Kept if leaf.node.links > 1 => {
                let path = leaf.directory.child(&leaf.node.name);
                let kept = self.kept.entry(key).or_insert_with(|| KeptFile { first: leaf, names: Vec::new() });
                kept.names.push(path);
                return Ok(());
            }
            _ => {}
        }
        self.bytes += leaf.node.size;
        let range_threshold = self.limits.budget.as_ref().map(|budget| budget.range_threshold_bytes);
        let is_large = range_threshold.is_some_and(|threshold| leaf.node.size > threshold);
        let named = is_large.then(|| named_node(&leaf.directory.child(&leaf.node.name), &leaf.node));
        let Some((file, pieces)) = self.open_file(leaf)? else { return Ok(()) };
        if pieces.is_empty() {
            window.empty.push(file);
        } else if let Some(named) = named {
            window.large.push((file, named));
        } else {
            self.pending = Some((file, pieces));
        }
        Ok(())
    }

    /// Looks up where the file's blobs lie; none if one is missing.
    fn open_file(&self, leaf: Leaf) -> Result<Option<OpenedFile>, Full> {
        let Leaf { directory, mut node } = leaf;
        let path = directory.child(&node.name);
        let content = node.content.take().unwrap_or_default();
        let pieces = match pieces_of(&self.tools, &content, 0) {
            Ok(pieces) => pieces,
            Err(missing) => {
                let message = format!("its blob {missing} is in no pack that the index knows");
                self.tools.problem(ProblemKind::Damaged, &path, message);
                return Ok(None);
            }
        };
        let size: u64 = pieces.iter().map(|piece| u64::from(piece.entry.plain_length())).sum();
        if size != node.size {
            let message = format!("the snapshot says that it has {} bytes, and holds {size}", node.size);
            self.tools.problem(ProblemKind::Incomplete, &path, message);
        }
        let frame = Frame::Whole(Box::new(wanted_metadata(&node)));
        let links = (node.links, (node.inode, node.device_id));
        Ok(Some((Arc::new(FileJob::new(path, directory, frame, size, content, links)), pieces)))
    }

    /// Queues the kept files all names of which were seen. Large ones are left to others, who have all their names.
    fn queue_complete(&mut self) {
        let threshold = self.limits.budget.as_ref().map_or(u64::MAX, |budget| budget.range_threshold_bytes);
        let is_complete =
            |kept: &KeptFile| kept.names.len() as u64 >= kept.first.node.links && kept.first.node.size <= threshold;
        let (complete, others) = std::mem::take(&mut self.kept).into_iter().partition(|(_, kept)| is_complete(kept));
        self.kept = others;
        let complete: BTreeMap<(u64, u64), KeptFile> = complete;
        for kept in complete.into_values() {
            for name in &kept.names {
                let directory = Directory::new(super::tools::parent(name).to_vec());
                let node = Node { name: last_name(name).to_vec(), ..kept.first.node.clone() };
                self.queued.push_back(Step::Entry(Box::new(Leaf { directory, node })));
            }
        }
        if !self.queued.is_empty() {
            self.links = Links::AtOnce;
        }
    }

    /// What others must know of files with several names.
    fn leave_linked(&mut self) -> Vec<LinkedFile> {
        std::mem::take(&mut self.kept)
            .into_iter()
            .map(|((inode, device), kept)| {
                let mut node = Vec::new();
                kept.first.node.encode(&mut node);
                let modified = instant(kept.first.node.mtime.instant());
                LinkedFile { inode, device, names: kept.names.into_iter().map(Into::into).collect(), node, modified }
            })
            .collect()
    }

    /// First names that were restored at once; others may meet more names of these files.
    fn first_names(&mut self) -> Vec<LinkedFile> {
        std::mem::take(&mut self.firsts)
            .into_iter()
            .map(|((inode, device), name)| LinkedFile {
                inode,
                device,
                names: vec![name.into()],
                node: Vec::new(),
                modified: (0, 0),
            })
            .collect()
    }
}

impl Limits {
    fn are_reached(&self, entries: u64, bytes: u64) -> bool {
        match &self.budget {
            Some(budget) => {
                let is_spent = entries >= budget.entries || bytes >= budget.bytes;
                entries > 0 && (is_spent || self.stop.is_due())
            }
            None => self.stop.is_drained(),
        }
    }
}

/// Where the blobs of some content lie, the first at `offset` of the file; or the first that is nowhere.
pub(super) fn pieces_of(tools: &Tools, content: &[Id], mut offset: u64) -> Result<VecDeque<Piece>, Id> {
    let mut pieces = VecDeque::with_capacity(content.len());
    for id in content {
        let copy: Option<(Id, PackEntry)> = tools.site.index.find(BlobType::Data, id).next();
        let (pack, entry) = copy.ok_or(*id)?;
        pieces.push_back(Piece { offset, pack, entry });
        offset += u64::from(entry.plain_length());
    }
    Ok(pieces)
}

/// The last component of `path`.
pub(super) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

async fn make_directories(tools: &Arc<Tools>, made: Vec<Arc<Directory>>) -> Result<(), Halt> {
    if made.is_empty() {
        return Ok(());
    }
    let at_work = tools.clone();
    let make = move || made.iter().try_for_each(|directory| make_directory(&at_work, directory));
    tools.site.cpu.read(make).await??;
    Ok(())
}

fn make_directory(tools: &Tools, directory: &Directory) -> Result<(), Full> {
    use sources::restore_target::{Effect, RestoreErrorKind};
    tools.tally().counts.directories += 1;
    tools.show_progress(1, 0);
    let Some(target) = tools.target() else {
        directory.mark_fresh();
        return Ok(());
    };
    if tools.request().dry_run {
        let there = target.metadata(&directory.path);
        let is_there = there.is_ok_and(|there| there.kind == sources::source::FileKind::Directory);
        if !is_there {
            directory.mark_fresh();
        }
        return Ok(());
    }
    match target.make_directory(&directory.path) {
        Ok(Effect::Created | Effect::Replaced) => directory.mark_fresh(),
        Ok(Effect::Unchanged) => {}
        Err(error) if error.kind == RestoreErrorKind::Full => return Err(Full(error)),
        // What shall be in it will say so too.
        Err(error) => tools.refused(error)?,
    }
    Ok(())
}
