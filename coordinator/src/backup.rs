//! A backup job from its submission to its snapshot.
//!
//! The order of the start is DESIGN 3.1's: lock, list the index (the set G), choose the parent, publish the root.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet::queue::Route;
use futures::FutureExt;
use proto::auth::MessageKey;
use proto::facts::Facts;
use proto::handles::{RandomExt, UnixTime};
use proto::id::{Id, JobId, WorkerId};
use proto::job::{BackupRequest, JobOutcome, Request, Submission, TargetNode};
use proto::report::{Counts, Problem};
use repository::blob_index::BlobIndex;
use repository::format::zone::Zone;
use repository::locks::{LockRequest, RepositoryLock};
use repository::repository::FileKind;
use tokio::sync::watch;

use crate::Doors;
use crate::assemble::Assembler;
use crate::collect::Collector;
use crate::commit::Committer;
use crate::error::JobError;
use crate::job::{Progress, Settings as JobSettings, State};
use crate::parent::{self, Parent, ParentTargets};
use crate::perform::{Performer, store_facts};
use crate::record::{JobRecord, StartRecord};
use crate::resume::{Resumed, resume};
use crate::run::Runner;

/// How a coordinator runs backup jobs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lock; it must be shared. For an embedded run host and process as restic has them.
    pub lock: LockRequest,
    /// Everything runs in one process: the record is written with the first checkpoint, and the registry is complete.
    pub embedded: bool,
    /// How long to wait for a lock that others hold.
    pub retry_lock: Option<Duration>,
    /// How long to wait for a live worker.
    pub wait_workers: Duration,
}

/// What a backup brought about.
#[derive(Clone, Debug)]
pub struct BackupDone {
    /// The job that committed; another than the submitted one if the lock was lost meanwhile.
    pub job: JobId,
    /// The snapshot.
    pub snapshot: Id,
    /// Its tree.
    pub tree: Id,
    /// The snapshot that it was compared with.
    pub parent: Option<Id>,
    /// Figures of the accepted reports.
    pub counts: Counts,
    /// Partitions and seams.
    pub progress: Progress,
    /// Packs that were written.
    pub packs: u64,
    /// Index files that were written.
    pub index_files: u64,
    /// What could not be read, and the like.
    pub problems: Vec<Problem>,
    /// When the job began.
    pub started_at: UnixTime,
    /// When it ended.
    pub ended_at: UnixTime,
    /// The unfinished job whose work was used.
    pub resumed: Option<JobId>,
}

/// So often a job that lost its lock goes on as a new one.
const LOCKS_LOST_MAX: u32 = 3;
/// How long to wait before a service that does not answer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Runs a backup. A job whose lock was lost goes on as a new job at once.
///
/// # Errors
/// Why there is no snapshot.
pub async fn run(
    doors: &Doors,
    submission: &Submission,
    settings: &Settings,
    progress: &watch::Sender<Progress>,
) -> Result<BackupDone, JobError> {
    let Request::Backup(request) = &submission.request else {
        return Err(JobError::Failed { reason: "the submission is not a backup".to_owned() });
    };
    doors.repository.check_writable()?;
    let mut submission = submission.clone();
    for lost in 1.. {
        let (job, state) = Job::start(doors, &submission, request, settings).await?;
        let ended = job.run(state, progress).await;
        match ended {
            Err(JobError::LockLost(reason)) if lost < LOCKS_LOST_MAX => {
                let next = new_job_id(doors);
                tracing::warn!(%reason, job = %next, "the repository lock was lost; the backup goes on as a new job");
                submission.job = next;
            }
            ended => return ended,
        }
    }
    Err(JobError::Cancelled)
}

/// A fresh job id: UUIDv7.
pub fn new_job_id(doors: &Doors) -> JobId {
    let now = doors.clock.now();
    let millis = u64::try_from(now.seconds).unwrap_or(0) * 1000 + u64::from(now.nanos / 1_000_000);
    let random: [u8; 10] = doors.repository.random().bytes();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    match JobId::new(id.to_string()) {
        Ok(id) => id,
        Err(_) => unreachable!("a UUID is hex digits and dashes"),
    }
}

/// A job that holds its lock.
struct Job<'a> {
    doors: &'a Doors,
    settings: &'a Settings,
    lock: Arc<RepositoryLock>,
    record: Arc<JobRecord>,
    performer: Arc<Performer>,
    resumed: Option<Resumed>,
}

