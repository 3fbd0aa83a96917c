//! A check whose packs are read by a fleet (DESIGN 3.10).
//!
//! The coordinator checks structure and trees itself, with bounded memory, and shares the packs out to tasks by their
//! bytes. A task brings with it what the index says of its packs: a worker needs no index.
//!
//! # Crash
//! A check keeps no checkpoints: it is begun anew, as another job.

mod run;
mod state;

use std::sync::Arc;
use std::time::Duration;

use fleet::cpu::Cpu;
use fleet::metrics::JobKind;
use fleet::queue::Route;
use proto::auth::MessageKey;
use proto::handles::BoxFuture;
use proto::id::{Id, JobId};
use proto::job::CheckRequest;
use proto::report::Payload;
use proto::task::{CheckWork, Task, Work};
use repository::locks::LockRequest;
use repository::maintenance::check::{
    CheckOptions, CheckReport, PackRead, ReadData, Structure, Subset, check_structure,
};
use repository::maintenance::executor::{Executor, Resources};
use tokio::sync::watch;
use tracing::Instrument;

use self::run::Runner;
use self::state::{Batch, Tasks};
use crate::Doors;
use crate::error::JobError;
use crate::job::Progress;
use crate::leadership::Leadership;
use crate::metrics::Counted;
use crate::publish::{close_doors, open_doors};
use crate::waiting::{called_off, ended_elsewhere, take_lock, while_locked};

/// Bytes of packs that one task reads, where nobody says.
const TASK_BYTES: u64 = 256 << 20;
/// A task has no more packs than this, however small they are.
const TASK_PACKS_MAX: usize = 1_000;
/// A task has no more blobs than this, or a single pack: what the index says of one takes some 150 bytes on the way to the
/// worker, and as much again on both ends.
const TASK_BLOBS_MAX: u64 = 50_000;
/// Pieces of tree packs that are read at once.
const READS_AT_ONCE: usize = 8;

/// How a coordinator runs checks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The job.
    pub job: JobId,
    /// The workers that shall read.
    pub pool: String,
    /// The lock, which must be exclusive; none with `--no-lock`.
    pub lock: Option<LockRequest>,
    /// How long to wait for a lock that others hold.
    pub retry_lock: Option<Duration>,
    /// How long to wait for a live worker.
    pub wait_workers: Duration,
    /// Of a coordinator that leads several jobs.
    pub leadership: Option<Leadership>,
}

/// Runs a check.
///
/// # Errors
/// Why it ended early. Damage is no error: see [`CheckReport::errors`].
pub async fn run(
    doors: &Doors,
    request: &CheckRequest,
    settings: &Settings,
    progress: &watch::Sender<Progress>,
) -> Result<CheckReport, JobError> {
    let read_data = match &request.subset {
        None => ReadData::All,
        Some(text) => {
            ReadData::Subset(text.parse::<Subset>().map_err(|error| JobError::Failed { reason: error.to_string() })?)
        }
    };
    let check = Check { doors, request, settings, progress };
    let counted = Counted::of(JobKind::Check, &doors.clock);
    let span = tracing::error_span!("job", job = %settings.job);
    let ended = check.run_locked(read_data).instrument(span).await;
    counted.end_check(&ended);
    ended
}

struct Check<'a> {
    doors: &'a Doors,
    request: &'a CheckRequest,
    settings: &'a Settings,
    progress: &'a watch::Sender<Progress>,
}

