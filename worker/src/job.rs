//! What a worker keeps of a job while it does its tasks: facts, index, own blobs, packer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use fleet::objects::Objects;
use fleet::queue::TaskQueue;
use fleet::state::JobState;
use futures::future::try_join_all;
use proto::auth::MessageKey;
use proto::facts::{Facts, HostFacts};
use proto::handles::Clock;
use proto::id::{Id, JobId, WorkerId};
use repository::blob_index::BlobIndex;
use repository::chunker::Chunker;
use repository::format::node::Node;
use repository::format::pack::BlobType;
use repository::format::zone::Zone;
use repository::repository::{FileKind, Repository};
use repository::seal::{SealedBlob, Sealer};
use repository::storage::StorageErrorKind;
use sources::files::exclude::{ExcludeRules, Excludes};
use sources::paths;
use sources::source::Source;
use tokio::sync::Mutex;

use crate::dedupe::{BlobKey, Claim, Ledger, Loss, NewBlob, OwnBlobs, Reservation};
use crate::error::WorkerError;
use crate::meter::Meter;
use crate::pack::Packer;
use crate::parent::{Comparison, ParentDir};
use crate::report::Reporter;
use crate::upload::Uploader;
use fleet::cpu::Cpu;

/// Plain bytes that are sealed in one go on one thread.
const SEALED_AT_ONCE_BYTES: usize = 1 << 20;

/// What a worker works with. Cheap to clone.
#[derive(Clone)]
pub struct Doors {
    /// Where tasks come from.
    pub queue: Arc<dyn TaskQueue>,
    /// Where reports go to.
    pub state: Arc<dyn JobState>,
    /// Where long payloads are.
    pub objects: Arc<dyn Objects>,
    /// What is backed up.
    pub source: Arc<dyn Source>,
    /// Where it is stored.
    pub repository: Repository,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Threads.
    pub cpu: Cpu,
    /// Where indexes are kept between jobs; nowhere without it.
    pub cache: Option<PathBuf>,
}

/// The jobs that a worker has tasks of.
pub(crate) struct Jobs {
    doors: Doors,
    worker: WorkerId,
    meter: Arc<Meter>,
    open: Mutex<BTreeMap<JobId, OpenJob>>,
}

struct OpenJob {
    index: Arc<BlobIndex>,
    index_files: Vec<Id>,
    own: Arc<OwnBlobs>,
    packer: Arc<Packer>,
    context: (Id, Arc<JobContext>),
}

/// Jobs that are kept; the one that was used least recently is forgotten.
const JOBS_KEPT: usize = 4;

impl Jobs {
    pub(crate) fn new(doors: Doors, worker: WorkerId, meter: Arc<Meter>) -> Self {
        Self { doors, worker, meter, open: Mutex::default() }
    }

    /// Everything that tasks of `job` with these facts need.
    pub(crate) async fn context(&self, job: &JobId, facts: &Id) -> Result<Arc<JobContext>, WorkerError> {
        let mut open = self.open.lock().await;
        if let Some(known) = open.get(job)
            && known.context.0 == *facts
        {
            return Ok(known.context.1.clone());
        }
        let bytes = self.doors.objects.get(job, facts).await?;
        let decoded: Facts = serde_json::from_slice(&bytes).map_err(|error| malformed("its facts", &error))?;
        let known = open.remove(job);
        let opened = self.open_job(job, *facts, decoded, known).await?;
        let context = opened.context.1.clone();
        while open.len() >= JOBS_KEPT {
            open.pop_first(); // ids of jobs ascend with time
        }
        open.insert(job.clone(), opened);
        Ok(context)
    }

