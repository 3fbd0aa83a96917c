//! What a job wants done.

use std::collections::{BTreeMap, BTreeSet};

use proto::id::{Id, Round, WorkerId};
use proto::name::RawName;
use proto::report::{Fragment, PackReport, Payload};
use proto::task::Work;
use serde::{Deserialize, Serialize};

use super::event::BlobKey;
use super::seams::RangePart;
use super::state::{DirKey, FileKey, ReportKey};

/// One thing to do. Each is answered by an event. Doing it twice is harmless: who takes a job over does again what was
/// under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// Publish a task.
    Publish {
        /// Its id.
        task: Id,
        /// Its round.
        round: Round,
        /// What to do.
        work: Work,
        /// Who refused it.
        refused_by: Vec<WorkerId>,
    },
    /// See whether a pack is in storage, and read its header.
    ConfirmPack(PackReport),
    /// See whether a pack that nobody reported is in storage, and read its header.
    FindPack(Id),
    /// Read a result that was too long for a message.
    LoadReport(Payload),
    /// See which borrowed blobs are proven.
    CheckBorrowed {
        /// The report.
        report: ReportKey,
        /// [`super::BlobKey`]s: a byte (1: tree) and the id each.
        blobs: Payload,
    },
    /// List the index once more, and look for these.
    ListIndex {
        /// The blobs.
        wanted: Vec<BlobKey>,
    },
    /// Read the names in a rejected fragment.
    ReadNames {
        /// Its directory.
        dir: DirKey,
        /// The fragment.
        fragment: Fragment,
    },
    /// Put the root worker's host facts in force.
    AdoptHost {
        /// [`proto::facts::HostFacts`].
        host: Payload,
        /// Each target's view.
        targets: Vec<(RawName, proto::task::View)>,
    },
    /// Put a changed map of devices in force.
    SetDevices {
        /// All of it.
        devices: BTreeMap<RawName, u64>,
        /// Places where the root worker has no file system mounted, and another one does.
        mounted: BTreeSet<RawName>,
        /// Places where no worker has a file system mounted any more.
        unmounted: BTreeSet<RawName>,
    },
    /// Encode and store a directory's tree.
    AssembleDir {
        /// The directory.
        dir: DirKey,
        /// Its node without `subtree`.
        node: Vec<u8>,
        /// Trees of the same directory in the parents.
        parents: Vec<Id>,
        /// All its entries.
        fragments: Vec<Fragment>,
    },
    /// Encode and store the root's tree.
    AssembleRoot {
        /// All its entries.
        fragments: Vec<Fragment>,
    },
    /// Put the ranges of a large file together.
    StitchFile {
        /// The file.
        file: FileKey,
        /// Its node without `content`.
        node: Vec<u8>,
        /// Its length in bytes, as the splitter saw it.
        size: u64,
        /// Chunks from the start, and where they end.
        done: (Payload, u64),
        /// Its ranges, in order.
        ranges: Vec<RangePart>,
    },
    /// Upload the coordinator's own open packs.
    FlushPacks,
    /// Write an index file.
    WriteIndex {
        /// The packs for it.
        packs: Vec<Id>,
    },
    /// Commit the snapshot.
    Commit {
        /// Its tree.
        tree: Id,
    },
    /// End the job without a snapshot.
    Fail {
        /// One sentence for people.
        reason: String,
    },
    /// End the job as cancelled.
    Cancel,
}
