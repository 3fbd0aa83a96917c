//! Ways to lose data, planted one by one (DESIGN 9).

use std::sync::Arc;
use std::time::Duration;

use coordinator::abandoned::{Abandoned, Watch};
use coordinator::backup::BackupDone;
use coordinator::error::JobError;
use proto::handles::Clock;
use proto::job::{BackupRequest, Budget};
use proto::names::stored;
use sources::generated::{Content, GeneratedTree};

use crate::data::{ROOT, boundless, request};
use crate::dice::Dice;
use crate::faults::Rates;
use crate::heirs::Outcome;
use crate::janitor::Pruned;
use crate::oracle::{Audit, difference};
use crate::reference::Reference;
use crate::site::{Hired, Manner, Site, Started};

mod takeover;

/// Longer, in simulated time, nothing takes here.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// A fleet of one worker, and a small data set.
struct Stage {
    site: Site,
    worker: Hired,
    request: BackupRequest,
}

impl Stage {
    async fn set(rates: Rates, budget: Budget) -> Self {
        let tree = Arc::new(GeneratedTree::new());
        for dir in 0..4 {
            tree.directory(&format!("{ROOT}/dir{dir}"));
            for file in 0..3 {
                let content = Content::seeded(dir * 10 + file, 500 + file * 900);
                tree.file(&format!("{ROOT}/dir{dir}/file{file}"), content);
            }
        }
        let manner = Manner { embedded: false, rates, is_printed: false };
        let site = Site::new(&Dice::new(7), tree, manner).await;
        site.renew_fleet().await;
        let worker = site.hire("host", &[ROOT], 2, 0, None).await;
        Self { site, worker, request: request("client", budget, 64 << 10) }
    }

    async fn calm() -> Self {
        Self::set(Rates::default(), boundless()).await
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
        let snapshots: Vec<String> =
            self.site.memory.content().into_keys().filter(|name| name.starts_with("snapshots/")).collect();
        snapshots.iter().for_each(|name| self.site.memory.tamper(name, None));
        match self.site.prune().await {
            Pruned::Removed(packs) => packs,
            Pruned::Refused => panic!("the prune was refused"),
        }
    }

    /// Nothing in the repository names what is not there, and no lock is left.
    async fn assert_undamaged(&self) -> Audit {
        let mut audit = Audit::of(&self.site).await.unwrap();
        let snapshots: Vec<_> = audit.snapshots.keys().copied().collect();
        for snapshot in snapshots {
            audit.flatten(&snapshot).await.unwrap();
        }
        assert_eq!(audit.locks().await, []);
        audit
    }
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