    async fn open_job(
        &self,
        job: &JobId,
        facts_id: Id,
        facts: Facts,
        known: Option<OpenJob>,
    ) -> Result<OpenJob, WorkerError> {
        let doors = &self.doors;
        let key = MessageKey::derive(&*doors.repository.master_key().material(), &doors.repository.id());
        let compression = facts.compression.parse().map_err(|error| malformed("its compression", &error))?;
        let sealer = doors.repository.sealer(compression);
        let (index, own, packer) = match known {
            Some(known) if known.index_files == facts.index_files => (known.index, known.own, known.packer),
            _ => {
                let index = BlobIndex::load(&doors.repository, &facts.index_files, doors.cache.as_deref()).await?;
                let packer = self.packer(job, &facts, &key, sealer.clone());
                (Arc::new(index), Arc::default(), Arc::new(packer))
            }
        };
        let index_files = facts.index_files.clone();
        let context = JobContext::new(self, job, facts, key, sealer, &index, &own, &packer).await?;
        Ok(OpenJob { index, index_files, own, packer, context: (facts_id, Arc::new(context)) })
    }

    fn packer(&self, job: &JobId, facts: &Facts, key: &MessageKey, sealer: Sealer) -> Packer {
        let doors = &self.doors;
        let uploader = Uploader::new(
            doors.repository.storage().clone(),
            doors.state.clone(),
            self.reporter(job, key),
            key.clone(),
            doors.repository.id(),
            self.worker.clone(),
            self.meter.clone(),
        );
        Packer::new(sealer, facts.pack_size, uploader, doors.clock.clone())
    }

    /// Sends the reports of `job`.
    pub(crate) fn reporter(&self, job: &JobId, key: &MessageKey) -> Reporter {
        Reporter {
            job: job.clone(),
            repository: self.doors.repository.id(),
            key: key.clone(),
            state: self.doors.state.clone(),
            objects: self.doors.objects.clone(),
            clock: self.doors.clock.clone(),
        }
    }
}

fn malformed(what: &str, error: &dyn std::error::Error) -> WorkerError {
    WorkerError::Malformed { what: format!("{what}: {error}") }
}

/// Everything that one task needs.
#[derive(Clone)]
pub(crate) struct JobContext {
    pub(crate) job: JobId,
    pub(crate) facts: Facts,
    pub(crate) zone: Zone,
    pub(crate) comparison: Comparison,
    pub(crate) excludes: Arc<Excludes>,
    pub(crate) cpu: Cpu,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) chunker: Chunker,
    pub(crate) packer: Arc<Packer>,
    pub(crate) own: Arc<OwnBlobs>,
    pub(crate) meter: Arc<Meter>,
    repository: Repository,
    index: Arc<BlobIndex>,
    sealer: Sealer,
    state: Arc<dyn JobState>,
    key: MessageKey,
}

impl JobContext {
    #[expect(clippy::too_many_arguments, reason = "the parts are shared with the job's other contexts")]
    async fn new(
        jobs: &Jobs,
        job: &JobId,
        facts: Facts,
        key: MessageKey,
        sealer: Sealer,
        index: &Arc<BlobIndex>,
        own: &Arc<OwnBlobs>,
        packer: &Arc<Packer>,
    ) -> Result<Self, WorkerError> {
        let doors = &jobs.doors;
        let zone = match facts.zone_rules.as_slice() {
            [] => Zone::utc(),
            rules => Zone::from_tzif(&facts.zone, rules).map_err(|error| malformed("its time zone", &error))?,
        };
        let excludes = Arc::new(compile_excludes(doors, &facts).await?);
        Ok(Self {
            job: job.clone(),
            zone,
            comparison: Comparison { ctime: !facts.ignore_ctime && !facts.ignore_inode, inode: !facts.ignore_inode },
            excludes,
            facts,
            cpu: doors.cpu.clone(),
            clock: doors.clock.clone(),
            source: doors.source.clone(),
            objects: doors.objects.clone(),
            chunker: doors.repository.chunker(),
            packer: packer.clone(),
            own: own.clone(),
            meter: jobs.meter.clone(),
            repository: doors.repository.clone(),
            index: index.clone(),
            sealer,
            state: doors.state.clone(),
            key,
        })
    }

    /// The same with other facts of the host.
    pub(crate) fn with_host(&self, host: HostFacts) -> Self {
        Self { facts: Facts { host: Some(host), ..self.facts.clone() }, ..self.clone() }
    }

