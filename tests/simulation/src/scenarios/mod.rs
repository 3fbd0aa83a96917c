//! Ways to lose data, planted one by one (DESIGN 9).
//!
//! | plant | where |
//! |---|---|
//! | borrowed list dropped at takeover | `takeover`: `what_an_unsettled_report_borrows_is_not_forgotten` |
//! | a job cancelled between upload and index while another borrows | `borrowing`: `who_lends_is_cancelled`, `who_lends_is_killed` |
//! | prune between two jobs with a warm cache | `pruning`: `a_warm_cache_outlives_a_prune` |
//! | lock removed, prune, resume | `pruning`: `a_job_goes_on_after_lock_and_packs_are_gone`, `a_cancelled_job_is_resumed_after_a_prune` |
//! | a worker's root unmounted | `views`: `an_unmounted_root_is_left_to_the_other_worker`, `a_root_that_nobody_has_gives_no_snapshot` |
//! | two file systems with equal inodes | `views`: `two_file_systems_with_equal_inodes_stay_two` |
//! | rename-replace and in-place change between ranges | `ranges` |
//! | a split task delivered twice with a file added | `messages`: `every_task_comes_twice_and_a_file_is_added` |
//! | a planted report and a planted pack entry | `messages`: `reports_of_strangers_count_for_nothing`, `a_pack_that_is_not_what_is_reported_counts_for_nothing` |
//! | a duplicate prepare after ranges | `daemon::repeated_restores`: `tasks_of_a_stage_that_is_over_change_nothing` |
//! | coordinator stopped before a put, commit by another, prune, then woken | `takeover`: `stopped_before_*` |
//! | FLUSHALL, then takeover | `takeover`: `the_job_state_is_lost_before_the_takeover` |
//! | FLUSHALL in mid-job | `messages`: `the_job_state_is_lost_in_mid_job` |
//! | one message silently dropped | `messages`: `a_message_that_is_dropped_is_missed` |
//! | a worker killed between known blobs and report | `borrowing`: `a_worker_dies_between_known_blobs_and_report` |

use std::sync::Arc;
use std::time::Duration;

use coordinator::abandoned::{Abandoned, Watch};
use coordinator::backup::BackupDone;
use coordinator::error::JobError;
use proto::handles::Clock;
use proto::job::{BackupRequest, Budget};
use proto::names::{Record, job_record, stored};
use sources::generated::{Content, GeneratedTree};

use crate::data::{ROOT, boundless, request};
use crate::dice::Dice;
use crate::faults::Rates;
use crate::heirs::Outcome;
use crate::janitor::Pruned;
use crate::oracle::{Audit, difference};
use crate::panics::Panics;
use crate::reference::Reference;
use crate::site::{Hired, Manner, Site, Started};

mod borrowing;
mod daemon;
mod figures;
mod messages;
mod pruning;
mod ranges;
mod resume;
mod takeover;
mod views;

/// Longer, in simulated time, nothing takes here.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// A fleet of one worker, and a small data set.
struct Stage {
    site: Site,
    worker: Hired,
    request: BackupRequest,
    _calm: Calm,
}

/// As long as it stands nothing may panic, in whichever process of the fleet.
struct Calm(Panics);

impl Drop for Calm {
    fn drop(&mut self) {
        // A test that failed says why.
        if !std::thread::panicking() {
            assert_eq!(self.0.first(), None);
        }
    }
}

impl Stage {
    async fn set(rates: Rates, budget: Budget) -> Self {
        Self::over(small_tree(), rates, budget).await
    }

    async fn over(tree: Arc<GeneratedTree>, rates: Rates, budget: Budget) -> Self {
        let calm = Calm(Panics::watch());
        let manner = Manner { embedded: false, rates, is_printed: false };
        let site = Site::new(&Dice::new(7), tree, manner).await;
        site.renew_fleet().await;
        let worker = site.hire("host", &[ROOT], 2, 0, None).await;
        Self { site, worker, request: request("client", budget, 64 << 10), _calm: calm }
    }

    async fn calm() -> Self {
        Self::set(Rates::default(), boundless()).await
    }

    /// Another worker of the fleet.
    async fn hire(&self, host: &str) -> Hired {
        self.site.hire(host, &[ROOT], 2, 0, None).await
    }

    /// Waits until so many packs are stored.
    async fn until_packs(&self, count: usize) {
        self.until("packs are there", || self.packs() >= count).await;
    }

    /// A backup from submission to snapshot.
    async fn back_up(&self) -> BackupDone {
        done(self.end(self.submit().await).await)
    }

    async fn submit(&self) -> Started {
        self.site.submit("client", &self.request).await
    }