impl<'a> Job<'a> {
    async fn start(
        doors: &'a Doors,
        submission: &Submission,
        request: &BackupRequest,
        settings: &'a Settings,
    ) -> Result<(Self, State), JobError> {
        let started_at = doors.clock.now();
        let lock = Arc::new(
            RepositoryLock::take(&doors.repository, settings.lock.clone(), doors.clock.clone(), settings.retry_lock)
                .await?,
        );
        // Loading a large index takes long: the lock is kept meanwhile.
        let prepare = Self::prepare(doors, submission, request, settings, lock.clone(), started_at);
        let prepared = tokio::select! {
            biased;
            prepared = prepare.boxed() => prepared,
            lost = lock.keep() => Err(JobError::LockLost(lost)),
        };
        match prepared {
            Ok(prepared) => Ok(prepared),
            Err(error) => {
                let error = error.unless_lost(&lock).await;
                let _ = lock.release().await;
                Err(error)
            }
        }
    }

    async fn prepare(
        doors: &'a Doors,
        submission: &Submission,
        request: &BackupRequest,
        settings: &'a Settings,
        lock: Arc<RepositoryLock>,
        started_at: UnixTime,
    ) -> Result<(Self, State), JobError> {
        let job = submission.job.clone();
        let me = coordinator_id(&job);
        let resumed = resume(doors, &me, &lock, submission, request).await?;
        let listed = doors.repository.list(FileKind::Index).await?;
        let mut index_files: Vec<Id> = listed.into_iter().map(|(id, _)| id).collect();
        index_files.sort_unstable();
        let index = Arc::new(BlobIndex::load(&doors.repository, &index_files, doors.cache.as_deref()).await?);
        let parent = parent::choose(&doors.repository, request, started_at).await?;
        let seen = match &parent {
            Some(parent) => parent::targets(&doors.repository, &index, &parent.tree, &request.targets).await,
            None => ParentTargets::default(),
        };
        let zone = Zone::named(&request.zone).map_err(|error| JobError::internal("the time zone", &error))?;
        let parents = parent.iter().map(|parent| parent.tree).chain(resumed.iter().map(|resumed| resumed.tree));
        let state = State::new(JobSettings {
            job: job.clone(),
            targets: request.targets.clone(),
            budget: request.budget.clone(),
            parents: parents.collect(),
            expected_targets: seen.views,
            parent_has_content: seen.any_content,
            registry_complete: settings.embedded,
            allow_empty: request.allow_empty,
        });
        let start = StartRecord {
            lock: lock.id(),
            index_files: index_files.clone(),
            parent: parent.as_ref().map(|parent| parent.id),
            zone: request.zone.clone(),
        };
        let record = Arc::new(JobRecord::new(doors.repository.clone(), submission.clone(), start));
        if !settings.embedded {
            record.begin().await?;
        }
        let beginning = Beginning { index, index_files, parent, zone, started_at };
        let performer = performer(doors, submission, request, beginning, &lock, &record).await?;
        Ok((Self { doors, settings, lock, record, performer, resumed }, state))
    }

    async fn run(self, state: State, progress: &watch::Sender<Progress>) -> Result<BackupDone, JobError> {
        let done = self.lead(state, progress).await;
        let outcome = match &done {
            Ok(done) => JobOutcome::Done { snapshot: done.snapshot },
            Err(JobError::Cancelled) => JobOutcome::Cancelled,
            Err(error) => JobOutcome::Failed { reason: error.chain() },
        };
        self.close(&outcome).await;
        done
    }

    /// Everything between the doors' opening and the snapshot.
    async fn lead(&self, state: State, progress: &watch::Sender<Progress>) -> Result<BackupDone, JobError> {
        let (doors, job) = (self.doors, self.performer.job.clone());
        let opened = tokio::select! {
            biased;
            opened = self.open_doors().boxed() => opened,
            lost = self.lock.keep() => Err(JobError::LockLost(lost)),
        };
        let generation = opened?;
        let collector = Collector::new(doors.clone(), job.clone(), self.performer.key.clone());
        let performer = self.performer.clone();
        let (wait, embedded) = (self.settings.wait_workers, self.settings.embedded);
        let mut runner = Runner::new(performer, collector, state, progress, generation, wait, embedded);
        let ended = runner.run().await;
        ended.map(|snapshot| BackupDone {
            job: job.clone(),
            snapshot,
            tree: runner.tree().unwrap_or_default(),
            parent: self.performer.committer.parent.as_ref().map(|parent| parent.id),
            counts: runner.counts(),
            progress: runner.state.progress(),
            packs: runner.state.packs_written(),
            index_files: self.performer.committer.index_files(),
            problems: runner.state.problems(),
            started_at: self.performer.committer.started_at,
            ended_at: doors.clock.now(),
            resumed: self.resumed.as_ref().map(|resumed| resumed.old.job.clone()),
        })
    }

