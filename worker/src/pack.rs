//! Sealed blobs to packs: one packer per worker and job (DESIGN 7).
//!
//! Blobs of a type go to one of two open packs at random, which hides chunk lengths. Packs are closed when full, when
//! no task is at work any more, or [`GROUP_COMMIT_AFTER`] the first finished task waits for one: small increments must
//! not make crumbs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::handles::{Clock, RandomExt};
use proto::id::Id;
use repository::format::pack::BlobType;
use repository::pack_writer::{AddError, FinishedPack, PackWriter};
use repository::seal::{SealedBlob, Sealer};
use tokio::sync::watch;

use crate::dedupe::{Fate, Ledger, Loss, OwnBlobs, PackWatch};
use crate::error::WorkerError;
use crate::upload::Uploader;

/// How long a finished task waits for others to fill its packs.
const GROUP_COMMIT_AFTER: Duration = Duration::from_secs(2);
/// Open packs of one type.
const OPEN_PACKS: usize = 2;

/// Fills packs.
pub(crate) struct Packer {
    sealer: Sealer,
    pack_bytes: u64,
    open: Mutex<Open>,
    uploader: Uploader,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Open {
    packs: Vec<OpenPack>,
    /// Tasks that may still add blobs.
    at_work: usize,
    /// How often open packs were closed that were not full.
    group_commits: u32,
}

struct OpenPack {
    writer: PackWriter,
    fate: watch::Sender<Fate>,
}

/// Packs that are closed together, each with the fates of those that were merged into it.
struct GroupCommit {
    number: u32,
    packs: Vec<(OpenPack, Vec<watch::Sender<Fate>>)>,
}

/// A pack that is complete.
pub(crate) struct ClosedPack {
    pub(crate) pack: FinishedPack,
    pub(crate) fate: watch::Sender<Fate>,
    /// See [`proto::report::PackReport::group_commit`].
    pub(crate) group_commit: u32,
}

impl Packer {
    pub(crate) fn new(sealer: Sealer, pack_bytes: u64, uploader: Uploader, clock: Arc<dyn Clock>) -> Self {
        Self { sealer, pack_bytes, open: Mutex::default(), uploader, clock }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing panics while it is held; a poisoned lock holds whole packs.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task begins to add blobs. Ends when the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> AtWork {
        self.lock().at_work += 1;
        AtWork { packer: self.clone(), ended: false }
    }

    /// Adds a blob; waits while too many packs are being uploaded.
    ///
    /// # Errors
    /// `Seal` if a pack cannot be closed.
    pub(crate) async fn add(&self, blob: &SealedBlob) -> Result<PackWatch, WorkerError> {
        let (watch, closed) = {
            let mut open = self.lock();
            let at = self.choose(&mut open, blob.kind);
            let pack = &mut open.packs[at];
            match pack.writer.add(blob) {
                Ok(()) => {}
                Err(AddError::Full | AddError::WrongType { .. }) => {
                    return Err(WorkerError::PackLost(Loss::abandoned()));
                }
            }
            let watch = pack.fate.subscribe();
            let closed = pack.writer.is_full().then(|| open.packs.swap_remove(at));
            (watch, closed)
        };
        if let Some(closed) = closed {
            self.upload(closed, 0).await?;
        }
        Ok(watch)
    }

    /// The open pack for the next blob of a type.
    fn choose(&self, open: &mut Open, kind: BlobType) -> usize {
        let of_kind: Vec<usize> = (0..open.packs.len()).filter(|at| open.packs[*at].writer.kind() == kind).collect();
        let pick = self.sealer.random().below(OPEN_PACKS as u64) as usize;
        match of_kind.get(pick) {
            Some(at) => *at,
            None => {
                let (fate, _) = watch::channel(Fate::Open);
                open.packs.push(OpenPack { writer: PackWriter::new(kind, self.pack_bytes), fate });
                open.packs.len() - 1
            }
        }
    }

    async fn upload(&self, closed: OpenPack, group_commit: u32) -> Result<(), WorkerError> {
        let pack = closed.writer.finish(self.sealer.key(), self.sealer.random()).map_err(|error| {
            WorkerError::PackLost(Loss { transient: false, reason: format!("it cannot be closed: {error}").into() })
        })?;
        self.uploader.begin(ClosedPack { pack, fate: closed.fate, group_commit }).await;
        Ok(())
    }

    /// Takes all open packs; part-filled ones of a type are merged where they fit.
    fn take_open(&self) -> GroupCommit {
        let (packs, number) = {
            let mut open = self.lock();
            open.packs.retain(|pack| !pack.writer.is_empty());
            open.group_commits += u32::from(!open.packs.is_empty());
            (std::mem::take(&mut open.packs), open.group_commits)
        };
        let mut merged: Vec<(OpenPack, Vec<watch::Sender<Fate>>)> = Vec::new();
        for pack in packs {
            let fits = merged.iter_mut().find(|(other, _)| other.writer.can_merge(&pack.writer));
            match fits {
                None => merged.push((pack, Vec::new())),
                Some((other, fates)) => match other.writer.merge(pack.writer) {
                    None => fates.push(pack.fate),
                    Some(writer) => merged.push((OpenPack { writer, fate: pack.fate }, Vec::new())),
                },
            }
        }
        GroupCommit { number, packs: merged }
    }

    /// Closes all open packs and begins to upload them.
    async fn flush(&self) -> Result<(), WorkerError> {
        let GroupCommit { number, packs } = self.take_open();
        for (pack, merged) in packs {
            let mut watch = pack.fate.subscribe();
            self.upload(pack, number).await?;
            if !merged.is_empty() {
                // Their blobs are in this pack: its fate is theirs.
                tokio::spawn(async move {
                    let fate = settled(&mut watch).await;
                    for sender in merged {
                        sender.send_replace(fate.clone());
                    }
                });
            }
        }
        Ok(())
    }

    /// Waits until every pack of a task is stored and reported; returns them.
    ///
    /// # Errors
    /// `PackLost` if one was not.
    pub(crate) async fn settle(
        &self,
        ledger: &mut Ledger,
        own: &OwnBlobs,
        work: AtWork,
    ) -> Result<Vec<Id>, WorkerError> {
        work.end().await?;
        for key in std::mem::take(&mut ledger.awaited) {
            let pack = own.await_blob(&key).await.ok_or_else(|| WorkerError::PackLost(Loss::abandoned()))?;
            ledger.add_pack(&pack);
        }
        let mut stored = Vec::with_capacity(ledger.packs.len());
        for watch in &mut ledger.packs {
            match self.fate_of(watch).await? {
                Fate::Stored(pack) => stored.push(pack),
                Fate::Lost(loss) => return Err(WorkerError::PackLost(loss)),
                Fate::Open => return Err(WorkerError::PackLost(Loss::abandoned())),
            }
        }
        stored.sort_unstable();
        stored.dedup();
        Ok(stored)
    }

    async fn fate_of(&self, watch: &mut PackWatch) -> Result<Fate, WorkerError> {
        let patience = self.clock.sleep(GROUP_COMMIT_AFTER);
        tokio::select! {
            biased;
            fate = settled(watch) => return Ok(fate),
            () = patience => {}
        }
        self.flush().await?;
        Ok(settled(watch).await)
    }
}

async fn settled(watch: &mut PackWatch) -> Fate {
    match watch.wait_for(|fate| *fate != Fate::Open).await {
        Ok(fate) => fate.clone(),
        Err(_) => Fate::Lost(Loss::abandoned()),
    }
}

/// A task is at work with a packer.
pub(crate) struct AtWork {
    packer: Arc<Packer>,
    ended: bool,
}

impl AtWork {
    /// The task adds no more blobs. When no other is at work, nobody will fill the open packs: they are closed.
    pub(crate) async fn end(mut self) -> Result<(), WorkerError> {
        if self.leave() {
            self.packer.flush().await?;
        }
        Ok(())
    }

    fn leave(&mut self) -> bool {
        let mut open = self.packer.lock();
        open.at_work -= usize::from(!self.ended);
        self.ended = true;
        open.at_work == 0
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.leave();
    }
}