impl Check<'_> {
    async fn run_locked(&self, read_data: ReadData) -> Result<CheckReport, JobError> {
        let (doors, settings) = (self.doors, self.settings);
        let Some(wanted) = settings.lock.clone() else { return self.run(read_data).await };
        let leadership = settings.leadership.as_ref();
        let lock = take_lock(doors, wanted, settings.retry_lock, &settings.job, leadership).await?;
        let checked = while_locked(&lock, self.run(read_data)).await;
        if let Err(error) = lock.release().await {
            tracing::warn!(%error, "the lock was not removed");
        }
        checked
    }

    async fn run(&self, read_data: ReadData) -> Result<CheckReport, JobError> {
        let (doors, job) = (self.doors, &self.settings.job);
        let route = Route::normal(&self.settings.pool);
        let generation = open_doors(doors, job, &route, self.settings.wait_workers).await?;
        let checked = tokio::select! {
            biased;
            checked = self.check(read_data, route, generation) => checked,
            error = called_off(doors, job, self.settings.leadership.as_ref()) => Err(error),
            error = ended_elsewhere(doors, job), if self.settings.leadership.is_some() => Err(error),
        };
        // A fleet's job is closed once it has its result: until then the request to cancel it is somebody's wish.
        if self.settings.leadership.is_none() {
            close_doors(doors, job).await;
        }
        checked
    }

    async fn check(&self, read_data: ReadData, route: Route, generation: u64) -> Result<CheckReport, JobError> {
        let (doors, job) = (self.doors, &self.settings.job);
        let resources = resources(&doors.cpu);
        let options = CheckOptions { read_data, reads_at_once: READS_AT_ONCE };
        let mut structure = check_structure(&doors.repository, &options, &resources, None).await?;
        if let Some(packs) = &self.request.packs {
            structure.retain(|read| packs.contains(&read.pack));
        }
        let bytes_total = structure.reads().iter().map(|read| read.length).sum();
        let tasks = Tasks::new(self.tasks(&structure), doors.clock.monotonic());
        let key = MessageKey::derive(&*doors.repository.master_key().material(), &doors.repository.id());
        let wait_workers = self.settings.wait_workers;
        let mut runner = Runner::new(doors, job, route, key, tasks, generation, wait_workers, bytes_total);
        runner.run(&mut structure, self.progress).await?;
        Ok(structure.report().clone())
    }

    /// The packs, shared out.
    fn tasks(&self, structure: &Structure) -> Vec<(Id, Batch)> {
        let mut first = 0;
        let shares = share_out(structure.reads(), self.request.task_bytes.unwrap_or(TASK_BYTES));
        let task = |(number, reads): (usize, &[PackRead])| {
            let batch = Batch { number: number as u64, first, count: reads.len() };
            first += reads.len();
            // What is read is no part of a task's name.
            let work = CheckWork { number: batch.number, packs: Payload::default() };
            (Task::id_for(&self.settings.job, &Work::Check(work), 0), batch)
        };
        shares.enumerate().map(task).collect()
    }
}

/// Shares packs out, in their order, by their bytes and their blobs.
fn share_out(reads: &[PackRead], task_bytes: u64) -> impl Iterator<Item = &[PackRead]> {
    let mut rest = reads;
    std::iter::from_fn(move || {
        let (mut bytes, mut blobs) = (0, 0);
        let fits = |read: &&PackRead| {
            let is_first = bytes == 0;
            bytes += read.length;
            blobs += u64::from(read.blobs);
            is_first || (bytes <= task_bytes && blobs <= TASK_BLOBS_MAX)
        };
        let count = rest.iter().take(TASK_PACKS_MAX).take_while(fits).count();
        let (task, behind) = rest.split_at(count);
        rest = behind;
        (!task.is_empty()).then_some(task)
    })
}

/// Computes where the coordinator computes.
struct OnCpu(Cpu);

impl Executor for OnCpu {
    fn execute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.0.compute(work).await {
                tracing::error!(%error, "a check cannot compute");
            }
        })
    }
}

fn resources(cpu: &Cpu) -> Resources {
    Resources::new(Arc::new(OnCpu(cpu.clone())), Resources::MEMORY_BYTES_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_shared_out_by_their_bytes_and_blobs() {
        let read = |length: u64| PackRead { pack: Id::of(&length.to_le_bytes()), length, blobs: 1 };
        let reads = [5, 5, 30, 1, 2, 3, 4].map(read);
        let lengths = |task_bytes| {
            let tasks = share_out(&reads, task_bytes);
            tasks.map(|task| task.iter().map(|read| read.length).collect()).collect::<Vec<Vec<u64>>>()
        };
        assert_eq!(lengths(10), [vec![5, 5], vec![30], vec![1, 2, 3, 4]]);
        assert_eq!(lengths(1).len(), 7);
        assert_eq!(lengths(1_000).len(), 1);
        assert_eq!(share_out(&[], 10).count(), 0);
        let full_of = |blobs: u64| PackRead { blobs: u32::try_from(blobs).unwrap(), ..read(1) };
        let crowded = [TASK_BLOBS_MAX - 1, 1, 1, TASK_BLOBS_MAX + 1, 1].map(full_of);
        assert_eq!(share_out(&crowded, 10).map(<[PackRead]>::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
        let many = vec![read(1); TASK_PACKS_MAX + 1];
        assert_eq!(share_out(&many, u64::MAX).map(<[PackRead]>::len).collect::<Vec<_>>(), [TASK_PACKS_MAX, 1]);
    }
}