    /// Declares the queue and opens the job's state, as long as workers would be waited for; returns the generation.
    async fn open_doors(&self) -> Result<u64, JobError> {
        let (doors, job) = (self.doors, &self.performer.job);
        let wanted: u64 = u64::from_le_bytes(doors.repository.random().bytes());
        let give_up_at = doors.clock.monotonic() + self.settings.wait_workers;
        loop {
            let opened = async {
                doors.queue.declare(&self.performer.route).await?;
                Ok::<u64, JobError>(doors.state.open_job(job, wanted).await?)
            };
            match opened.await {
                Err(error) if error.is_unreachable() && doors.clock.monotonic() < give_up_at => {
                    tracing::warn!(error = error.chain(), "the job waits for its services");
                    doors.clock.sleep(ASK_AGAIN_AFTER).await;
                }
                opened => return opened,
            }
        }
    }

    /// Ends the record, tells the workers, releases the lock. The snapshot, if there is one, is safe already.
    async fn close(&self, outcome: &JobOutcome) {
        let (doors, job) = (self.doors, &self.performer.job);
        let closing = async {
            self.record.end(outcome).await?;
            if matches!(outcome, JobOutcome::Done { .. }) {
                JobRecord::remove_payloads(&doors.repository, job).await?;
                if let Some(resumed) = &self.resumed {
                    JobRecord::close_old(&doors.repository, &resumed.old.job, outcome).await?;
                }
            }
            Ok::<(), JobError>(())
        };
        if let Err(error) = closing.await {
            tracing::warn!(error = error.chain(), "the job's record was not closed");
        }
        if let Err(error) = doors.state.close_job(job).await {
            tracing::debug!(%error, "the job's state was not removed");
        }
        // Tasks of it that are still in the queue are dropped.
        let _ = doors.state.request_cancel(job).await;
        if let Err(error) = self.lock.release().await {
            tracing::warn!(%error, "the lock was not removed");
        }
    }
}

/// What a job found at its start.
struct Beginning {
    index: Arc<BlobIndex>,
    index_files: Vec<Id>,
    parent: Option<Parent>,
    zone: Zone,
    started_at: UnixTime,
}

/// Puts together what performs the effects of a job.
async fn performer(
    doors: &Doors,
    submission: &Submission,
    request: &BackupRequest,
    beginning: Beginning,
    lock: &Arc<RepositoryLock>,
    record: &Arc<JobRecord>,
) -> Result<Arc<Performer>, JobError> {
    let job = submission.job.clone();
    let Beginning { index, index_files, parent, zone, started_at } = beginning;
    let facts = facts_of(request, &zone, &index_files);
    let facts_id = store_facts(doors, &job, &facts).await?;
    let compression = request.compression.parse().map_err(|error| JobError::internal("the compression", &error))?;
    let assembler = Assembler::new(
        job.clone(),
        coordinator_id(&job),
        doors.repository.clone(),
        index,
        doors.objects.clone(),
        doors.repository.sealer(compression),
        doors.cpu.clone(),
        request.pack_size,
    );
    let committer = Committer {
        repository: doors.repository.clone(),
        lock: lock.clone(),
        record: record.clone(),
        clock: doors.clock.clone(),
        request: request.clone(),
        zone,
        parent,
        started_at,
        index_files: AtomicU64::new(0),
    };
    Ok(Arc::new(Performer {
        doors: doors.clone(),
        job,
        route: Route::normal(&submission.pool),
        key: MessageKey::derive(&*doors.repository.master_key().material(), &doors.repository.id()),
        index_files,
        facts: Mutex::new((facts, facts_id)),
        assembler,
        committer,
    }))
}

fn facts_of(request: &BackupRequest, zone: &Zone, index_files: &[Id]) -> Facts {
    let mut targets = Vec::new();
    TargetNode::targets(&request.targets, &mut targets);
    Facts {
        index_files: index_files.to_vec(),
        zone: request.zone.clone(),
        zone_rules: zone.tzif().to_vec(),
        host: None,
        source_options: request.source_options.clone(),
        compression: request.compression.clone(),
        pack_size: request.pack_size,
        with_atime: request.with_atime,
        ignore_ctime: request.ignore_ctime,
        ignore_inode: request.ignore_inode,
        targets: targets.into_iter().map(|(path, source)| (path.clone(), source.clone())).collect(),
        target_views: Vec::new(),
    }
}

/// The coordinator's name in the reports of its own packs.
fn coordinator_id(job: &JobId) -> WorkerId {
    match WorkerId::new(job.as_str()) {
        Ok(id) => id,
        Err(_) => unreachable!("a job id has the shape of a worker id"),
    }
}
