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
use proto::id::{CoordinatorId, Id, JobId, WorkerId};
use proto::job::{BackupRequest, Request, Submission, TargetNode};
use proto::report::{Counts, Problem};
use repository::blob_index::BlobIndex;
use repository::format::zone::Zone;
use repository::locks::{LockRequest, RepositoryLock};
use repository::repository::FileKind;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::Doors;
use crate::assemble::Assembler;
use crate::commit::{Committer, Fence};
use crate::error::{CLOCK_OFF_SECONDS_MAX, JobError};
use crate::heartbeat::{new_coordinator_id, while_leading};
use crate::job::{Progress, Settings as JobSettings, State};
use crate::lead::{Ended, Lead};
use crate::leadership::Leadership;
use crate::parent::{self, ParentTargets};
use crate::perform::{Performer, store_facts};
use crate::record::{JobRecord, StartRecord};
use crate::resume::resume;
use crate::run::Standing;
use crate::waiting::{take_lock, while_locked};

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
    /// Of a coordinator that leads several jobs.
    pub leadership: Option<Leadership>,
}

/// What a backup brought about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// How often workers closed packs that were not full.
    pub group_commits: u64,
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
    let request = backup_request(submission)?;
    doors.repository.check_writable()?;
    check_clock(doors.repository.storage().clock_offset_seconds())?;
    let mut submission = submission.clone();
    for lost in 1.. {
        let next = (lost < LOCKS_LOST_MAX).then(|| submission.successor().job);
        match run_one(doors, &submission, request, settings, next, progress).await? {
            Ended::Done(done) => return Ok(*done),
            Ended::GoesOn { by, reason } => {
                tracing::warn!(%reason, job = %by, "the repository lock was lost; the backup goes on as a new job");
                if let Some(leadership) = &settings.leadership {
                    leadership.note_successor(&submission.job, &by);
                }
                submission = submission.as_job(&by);
            }
        }
    }
    Err(JobError::Cancelled)
}

/// Refuses to start beside a clock that differs too much; a storage without a clock says nothing.
pub(crate) fn check_clock(offset_seconds: Option<i64>) -> Result<(), JobError> {
    match offset_seconds {
        Some(seconds) if seconds.unsigned_abs() > CLOCK_OFF_SECONDS_MAX => Err(JobError::ClockOff { seconds }),
        _ => Ok(()),
    }
}

/// The backup that a submission asks for.
pub(crate) fn backup_request(submission: &Submission) -> Result<&BackupRequest, JobError> {
    match &submission.request {
        Request::Backup(request) => Ok(request),
        Request::Restore(_) | Request::Check(_) => {
            Err(JobError::Failed { reason: "the submission is not a backup".to_owned() })
        }
    }
}

/// Leads one job from its start; `next` is the job that goes on if its lock gets lost.
async fn run_one(
    doors: &Doors,
    submission: &Submission,
    request: &BackupRequest,
    settings: &Settings,
    next: Option<JobId>,
    progress: &watch::Sender<Progress>,
) -> Result<Ended, JobError> {
    let me = new_coordinator_id(doors);
    let work = async {
        let Prepared { lock, performer, state } = start(doors, submission, request, settings, &me).await?;
        let record = performer.committer.record.clone();
        let lead = Lead { doors, job: submission.job.clone(), lock, record, next };
        lead.run(performer, Standing::at_start(state), settings, progress).await
    };
    match settings.embedded {
        true => work.boxed().await, // nobody could take it over
        false => while_leading(doors, settings.leadership.as_ref(), &me, &submission.job, work.boxed()).await,
    }
}

/// A fresh job id: UUIDv7.
pub fn new_job_id(doors: &Doors) -> JobId {
    job_id_at(doors.clock.now(), doors.repository.random().bytes())
}

/// The id of a job that is made at `now`.
pub fn job_id_at(now: UnixTime, random: [u8; 10]) -> JobId {
    let millis = u64::try_from(now.seconds).unwrap_or(0) * 1000 + u64::from(now.nanos / 1_000_000);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    match JobId::new(id.to_string()) {
        Ok(id) => id,
        Err(_) => unreachable!("a UUID is hex digits and dashes"),
    }
}

/// A job that holds its lock and has not begun.
struct Prepared {
    lock: Arc<RepositoryLock>,
    performer: Arc<Performer>,
    state: State,
}

/// The lock that a job wants.
pub(crate) fn lock_request(settings: &Settings, job: &JobId) -> LockRequest {
    LockRequest { job: Some(job.clone()), ..settings.lock.clone() }
}

