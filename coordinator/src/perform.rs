//! Performs the effects of a job; each is answered by what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fleet::objects::ObjectsExt;
use fleet::queue::Route;
use proto::auth::MessageKey;
use proto::facts::{Facts, HostFacts};
use proto::id::{Id, JobId, Round, WorkerId};
use proto::name::RawName;
use proto::report::{PackReport, Payload, Report, ResultReport, RootView};
use proto::task::{Task, View, Work};
use repository::blob_index::BlobIndex;
use repository::format::index::{IndexedPack, encode_index};
use repository::format::pack::{BlobType, PackEntry};
use repository::repository::{FileKind, RepositoryError};

use crate::Doors;
use crate::assemble::{Assembler, Figures, Stored};
use crate::commit::Committer;
use crate::error::JobError;
use crate::job::{BlobKey, Effect, Event};
use crate::publish::Publisher;
use crate::session::{key_of, read_header};

/// What an effect brought about.
pub(crate) enum Happened {
    /// Events for the job, in this order.
    Events(Vec<Event>),
    /// Trees were stored: what that counts, and events in this order.
    Stored { figures: Figures, events: Vec<Event> },
    /// A pack's header was read.
    PackRead { pack: Id, entries: Vec<PackEntry> },
    /// A list of borrowed blobs was read.
    BorrowedRead { report: u64, blobs: Vec<BlobKey> },
}

/// What one job's effects need.
pub(crate) struct Performer {
    pub(crate) doors: Doors,
    pub(crate) job: JobId,
    pub(crate) route: Route,
    pub(crate) key: MessageKey,
    /// What was indexed when the job began, ascending.
    pub(crate) index_files: Vec<Id>,
    pub(crate) facts: Mutex<(Facts, Id)>,
    pub(crate) assembler: Assembler,
    pub(crate) committer: Committer,
}

impl Performer {
    /// Performs an effect. `packs` are those that a `WriteIndex` names.
    ///
    /// # Errors
    /// What ends the job.
    pub(crate) async fn perform(
        self: Arc<Self>,
        effect: Effect,
        packs: Vec<IndexedPack>,
    ) -> Result<Happened, JobError> {
        match effect {
            Effect::Publish { task, round, work, refused_by } => {
                self.publish(task, round, work, refused_by).await?;
                one(Event::Published { task })
            }
            Effect::ConfirmPack(report) => self.confirm(report).await,
            Effect::FindPack(pack) => self.find_pack(pack).await,
            Effect::LoadReport(payload) => {
                let report = decode_long_report(&self.load(&payload).await?)?;
                one(Event::ReportLoaded(report))
            }
            Effect::CheckBorrowed { report, blobs } => {
                let blobs = decode_borrowed(&self.load(&blobs).await?)?;
                Ok(Happened::BorrowedRead { report, blobs })
            }
            Effect::ListIndex { wanted } => self.list_index(wanted).await,
            Effect::ReadNames { dir, fragment } => {
                let names = self.assembler.names(&fragment).await?;
                one(Event::NamesRead { dir, first: fragment.first, names })
            }
            Effect::AdoptHost { host, targets } => self.adopt_host(&host, targets).await,
            Effect::SetDevices { devices, mounted, unmounted } => self.set_devices(devices, &mounted, &unmounted).await,
            Effect::AssembleDir { dir, node, parents, fragments } => {
                let stored = self.assembler.assemble_dir(&node, &parents, &fragments).await?;
                Ok(of_stored(stored, |node| Event::DirAssembled { dir, node }))
            }
            Effect::AssembleRoot { fragments } => {
                let stored = self.assembler.assemble_root(&fragments).await?;
                Ok(of_stored(stored, |tree| Event::RootAssembled { tree }))
            }
            Effect::StitchFile { file, node, size, done, ranges } => {
                let outcome = Box::new(self.assembler.stitch_file(&node, size, done, &ranges).await?);
                one(Event::FileStitched { file, outcome })
            }
            Effect::FlushPacks => Ok(Happened::Events(reported(self.assembler.flush().await?, Event::PacksFlushed))),
            Effect::WriteIndex { packs: ids } => {
                self.write_index(&packs).await?;
                one(Event::IndexWritten { packs: ids })
            }
            Effect::Fail { reason } => Err(JobError::Failed { reason }),
            // The run commits itself.
            Effect::Commit { .. } | Effect::Cancel => Err(JobError::Cancelled),
        }
    }

    async fn load(&self, payload: &Payload) -> Result<Bytes, JobError> {
        Ok(self.doors.objects.load(&self.job, payload).await?)
    }