    async fn sleep(&self, seconds: u64) {
        self.site.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// How many packs are stored.
    fn packs(&self) -> usize {
        self.site.memory.content().keys().filter(|name| name.starts_with("data/")).count()
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = self.site.clock.monotonic();
        while !holds() {
            assert!(self.site.clock.monotonic() - start < PATIENCE, "never: {what}");
            self.site.clock.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the storage has an object in the record of the job that begins like this.
    async fn until_recorded(&self, started: &Started, record: &str) {
        let prefix = stored(&format!("jobs/{}/{record}", started.job));
        self.until(record, || self.site.memory.content().keys().any(|name| name.starts_with(&prefix))).await;
    }

    /// Waits until a job is abandoned for good.
    async fn abandoned(&self) -> Abandoned {
        let doors = self.site.coordinator_doors(&self.site.actor("watch")).await;
        let mut watch = Watch::default();
        let start = self.site.clock.monotonic();
        loop {
            assert!(self.site.clock.monotonic() - start < PATIENCE, "no job is abandoned");
            self.sleep(5).await;
            if let Some(abandoned) = watch.look(&doors).await.unwrap_or_default().pop() {
                return abandoned;
            }
        }
    }

    async fn end(&self, started: Started) -> Outcome {
        let limit = self.site.clock.sleep(PATIENCE);
        tokio::select! {
            biased;
            ended = started.ended => ended.unwrap(),
            () = limit => panic!("job {} does not end", started.job),
        }
    }

    /// Another coordinator takes the abandoned job over, and brings it to a snapshot.
    async fn taken_over(&self) -> BackupDone {
        let abandoned = self.abandoned().await;
        let heir = self.site.take_over("heir", &abandoned).await;
        done(self.end(heir).await)
    }

    /// The snapshot is what a run without faults comes to.
    async fn assert_as_without_faults(&self, done: &BackupDone) {
        let reference = Reference::of(&self.site).await.unwrap();
        let mut audit = Audit::of(&self.site).await.unwrap();
        let flat = audit.flatten(&done.snapshot).await.unwrap();
        assert_eq!(difference(&flat, &reference.flat), None);
        assert_eq!(done.tree, reference.tree);
        let files = |counts: &proto::report::Counts| counts.files_new + counts.files_changed + counts.files_unmodified;
        let dirs = |counts: &proto::report::Counts| counts.dirs_new + counts.dirs_changed + counts.dirs_unmodified;
        assert_eq!(files(&done.counts), files(&reference.counts));
        assert_eq!(dirs(&done.counts), dirs(&reference.counts));
    }

    /// Somebody forgets every snapshot, and prunes. Returns how many packs that removed.
    async fn forget_and_prune(&self) -> usize {
        self.site.forget_all();
        match self.site.prune().await {
            Pruned::Removed(packs) => packs,
            Pruned::Refused => panic!("the prune was refused"),
        }
    }

    /// Nothing in the repository names what is not there, and no lock is left.
    async fn assert_undamaged(&self) -> Audit {
        self.site.witness.judge(false).unwrap();
        let mut audit = Audit::of(&self.site).await.unwrap();
        let snapshots: Vec<_> = audit.snapshots.keys().copied().collect();
        for snapshot in snapshots {
            audit.flatten(&snapshot).await.unwrap();
        }
        assert_eq!(audit.locks().await, []);
        audit
    }
}

/// Twelve small files in four directories.
fn small_tree() -> Arc<GeneratedTree> {
    let tree = Arc::new(GeneratedTree::new());
    (0..4).for_each(|dir| tree.directory(&format!("{ROOT}/dir{dir}")));
    small_files().for_each(|(path, content)| tree.file(&path, content));
    tree
}

/// The files of the small tree.
fn small_files() -> impl Iterator<Item = (String, Content)> {
    (0..4).flat_map(|dir| {
        (0..3).map(move |file| {
            (format!("{ROOT}/dir{dir}/file{file}"), Content::seeded(dir * 10 + file, 500 + file * 900))
        })
    })
}

/// All of a content.
fn bytes(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; content.bytes() as usize];
    content.read_at(0, &mut bytes);
    bytes
}

/// As small tasks as there can be.
fn crumbs() -> Budget {
    Budget { changed_entries: 1, entries: 2, bytes: 500, ..boundless() }
}

#[track_caller]
fn done(outcome: Outcome) -> BackupDone {
    match outcome {
        Some(Ok(done)) => done,
        Some(Err(error)) => panic!("the job failed: {}", error.chain()),
        None => panic!("its coordinator was killed"),
    }
}

#[track_caller]
fn assert_fenced(outcome: &Outcome) {
    assert!(matches!(outcome, Some(Err(JobError::Fenced { .. }))), "{outcome:?}");
}