    /// Opens the parents' trees; one that cannot be had is left out: its files are read.
    pub(crate) async fn open_parents(&self, trees: &[Id]) -> Vec<ParentDir> {
        let mut parents = Vec::with_capacity(trees.len());
        for tree in trees {
            match self.repository.open_tree(&self.index, tree).await {
                Ok(reader) => parents.push(ParentDir::new(reader)),
                Err(error) => tracing::warn!(tree = %tree, %error, "a tree of the parent cannot be read"),
            }
        }
        parents
    }

    /// Whether all content of a parent's file is in G.
    pub(crate) fn has_content(&self, node: &Node) -> bool {
        let content = node.content.as_deref().unwrap_or_default();
        content.iter().all(|id| self.index.contains(BlobType::Data, id))
    }

    /// Looks whether packs of this worker are still in storage: that is doubtful when a result was rejected.
    ///
    /// # Errors
    /// `PackLost` if one is not: its blobs are stored anew when the task is tried again.
    pub(crate) async fn check_own_packs(&self, packs: &[Id]) -> Result<(), WorkerError> {
        let mut lost = false;
        for pack in packs {
            match self.repository.storage().size(&FileKind::Pack.name(pack)).await {
                Ok(_) => {}
                Err(error) if error.kind == StorageErrorKind::NotFound => {
                    tracing::warn!(%pack, "a pack of this worker is not in storage any more");
                    self.own.forget(*pack);
                    lost = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if lost { Err(WorkerError::PackLost(Loss::abandoned())) } else { Ok(()) }
    }

    /// The path that exclude patterns match, for what the source has at `place`.
    pub(crate) fn path_of(&self, place: &[u8]) -> Vec<u8> {
        let nearest = self.facts.targets.iter().filter_map(|(path, at)| {
            let below = paths::below(&at.0, place)?;
            Some((at.0.len(), path, below))
        });
        match nearest.max_by_key(|(length, ..)| *length) {
            Some((_, path, b"")) => path.0.clone(),
            Some((_, path, below)) => paths::child(&path.0, below),
            None => place.to_vec(),
        }
    }

    /// Sees to it that the blobs are in the repository, or will be once the task's packs are stored.
    ///
    /// Returns what the task's result must say of them.
    pub(crate) async fn store(&self, kind: BlobType, blobs: Vec<NewBlob>, borrow: bool) -> Result<Ledger, WorkerError> {
        let mut ledger = Ledger::default();
        let mut claimed = Vec::new();
        let plain: usize = blobs.iter().map(|blob| blob.plain.len()).sum();
        let blobs = self.leave_out_known(kind, blobs, borrow, &mut ledger).await;
        for blob in blobs {
            match self.own.claim((kind, blob.id)) {
                Claim::Mine(reservation) => claimed.push((reservation, blob)),
                Claim::In(pack) => {
                    ledger.counts.bytes_deduplicated += blob.plain.len() as u64;
                    ledger.add_pack(&pack);
                }
                Claim::Awaited => {
                    ledger.counts.bytes_deduplicated += blob.plain.len() as u64;
                    ledger.awaited.insert((kind, blob.id));
                }
            }
        }
        let groups = group_by_size(claimed);
        let stored = try_join_all(groups.into_iter().map(|group| self.seal_and_pack(kind, group))).await?;
        for part in stored {
            ledger.merge(part);
        }
        Meter::add(&self.meter.bytes_cut, if kind == BlobType::Data { plain as u64 } else { 0 });
        Meter::add(&self.meter.bytes_deduplicated, ledger.counts.bytes_deduplicated);
        Meter::add(&self.meter.bytes_sealed, ledger.counts.bytes_packed);
        Ok(ledger)
    }

    /// Drops the blobs that are in G, and those that running jobs are said to have stored.
    async fn leave_out_known(
        &self,
        kind: BlobType,
        mut blobs: Vec<NewBlob>,
        borrow: bool,
        ledger: &mut Ledger,
    ) -> Vec<NewBlob> {
        blobs.retain(|blob| {
            let known = self.index.contains(kind, &blob.id);
            ledger.counts.bytes_deduplicated += if known { blob.plain.len() as u64 } else { 0 };
            !known
        });
        if !borrow {
            return blobs;
        }
        let unknown: Vec<&NewBlob> = blobs.iter().filter(|blob| !self.own.has(&(kind, blob.id))).collect();
        if unknown.is_empty() {
            return blobs;
        }
        let names: Vec<u64> = unknown.iter().map(|blob| self.key.blind(kind == BlobType::Tree, &blob.id)).collect();
        let known = match self.state.known_blobs(&self.repository.id(), &names).await {
            Ok(known) if known.len() == names.len() => known,
            Ok(_) | Err(_) => return blobs, // costs a second upload at most
        };
        let borrowed: Vec<BlobKey> =
            unknown.iter().zip(known).filter(|(_, known)| *known).map(|(blob, _)| (kind, blob.id)).collect();
        blobs.retain(|blob| {
            let lent = borrowed.contains(&(kind, blob.id));
            ledger.counts.bytes_deduplicated += if lent { blob.plain.len() as u64 } else { 0 };
            !lent
        });
        ledger.borrowed.extend(borrowed);
        blobs
    }

    async fn seal_and_pack(&self, kind: BlobType, group: Vec<(Reservation, NewBlob)>) -> Result<Ledger, WorkerError> {
        let sealer = self.sealer.clone();
        let sealed = self
            .cpu
            .compute(move || {
                let seal = |(reservation, blob): (Reservation, NewBlob)| {
                    sealer.seal_known_blob(kind, blob.id, &blob.plain).map(|sealed| (reservation, sealed))
                };
                group.into_iter().map(seal).collect::<Result<Vec<(Reservation, SealedBlob)>, _>>()
            })
            .await??;
        let mut ledger = Ledger::default();
        for (reservation, blob) in sealed {
            let pack = self.packer.add(&blob).await?;
            ledger.add_pack(&pack);
            reservation.keep(pack);
            ledger.counts.bytes_added += u64::from(blob.plain_length);
            ledger.counts.bytes_packed += blob.bytes.len() as u64;
            match kind {
                BlobType::Data => ledger.counts.data_blobs += 1,
                BlobType::Tree => ledger.counts.tree_blobs += 1,
            }
        }
        Ok(ledger)
    }
}

impl Ledger {
    /// Adds what another part of the same task did.
    pub(crate) fn merge(&mut self, other: Self) {
        for pack in &other.packs {
            self.add_pack(pack);
        }
        self.awaited.extend(other.awaited);
        self.borrowed.extend(other.borrowed);
        self.counts.add(&other.counts);
    }
}

fn group_by_size(claimed: Vec<(Reservation, NewBlob)>) -> Vec<Vec<(Reservation, NewBlob)>> {
    let mut groups: Vec<Vec<_>> = Vec::new();
    let mut bytes = usize::MAX;
    for (reservation, blob) in claimed {
        if bytes >= SEALED_AT_ONCE_BYTES {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += blob.plain.len();
        if let Some(group) = groups.last_mut() {
            group.push((reservation, blob));
        }
    }
    groups
}

async fn compile_excludes(doors: &Doors, facts: &Facts) -> Result<Excludes, WorkerError> {
    let rules: ExcludeRules = if facts.source_options.is_null() {
        ExcludeRules::default()
    } else {
        serde_json::from_value(facts.source_options.clone()).map_err(|error| malformed("its excludes", &error))?
    };
    let mut devices = Vec::new();
    if rules.one_file_system {
        for (path, place) in &facts.targets {
            let (source, place) = (doors.source.clone(), place.0.clone());
            if let Ok(metadata) = doors.cpu.read(move || source.metadata(&place)).await? {
                devices.push((path.0.clone(), metadata.device));
            }
        }
    }
    Excludes::compile(&rules, devices).map_err(|error| malformed("its excludes", &error))
}

/// An unshared copy of plain bytes that are to become a blob.
pub(crate) fn new_blob(plain: &[u8]) -> NewBlob {
    NewBlob { id: crate::read::chunk_id(plain), plain: Bytes::copy_from_slice(plain) }
}
