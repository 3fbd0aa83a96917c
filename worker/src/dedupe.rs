//! Which blobs need not be stored: what the index has, what this worker stored, what running jobs stored (DESIGN 3.5).
//!
//! # Invariants
//! - A blob is skipped only if it is in G, in a pack of this worker that the task's report names, or borrowed: then
//!   the report lists it, and the coordinator proves it before anything is committed.
//! - A blob that is being sealed by one task is not sealed by another, which waits for the first one's pack.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::id::Id;
use proto::report::Counts;
use repository::format::pack::BlobType;
use tokio::sync::{Notify, watch};

/// Type and id of a blob.
pub(crate) type BlobKey = (BlobType, Id);

/// A blob that may have to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewBlob {
    pub(crate) id: Id,
    pub(crate) plain: Bytes,
}

/// What becomes of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is being filled or uploaded.
    Open,
    /// It is durable and reported.
    Stored(Id),
    /// It could not be stored.
    Lost(Loss),
}

/// Why a pack could not be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Trying again may help.
    pub transient: bool,
    /// One sentence for people.
    pub reason: Arc<str>,
}

impl Loss {
    /// Whoever had to store the pack, or a blob of it, is gone.
    pub(crate) fn abandoned() -> Self {
        Self { transient: true, reason: "who was to store it is gone".into() }
    }
}

/// Tells the fate of one pack. Clones watch the same pack.
pub(crate) type PackWatch = watch::Receiver<Fate>;

/// What one task's result refers to.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Packs that hold blobs of this task.
    pub(crate) packs: Vec<PackWatch>,
    /// Blobs that another task of this worker was sealing.
    pub(crate) awaited: BTreeSet<BlobKey>,
    /// Blobs that are neither in G nor in these packs.
    pub(crate) borrowed: BTreeSet<BlobKey>,
    pub(crate) counts: Counts,
}

impl Ledger {
    pub(crate) fn add_pack(&mut self, pack: &PackWatch) {
        if !self.packs.iter().any(|known| known.same_channel(pack)) {
            self.packs.push(pack.clone());
        }
    }
}

/// Blobs that this worker stored, or is about to, in one job.
#[derive(Debug, Default)]
pub(crate) struct OwnBlobs {
    slots: Mutex<HashMap<BlobKey, Slot>>,
    /// Told whenever a blob leaves the hands of who sealed it.
    settled: Notify,
}

#[derive(Clone, Debug)]
enum Slot {
    Sealing,
    In(PackWatch),
}

/// Whose turn it is to store a blob.
pub(crate) enum Claim {
    /// The caller's; it must [`Reservation::keep`] it.
    Mine(Reservation),
    /// It is in this pack.
    In(PackWatch),
    /// Another task is sealing it.
    Awaited,
}

impl OwnBlobs {
    fn lock(&self) -> MutexGuard<'_, HashMap<BlobKey, Slot>> {
        // Nothing panics while it is held; a poisoned lock holds a whole map.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob is here in any way.
    pub(crate) fn has(&self, key: &BlobKey) -> bool {
        self.lock().contains_key(key)
    }

    /// Claims the blob.
    pub(crate) fn claim(self: &Arc<Self>, key: BlobKey) -> Claim {
        let mut slots = self.lock();
        match slots.get(&key) {
            Some(Slot::Sealing) => Claim::Awaited,
            // A pack that was lost holds nothing: the blob is stored anew.
            Some(Slot::In(pack)) if *pack.borrow() == Fate::Open && pack.has_changed().is_ok() => {
                Claim::In(pack.clone())
            }
            Some(Slot::In(pack)) if matches!(*pack.borrow(), Fate::Stored(_)) => Claim::In(pack.clone()),
            _ => {
                slots.insert(key, Slot::Sealing);
                Claim::Mine(Reservation { owner: self.clone(), key, kept: false })
            }
        }
    }

    /// A pack that was stored is not there any more: nor are its blobs.
    pub(crate) fn forget(&self, lost: Id) {
        let is_lost = |slot: &Slot| matches!(slot, Slot::In(pack) if *pack.borrow() == Fate::Stored(lost));
        self.lock().retain(|_, slot| !is_lost(slot));
    }

    /// The pack of a blob that another task was sealing; `None` if that came to nothing.
    pub(crate) async fn await_blob(&self, key: &BlobKey) -> Option<PackWatch> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            match self.lock().get(key) {
                Some(Slot::In(pack)) => return Some(pack.clone()),
                Some(Slot::Sealing) => {}
                None => return None,
            }
            settled.await;
        }
    }
}

/// The right to store one blob. Dropping it gives the right up.
pub(crate) struct Reservation {
    owner: Arc<OwnBlobs>,
    key: BlobKey,
    kept: bool,
}

impl Reservation {
    /// The blob is in `pack` now.
    pub(crate) fn keep(mut self, pack: PackWatch) {
        self.kept = true;
        self.owner.lock().insert(self.key, Slot::In(pack));
        self.owner.settled.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            self.owner.lock().remove(&self.key);
            self.owner.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BlobKey {
        (BlobType::Data, Id::of(b"blob"))
    }

    #[tokio::test]
    async fn one_task_seals_and_the_other_waits() {
        let own = Arc::new(OwnBlobs::default());
        let Claim::Mine(reservation) = own.claim(key()) else { panic!("it is free") };
        assert!(matches!(own.claim(key()), Claim::Awaited));
        let (fate, pack) = watch::channel(Fate::Open);
        let waiting = own.clone();
        let waiter = tokio::spawn(async move { waiting.await_blob(&key()).await });
        reservation.keep(pack);
        assert!(waiter.await.unwrap().is_some());
        assert!(matches!(own.claim(key()), Claim::In(_)));
        fate.send(Fate::Lost(Loss::abandoned())).unwrap();
        assert!(matches!(own.claim(key()), Claim::Mine(_)), "a lost pack holds nothing");
    }

    #[tokio::test]
    async fn a_stored_pack_counts_after_its_writer_is_gone() {
        let own = Arc::new(OwnBlobs::default());
        let Claim::Mine(reservation) = own.claim(key()) else { panic!("it is free") };
        let (fate, pack) = watch::channel(Fate::Open);
        reservation.keep(pack);
        fate.send(Fate::Stored(Id::of(b"pack"))).unwrap();
        drop(fate);
        assert!(matches!(own.claim(key()), Claim::In(_)));
    }

    #[tokio::test]
    async fn the_blobs_of_a_forgotten_pack_are_stored_anew() {
        let own = Arc::new(OwnBlobs::default());
        let Claim::Mine(reservation) = own.claim(key()) else { panic!("it is free") };
        let (_fate, pack) = watch::channel(Fate::Stored(Id::of(b"pack")));
        reservation.keep(pack);
        own.forget(Id::of(b"other"));
        assert!(own.has(&key()));
        own.forget(Id::of(b"pack"));
        assert!(matches!(own.claim(key()), Claim::Mine(_)));
    }

    #[tokio::test]
    async fn a_dropped_reservation_frees_the_blob() {
        let own = Arc::new(OwnBlobs::default());
        drop(own.claim(key()));
        assert!(!own.has(&key()));
        assert!(matches!(own.claim(key()), Claim::Mine(_)));
    }
}
