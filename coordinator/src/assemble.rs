//! Finished children to tree blobs, bottom-up; and the ranges of a large file to its node.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fleet::cpu::Cpu;
use fleet::objects::{Objects, ObjectsExt};
use proto::id::{Id, JobId, WorkerId};
use proto::name::RawName;
use proto::report::{Fragment, PackReport, Payload};
use repository::blob_index::BlobIndex;
use repository::chunker::{FileRange, Piece, RangeCuts, RangeEnd, SeamLimits, Stitch, stitch};
use repository::format::node::Node;
use repository::format::pack::BlobType;
use repository::format::tree::{TreeReader, TreeWriter};
use repository::pack_writer::{FinishedPack, PackWriter, pack_spooled_blob};
use repository::repository::Repository;
use repository::seal::{BlobSpool, Sealer};
use repository::storage::StorageErrorKind;
use serde::{Deserialize, Serialize};

use crate::error::JobError;
use crate::job::{RangePart, Stitched};

/// Longer trees are compressed into a temporary file, so that they are never held whole.
const TREE_HELD_BYTES: u64 = 8 << 20;

/// Encodes and stores the trees that no worker could.
pub(crate) struct Assembler {
    job: JobId,
    me: WorkerId,
    repository: Repository,
    /// What was indexed when the job began: G.
    index: Arc<BlobIndex>,
    objects: Arc<dyn Objects>,
    sealer: Sealer,
    cpu: Cpu,
    pack_bytes: u64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    pack: Option<PackWriter>,
    /// Closed packs that are being uploaded. Each holds trees of directories that others may have answered for.
    closed: BTreeMap<Id, FinishedPack>,
    /// Trees that this assembler stored, or is about to.
    trees: BTreeSet<Id>,
}

/// What the assembler stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) tree_blobs: u64,
    pub(crate) bytes_added: u64,
    pub(crate) bytes_packed: u64,
    pub(crate) dirs_new: u64,
    pub(crate) dirs_changed: u64,
    pub(crate) dirs_unmodified: u64,
}

/// A tree that is stored, or will be with the open pack; the packs that were closed on the way; what that counts.
pub(crate) struct Stored<T> {
    pub(crate) what: T,
    pub(crate) packs: Vec<PackReport>,
    pub(crate) figures: Figures,
}