async fn start(
    doors: &Doors,
    submission: &Submission,
    request: &BackupRequest,
    settings: &Settings,
    me: &CoordinatorId,
) -> Result<Prepared, JobError> {
    let started_at = doors.clock.now();
    let wanted = lock_request(settings, &submission.job);
    let lock = take_lock(doors, wanted, settings.retry_lock, &submission.job, settings.leadership.as_ref()).await?;
    let preparing = prepare(doors, submission, request, settings, me, lock.clone(), started_at);
    let prepared = while_locked(&lock, preparing.boxed()).await;
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
    doors: &Doors,
    submission: &Submission,
    request: &BackupRequest,
    settings: &Settings,
    me: &CoordinatorId,
    lock: Arc<RepositoryLock>,
    started_at: UnixTime,
) -> Result<Prepared, JobError> {
    let job = submission.job.clone();
    let fence = Fence { lock: lock.clone(), record: None, clock: doors.clock.clone() };
    let resumed = resume(doors, &coordinator_id(&job), &fence, submission, request).await?;
    let listed = doors.repository.list(FileKind::Index).await?;
    let mut index_files: Vec<Id> = listed.into_iter().map(|(id, _)| id).collect();
    index_files.sort_unstable();
    let index = Arc::new(BlobIndex::load(&doors.repository, &index_files, doors.cache.as_deref()).await?);
    let parent = parent::choose(&doors.repository, request, started_at).await?;
    let seen = match &parent {
        Some(parent) => parent::targets(&doors.repository, &index, &parent.tree, &request.targets).await,
        None => ParentTargets::default(),
    };
    let parents = parent.iter().map(|parent| parent.tree).chain(resumed.iter().map(|resumed| resumed.tree));
    let start = StartRecord {
        lock: lock.id(),
        index_files,
        settings: JobSettings {
            job,
            targets: request.targets.clone(),
            budget: request.budget.clone(),
            parents: parents.collect(),
            expected_targets: seen.views,
            parent_has_content: seen.any_content,
            registry_complete: settings.embedded,
            one_view: settings.embedded,
            allow_empty: request.allow_empty,
        },
        parent,
        zone: request.zone.clone(),
        started_at,
        resumed: resumed.map(|resumed| resumed.old.job),
        embedded: settings.embedded,
    };
    let state = State::new(start.settings.clone());
    let record = JobRecord::new(doors.repository.clone(), submission.clone(), start, me.clone());
    if !settings.embedded {
        record.begin().await?;
    }
    let performer = Arc::new(performer(doors, submission, request, index, &lock, Arc::new(record), None).await?);
    Ok(Prepared { lock, performer, state })
}

/// Puts together what performs the effects of a job; `facts` are those in force, if it began before.
pub(crate) async fn performer(
    doors: &Doors,
    submission: &Submission,
    request: &BackupRequest,
    index: Arc<BlobIndex>,
    lock: &Arc<RepositoryLock>,
    record: Arc<JobRecord>,
    facts: Option<(Facts, Id)>,
) -> Result<Performer, JobError> {
    let job = submission.job.clone();
    let index_files = record.start().index_files.clone();
    let committer = committer(doors, request, lock, record)?;
    let facts = match facts {
        Some(facts) => facts,
        None => {
            let facts = facts_of(request, &committer.zone, &index_files);
            let id = store_facts(doors, &job, &facts).await?;
            (facts, id)
        }
    };
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
    Ok(Performer {
        doors: doors.clone(),
        job,
        route: Route::normal(&submission.pool),
        key: MessageKey::derive(&*doors.repository.master_key().material(), &doors.repository.id()),
        index_files,
        facts: Mutex::new(facts),
        assembler,
        committer,
    })
}

/// What puts the index files and the snapshot of a job.
pub(crate) fn committer(
    doors: &Doors,
    request: &BackupRequest,
    lock: &Arc<RepositoryLock>,
    record: Arc<JobRecord>,
) -> Result<Committer, JobError> {
    let start = record.start();
    let zone = Zone::named(&start.zone).map_err(|error| JobError::internal("the time zone", &error))?;
    Ok(Committer {
        repository: doors.repository.clone(),
        fence: Fence { lock: lock.clone(), record: Some(record.clone()), clock: doors.clock.clone() },
        clock: doors.clock.clone(),
        request: request.clone(),
        zone,
        parent: start.parent.clone(),
        started_at: start.started_at,
        index_files: AtomicU64::new(0),
        record,
    })
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

#[cfg(test)]
mod tests {
    use super::check_clock;
    use crate::error::JobError;

    #[test]
    fn a_clock_may_be_two_minutes_off() {
        for offset in [None, Some(0), Some(120), Some(-120)] {
            assert!(check_clock(offset).is_ok(), "{offset:?}");
        }
        for offset in [121, -121, i64::MAX, i64::MIN + 1] {
            let error = check_clock(Some(offset)).unwrap_err();
            assert!(matches!(error, JobError::ClockOff { seconds } if seconds == offset), "{error}");
        }
    }
}