    /// The facts in force, and their id.
    pub(crate) fn facts(&self) -> (Facts, Id) {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn publish(&self, id: Id, round: Round, work: Work, refused_by: Vec<WorkerId>) -> Result<(), JobError> {
        let facts = self.facts().1;
        let task = Task { id, job: self.job.clone(), round, stage: 0, facts, refused_by, work };
        Publisher::new(&self.doors, &self.job, self.route.clone(), self.key.clone()).publish(task).await
    }

    async fn confirm(&self, report: PackReport) -> Result<Happened, JobError> {
        let PackReport { pack, size, header_bytes, .. } = report;
        match self.doors.repository.read_pack_header(&pack, size, header_bytes).await {
            Ok(entries) => Ok(Happened::PackRead { pack, entries }),
            Err(RepositoryError::NotAsReported { .. }) => one(Event::PackMissing { pack }),
            Err(error) => Err(error.into()),
        }
    }

    /// Uploads what the assembler holds: finished directories of the checkpoint name these trees.
    pub(crate) async fn flush_own_packs(&self) -> Result<Vec<IndexedPack>, JobError> {
        let mut packs = Vec::new();
        for PackReport { pack, size, header_bytes, .. } in self.assembler.flush().await? {
            let blobs = self.doors.repository.read_pack_header(&pack, size, header_bytes).await?;
            packs.push(IndexedPack { id: pack, blobs });
        }
        Ok(packs)
    }

    async fn find_pack(&self, pack: Id) -> Result<Happened, JobError> {
        match read_header(&self.doors.repository, &pack).await? {
            Some(entries) => Ok(Happened::PackRead { pack, entries }),
            None => one(Event::PackMissing { pack }),
        }
    }

    /// Lists the index once more: which of the wanted blobs are in files that were not there at the start?
    async fn list_index(&self, wanted: Vec<BlobKey>) -> Result<Happened, JobError> {
        let repository = &self.doors.repository;
        let listed = repository.list(FileKind::Index).await?;
        let new = listed
            .into_iter()
            .map(|(id, _)| id)
            .filter(|id| self.index_files.binary_search(id).is_err())
            .collect::<Vec<_>>();
        let index = BlobIndex::load(repository, &new, None).await?;
        let kind = |blob: &BlobKey| if blob.tree { BlobType::Tree } else { BlobType::Data };
        let found = wanted.into_iter().filter(|blob| index.contains(kind(blob), &blob.id)).collect();
        one(Event::IndexListed { found })
    }

    /// Writes an index file; none for no packs: a coordinator before this one may have written theirs.
    pub(crate) async fn write_index(&self, packs: &[IndexedPack]) -> Result<(), JobError> {
        if packs.is_empty() {
            return Ok(());
        }
        let (repository, json) = (self.doors.repository.clone(), encode_index(packs));
        let (id, bytes) = self.doors.cpu.compute(move || repository.seal_file_bytes(&json)).await??;
        self.committer.put_index(&id, &bytes).await
    }

    async fn adopt_host(&self, host: &Payload, targets: Vec<(RawName, View)>) -> Result<Happened, JobError> {
        let bytes = self.load(host).await?;
        let host = RootView::decode_host(&bytes).map_err(|error| JobError::internal("host facts", &error))?;
        let devices = host.devices.clone();
        let (facts, _) = self.facts();
        self.put_facts(Facts { host: Some(host), target_views: targets, ..facts }).await?;
        one(Event::FactsReady { devices })
    }

    async fn set_devices(
        &self,
        devices: BTreeMap<RawName, u64>,
        mounted: &BTreeSet<RawName>,
        unmounted: &BTreeSet<RawName>,
    ) -> Result<Happened, JobError> {
        let (facts, _) = self.facts();
        let host = facts.host.clone().unwrap_or_default();
        let mounts = host.mounts.union(mounted).filter(|mount| !unmounted.contains(*mount)).cloned().collect();
        self.put_facts(Facts {
            host: Some(HostFacts { devices: devices.clone(), mounts, unmounted: unmounted.clone(), ..host }),
            ..facts
        })
        .await?;
        one(Event::FactsReady { devices })
    }

    async fn put_facts(&self, facts: Facts) -> Result<(), JobError> {
        let id = store_facts(&self.doors, &self.job, &facts).await?;
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = (facts, id);
        Ok(())
    }
}

/// Stores facts; returns the id by which tasks name them.
pub(crate) async fn store_facts(doors: &Doors, job: &JobId, facts: &Facts) -> Result<Id, JobError> {
    let json = serde_json::to_vec(facts).map_err(|error| JobError::internal("the job's facts", &error))?;
    Ok(doors.objects.put(job, json.into()).await?)
}

fn one(event: Event) -> Result<Happened, JobError> {
    Ok(Happened::Events(vec![event]))
}

fn of_stored<T>(stored: Stored<T>, event: impl FnOnce(T) -> Event) -> Happened {
    let Stored { what, packs, figures } = stored;
    Happened::Stored { figures, events: reported(packs, event(what)) }
}

fn reported(packs: Vec<PackReport>, last: Event) -> Vec<Event> {
    packs.into_iter().map(Event::PackReported).chain([last]).collect()
}

/// Decodes the object that a report was too long for.
pub(crate) fn decode_long_report(bytes: &[u8]) -> Result<Box<ResultReport>, JobError> {
    match rmp_serde::from_slice(bytes) {
        Ok(Report::Result(report)) => Ok(report),
        Ok(_) => Err(JobError::Failed { reason: "a long report is not that of a result".to_owned() }),
        Err(error) => Err(JobError::internal("a long report", &error)),
    }
}

fn decode_borrowed(bytes: &[u8]) -> Result<Vec<BlobKey>, JobError> {
    let (records, rest) = bytes.as_chunks::<33>();
    if !rest.is_empty() {
        return Err(JobError::Failed { reason: "a report borrows blobs that cannot be decoded".to_owned() });
    }
    let decode = |record: &[u8; 33]| {
        let mut id = [0; 32];
        id.copy_from_slice(&record[1..]);
        BlobKey { tree: record[0] == 1, id: Id::from_bytes(id) }
    };
    Ok(records.iter().map(decode).collect())
}

/// The blobs of a pack, as the job's decisions know them.
pub(crate) fn blobs_of(entries: &[PackEntry]) -> Vec<BlobKey> {
    entries.iter().map(key_of).collect()
}