impl Assembler {
    #[expect(clippy::too_many_arguments, reason = "one call, at the start of a job")]
    pub(crate) fn new(
        job: JobId,
        me: WorkerId,
        repository: Repository,
        index: Arc<BlobIndex>,
        objects: Arc<dyn Objects>,
        sealer: Sealer,
        cpu: Cpu,
        pack_bytes: u64,
    ) -> Self {
        Self { job, me, repository, index, objects, sealer, cpu, pack_bytes, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing panics while it is held; a poisoned lock holds a whole pack.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Trees that are in confirmed packs of this job: they need not be stored again.
    pub(crate) fn note_stored(&self, trees: impl IntoIterator<Item = Id>) {
        self.lock().trees.extend(trees);
    }

    /// Stores a directory's tree; gives its node.
    pub(crate) async fn assemble_dir(
        &self,
        node: &[u8],
        parents: &[Id],
        fragments: &[Fragment],
    ) -> Result<Stored<Fragment>, JobError> {
        let mut node = Node::decode(node).map_err(|error| JobError::internal("a directory's node", &error))?;
        let Stored { what: tree, packs, mut figures } = self.store_tree(fragments).await?;
        match parents {
            [] => figures.dirs_new += 1,
            parents if parents.contains(&tree) => figures.dirs_unmodified += 1,
            _ => figures.dirs_changed += 1,
        }
        node.subtree = Some(tree);
        Ok(Stored { what: self.one_node(&node).await?, packs, figures })
    }

    /// Stores the root's tree.
    pub(crate) async fn assemble_root(&self, fragments: &[Fragment]) -> Result<Stored<Id>, JobError> {
        self.store_tree(fragments).await
    }

    async fn one_node(&self, node: &Node) -> Result<Fragment, JobError> {
        let mut json = Vec::new();
        node.encode(&mut json);
        let name = RawName::from(node.name.as_slice());
        let nodes = self.objects.payload(&self.job, json).await?;
        Ok(Fragment { first: name.clone(), last: name, count: 1, nodes })
    }

    async fn store_tree(&self, fragments: &[Fragment]) -> Result<Stored<Id>, JobError> {
        let bytes: u64 = fragments.iter().map(|fragment| fragment.nodes.len()).sum();
        if bytes > TREE_HELD_BYTES {
            return self.store_wide_tree(fragments).await;
        }
        let mut writer = TreeWriter::new(Vec::new()).map_err(|error| JobError::internal("a tree", &error))?;
        for fragment in fragments {
            let nodes = self.objects.load(&self.job, &fragment.nodes).await?;
            push_nodes(&mut writer, nodes)?;
        }
        let json = writer.finish().map_err(|error| JobError::internal("a tree", &error))?;
        let id = Id::of(&json);
        if !self.is_new(id) {
            return Ok(Stored { what: id, packs: Vec::new(), figures: Figures::default() });
        }
        let sealer = self.sealer.clone();
        let sealed = self.cpu.compute(move || sealer.seal_known_blob(BlobType::Tree, id, &json)).await??;
        let full = {
            let open = &mut *self.lock();
            let pack = open.pack.get_or_insert_with(|| PackWriter::new(BlobType::Tree, self.pack_bytes));
            pack.add(&sealed).map_err(|error| JobError::internal("a pack of trees", &error))?;
            if pack.is_full() { self.close(open)? } else { None }
        };
        let packs = match full {
            Some(full) => vec![self.put_closed(full).await?],
            None => Vec::new(),
        };
        let figures = Figures::of_tree(u64::from(sealed.plain_length), sealed.bytes.len() as u64);
        Ok(Stored { what: id, packs, figures })
    }

    /// A tree that is too long to be held: node by node through a temporary file, into a pack of its own.
    async fn store_wide_tree(&self, fragments: &[Fragment]) -> Result<Stored<Id>, JobError> {
        let spool = BlobSpool::new(&self.sealer, BlobType::Tree, &std::env::temp_dir())?;
        let mut writer = TreeWriter::new(spool).map_err(|error| JobError::internal("a tree", &error))?;
        for fragment in fragments {
            let nodes = self.objects.load(&self.job, &fragment.nodes).await?;
            writer = self.cpu.compute(move || push_nodes(&mut writer, nodes).map(|()| writer)).await??;
        }
        let spool = writer.finish().map_err(|error| JobError::internal("a tree", &error))?;
        let blob = spool.finish()?;
        let id = blob.id;
        if !self.is_new(id) {
            return Ok(Stored { what: id, packs: Vec::new(), figures: Figures::default() });
        }
        let figures = Figures::of_tree(u64::from(blob.plain_length), u64::from(blob.sealed_length));
        let pack = pack_spooled_blob(blob, self.sealer.key(), self.sealer.random())
            .map_err(|error| JobError::internal("a pack of one tree", &error))?;
        Ok(Stored { what: id, packs: vec![self.put(pack).await?], figures })
    }

    /// Whether the tree has to be stored; from now on it has not.
    fn is_new(&self, tree: Id) -> bool {
        !self.index.contains(BlobType::Tree, &tree) && self.lock().trees.insert(tree)
    }

    /// Uploads the open pack, and closed ones that are on their way: after this every tree that was answered for is
    /// durable. A pack may be reported twice.
    pub(crate) async fn flush(&self) -> Result<Vec<PackReport>, JobError> {
        let closed: Vec<FinishedPack> = {
            let open = &mut *self.lock();
            self.close(open)?;
            open.closed.values().cloned().collect()
        };
        let mut packs = Vec::with_capacity(closed.len());
        for pack in closed {
            packs.push(self.put_closed(pack).await?);
        }
        Ok(packs)
    }

    /// Closes the open pack, in the same moment in which it is noted as being uploaded.
    fn close(&self, open: &mut Open) -> Result<Option<FinishedPack>, JobError> {
        let Some(pack) = open.pack.take() else { return Ok(None) };
        let pack = pack
            .finish(self.sealer.key(), self.sealer.random())
            .map_err(|error| JobError::internal("a pack of trees", &error))?;
        open.closed.insert(pack.id, pack.clone());
        Ok(Some(pack))
    }

    async fn put_closed(&self, pack: FinishedPack) -> Result<PackReport, JobError> {
        let report = self.put(pack).await?;
        self.lock().closed.remove(&report.pack);
        Ok(report)
    }

    async fn put(&self, pack: FinishedPack) -> Result<PackReport, JobError> {
        let name = pack.id.to_string();
        match self.repository.storage().put(&format!("data/{}/{name}", &name[..2]), pack.body).await {
            Ok(()) => {}
            Err(error) if error.kind == StorageErrorKind::AlreadyThere => {}
            Err(error) => return Err(error.into()),
        }
        let blobs: u64 = pack.entries.iter().map(|entry| u64::from(entry.length)).sum();
        let header_bytes = u32::try_from(pack.length - blobs - 4).unwrap_or(u32::MAX);
        Ok(PackReport { pack: pack.id, size: pack.length, header_bytes, worker: self.me.clone(), group_commit: 0 })
    }

    /// Puts the ranges of a large file together.
    pub(crate) async fn stitch_file(
        &self,
        node: &[u8],
        size: u64,
        done: (Payload, u64),
        ranges: &[RangePart],
    ) -> Result<Stitched, JobError> {
        let mut cuts = Vec::with_capacity(ranges.len() + 1);
        let mut ids = Vec::with_capacity(ranges.len() + 1);
        if done.1 > 0 {
            let (ends, chunks) = decode_chunks(&self.objects.load(&self.job, &done.0).await?)?;
            let range = FileRange { start: 0, end: done.1, size, exact: true };
            cuts.push(range_cuts(range, 0, ends, RangeEnd::Proven { cut: done.1 }));
            ids.push(chunks);
        }
        for part in ranges {
            let (ends, chunks) = decode_chunks(&self.objects.load(&self.job, &part.result.chunks).await?)?;
            let range = FileRange { start: part.start, end: part.end, size, exact: part.exact };
            let ended = match part.result.proven {
                true => RangeEnd::Proven { cut: part.result.end },
                false => RangeEnd::Unproven { last_cut: part.result.end },
            };
            cuts.push(range_cuts(range, part.result.first_cut, ends, ended));
            ids.push(chunks);
        }
        match stitch(&cuts) {
            Ok(Stitch::Complete(pieces)) => self.stitched_node(node, size, &pieces, &ids, &cuts).await,
            Ok(Stitch::Redo { range, from }) => Ok(Stitched::Again { start: cuts[range].range.start, from }),
            Ok(Stitch::Incomplete { .. }) | Err(_) => Ok(Stitched::Untiled),
        }
    }

    async fn stitched_node(
        &self,
        node: &[u8],
        size: u64,
        pieces: &[Piece],
        ids: &[Vec<Id>],
        cuts: &[RangeCuts],
    ) -> Result<Stitched, JobError> {
        let mut node = Node::decode(node).map_err(|error| JobError::internal("a file's node", &error))?;
        let content = pieces.iter().flat_map(|piece| ids[piece.range][piece.chunks.clone()].iter().copied());
        let content: Vec<Id> = content.collect();
        let stored: usize = ids.iter().map(Vec::len).sum();
        let dropped = (stored - content.len()) as u64;
        let matched = pieces.iter().skip(1).filter(|piece| !cuts[piece.range].range.exact).count() as u64;
        (node.size, node.content) = (size, Some(content));
        Ok(Stitched::Node { node: self.one_node(&node).await?, matched, dropped })
    }

    /// The names in a fragment.
    pub(crate) async fn names(&self, fragment: &Fragment) -> Result<Vec<RawName>, JobError> {
        let nodes = self.objects.load(&self.job, &fragment.nodes).await?;
        let mut names = Vec::new();
        each_node(nodes, |name, _| {
            names.push(RawName::from(name));
            Ok(())
        })?;
        Ok(names)
    }
}

impl Figures {
    fn of_tree(plain: u64, packed: u64) -> Self {
        Self { tree_blobs: 1, bytes_added: plain, bytes_packed: packed, ..Self::default() }
    }

    /// Adds what another tree counts.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { tree_blobs, bytes_added, bytes_packed, dirs_new, dirs_changed, dirs_unmodified } = *other;
        self.tree_blobs += tree_blobs;
        self.bytes_added += bytes_added;
        self.bytes_packed += bytes_packed;
        self.dirs_new += dirs_new;
        self.dirs_changed += dirs_changed;
        self.dirs_unmodified += dirs_unmodified;
    }
}

fn range_cuts(range: FileRange, first_cut: u64, ends: Vec<u64>, ended: RangeEnd) -> RangeCuts {
    // A look-back that reaches the file's start makes a range exact too.
    let exact = range.exact || range.start <= SeamLimits::default().look_back + repository::chunker::WINDOW as u64;
    let cuts = std::iter::once(first_cut).chain(ends).collect();
    RangeCuts { range, cuts, ended, exact }
}

fn decode_chunks(bytes: &[u8]) -> Result<(Vec<u64>, Vec<Id>), JobError> {
    let (records, rest) = bytes.as_chunks::<40>();
    if !rest.is_empty() {
        return Err(JobError::Failed { reason: "a range reports chunks that cannot be decoded".to_owned() });
    }
    let decode = |record: &[u8; 40]| {
        let (mut end, mut id) = ([0; 8], [0; 32]);
        end.copy_from_slice(&record[..8]);
        id.copy_from_slice(&record[8..]);
        (u64::from_le_bytes(end), Id::from_bytes(id))
    };
    Ok(records.iter().map(decode).unzip())
}

/// Appends nodes as they stand in a fragment: joined by commas. Their names must ascend.
fn push_nodes<W: Write>(writer: &mut TreeWriter<W>, nodes: Bytes) -> Result<(), JobError> {
    each_node(nodes, |name, json| writer.push(name, json).map_err(|error| JobError::internal("a tree", &error)))
}

fn each_node(nodes: Bytes, mut take: impl FnMut(&[u8], &[u8]) -> Result<(), JobError>) -> Result<(), JobError> {
    // A fragment within the brackets of a tree is a tree.
    let tree = b"{\"nodes\":[".chain(&nodes[..]).chain(&b"]}\n"[..]);
    let mut reader = TreeReader::new(std::io::BufReader::with_capacity(256 << 10, tree));
    while let Some(node) = reader.next_raw().map_err(|error| JobError::internal("a fragment", &error))? {
        let (name, _) = node.name_and_kind().map_err(|error| JobError::internal("a fragment", &error))?;
        take(&name, node.json())?;
    }
    Ok(())
}
