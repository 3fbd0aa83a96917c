//! What happens to a job.

use std::collections::{BTreeMap, BTreeSet};

use proto::id::{Id, Round, WorkerId};
use proto::name::RawName;
use proto::report::{DeadReport, Fragment, PackReport, Payload, ResultReport};

use super::seams::Stitched;
use super::state::{DirKey, FileKey, ReportKey};

/// A blob of the repository: whether it is a tree, and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey {
    /// A tree blob, not a data blob.
    pub tree: bool,
    /// Digest of its plain bytes.
    pub id: Id,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job begins: lock, G and parent are in its record.
    Started,
    /// Time went on.
    Tick,
    /// Who lives, what they hold, and how many tasks they can do at once.
    Workers {
        /// Every live worker.
        live: BTreeSet<WorkerId>,
        /// The (task, round)s in their heartbeats.
        holds: BTreeSet<(Id, Round)>,
        /// Sum of their slots.
        slots: u32,
    },
    /// A worker's result, verified.
    Result(Box<ResultReport>),
    /// A worker's result, too long for a message, is in an object.
    LongReport(Payload),
    /// It was read.
    ReportLoaded(Box<ResultReport>),
    /// A task reached the dead letters.
    Dead(DeadReport),
    /// A worker says that a pack is durable.
    PackReported(PackReport),
    /// The pack is in storage, with these blobs.
    PackConfirmed {
        /// The pack.
        pack: Id,
        /// What its header says.
        blobs: Vec<BlobKey>,
    },
    /// The pack is not in storage, or not as reported.
    PackMissing {
        /// The pack.
        pack: Id,
    },
    /// Which of the borrowed blobs are neither in a confirmed pack of this job nor in its index files.
    BorrowedChecked {
        /// The report that borrows.
        report: ReportKey,
        /// What is missing.
        missing: Vec<BlobKey>,
    },
    /// The index was listed once more; of the wanted blobs these are in it.
    IndexListed {
        /// What was found.
        found: Vec<BlobKey>,
    },
    /// The names in a rejected fragment.
    NamesRead {
        /// Its directory.
        dir: DirKey,
        /// Its first name.
        first: RawName,
        /// All its names.
        names: Vec<RawName>,
    },
    /// Changed facts are in force.
    FactsReady {
        /// The map of devices.
        devices: BTreeMap<RawName, u64>,
    },
    /// The message was confirmed.
    Published {
        /// The task.
        task: Id,
    },
    /// A directory's tree is stored (or was); this is its node.
    DirAssembled {
        /// The directory.
        dir: DirKey,
        /// Its node.
        node: Fragment,
    },
    /// The root's tree is stored.
    RootAssembled {
        /// The tree.
        tree: Id,
    },
    /// The ranges of a large file were put together, or not.
    FileStitched {
        /// The file.
        file: FileKey,
        /// What came of it.
        outcome: Box<Stitched>,
    },
    /// The coordinator's own open packs are in storage and confirmed.
    PacksFlushed,
    /// An index file with these packs is durable.
    IndexWritten {
        /// The packs.
        packs: Vec<Id>,
    },
    /// The snapshot exists and was read back.
    Committed {
        /// The snapshot.
        snapshot: Id,
    },
    /// Somebody asked to cancel.
    CancelRequested,
    /// The job's state was lost: messages may be, too.
    StateLost,
    /// This coordinator took the job over: what was published may be lost, and nobody knows yet who lives.
    TakenOver,
    /// An effect failed for good.
    EffectFailed {
        /// One sentence for people.
        reason: String,
    },
}
