//! The state of a backup job, and how events change it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proto::id::{Id, JobId, Round, WorkerId};
use proto::job::{Budget, TargetNode};
use proto::name::RawName;
use proto::report::{Counts, Fragment, Outcome, Problem, ResultReport};
use proto::task::{ArchiveWork, Scope, View, Work};
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::event::{BlobKey, Event};
use super::open_files::File;
use super::partitions::Origin;
use super::progress::Progress;
use super::proofs::{Packs, Proof};
use super::publish::Probe;
use super::views::Refusals;

/// Names a directory that is not finished.
pub type DirKey = u64;
/// Names a large file that is not finished.
pub type FileKey = u64;
/// Names an accepted report that is not proven.
pub type ReportKey = u64;

/// The root of the snapshot's tree.
pub(super) const ROOT: DirKey = 0;

/// What a job is told at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The job.
    pub job: JobId,
    /// The top of the snapshot's tree.
    pub targets: Vec<TargetNode>,
    /// How much one task may do.
    pub budget: Budget,
    /// Root trees of the parents, best first.
    pub parents: Vec<Id>,
    /// The targets' inodes in the parent snapshot.
    pub expected_targets: Vec<(RawName, View)>,
    /// The parent's targets hold something: so must ours, unless that is allowed.
    pub parent_has_content: bool,
    /// Whether the registry of workers is known to be complete (embedded) or must be 30 s old first.
    pub registry_complete: bool,
    /// All workers are in one process (embedded): what one sees all see, and no second one is asked.
    #[serde(default)]
    pub one_view: bool,
    /// An empty result is taken as it is.
    pub allow_empty: bool,
}

/// A backup job between start and end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub(super) settings: Settings,
    pub(super) now: Duration,
    pub(super) phase: Phase,
    pub(super) tasks: BTreeMap<Id, OpenTask>,
    /// Made and not published yet.
    pub(super) backlog: VecDeque<Id>,
    /// Tasks that are published.
    pub(super) in_flight: usize,
    pub(super) dirs: BTreeMap<DirKey, Dir>,
    pub(super) files: BTreeMap<FileKey, File>,
    pub(super) next_key: u64,
    pub(super) proofs: BTreeMap<ReportKey, Proof>,
    pub(super) wanted: BTreeMap<BlobKey, BTreeSet<ReportKey>>,
    pub(super) packs: Packs,
    /// Effects that were returned and not answered.
    pub(super) unanswered: u32,
    pub(super) facts: FactsStage,
    /// Changed since the facts that are being stored.
    pub(super) facts_changed: bool,
    pub(super) devices: BTreeMap<RawName, u64>,
    /// Where the root worker has no mount point, and another one does.
    pub(super) mounted: BTreeSet<RawName>,
    /// Where no worker finds a mount point that the root worker had.
    pub(super) unmounted: BTreeSet<RawName>,
    pub(super) workers: Workers,
    pub(super) probe: Probe,
    pub(super) counts: Counts,
    pub(super) problems: Vec<Problem>,
    pub(super) tree: Option<Id>,
    pub(super) progress: Progress,
    /// The index was listed for wanted blobs since the last one was added.
    pub(super) listed_for_wanted: bool,
    #[serde(skip)]
    pub(super) effects: Vec<Effect>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// It has not begun.
    Waiting,
    /// Tasks are open, directories are assembled.
    Archiving,
    /// The root's tree is being stored.
    AssemblingRoot,
    /// Own packs are uploaded.
    Flushing(Id),
    /// The last index file is written.
    Indexing(Id),
    /// The snapshot is put.
    Committing,
    /// Nothing is done any more.
    Ended,
}

/// Whether the facts that tasks are published with are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FactsStage {
    /// No root report was accepted; only the root task may be published.
    Root,
    /// Those of the root report are being stored.
    Adopting,
    /// Changed ones are being stored.
    Pending,
    /// They are in force.
    Ready,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Workers {
    pub(super) live: BTreeSet<WorkerId>,
    pub(super) slots: u32,
    pub(super) first_seen: Option<Duration>,
}

/// A task that has no accepted result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OpenTask {
    pub(super) work: Work,
    pub(super) round: Round,
    pub(super) place: Place,
    pub(super) refusals: Refusals,
    /// Numbers publications, so that a probe knows what came before it.
    pub(super) published: Option<u64>,
    /// It is in the backlog.
    pub(super) queued: bool,
    /// When a notice said that it was given up, and why.
    pub(super) dead: Option<(Duration, String)>,
}

/// Where a task's result belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    Root,
    /// The piece of a directory that starts with this name.
    Names(DirKey, RawName),
    /// A range of a file, by its start.
    Range(FileKey, u64),
    Probe,
}

/// A directory that is not finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dir {
    /// The directory above and the name there; none for the root.
    pub(super) above: Option<(DirKey, RawName)>,
    pub(super) path: RawName,
    pub(super) node: Vec<u8>,
    pub(super) view: Option<View>,
    pub(super) parents: Vec<Id>,
    pub(super) parent_device: Option<u64>,
    /// By first name; they do not overlap.
    pub(super) pieces: BTreeMap<RawName, Piece>,
    /// Pieces that are not both done and proven.
    pub(super) open: usize,
}

/// Neighbouring entries of a directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Piece {
    /// A task works on it.
    Open { last: RawName },
    /// Its names are being read, to open it again.
    Reopening { last: RawName, round: Round, borrow: bool },
    /// Finished, and waits for its proof.
    Unproven { fragment: Fragment },
    /// Finished.
    Done { fragment: Fragment },
    /// A directory that is not finished.
    Dir,
    /// A large file that is not finished.
    File,
}

impl OpenTask {
    fn may_borrow(&self) -> bool {
        match &self.work {
            Work::Archive(archive) => archive.borrow,
            Work::Range(range) => range.borrow,
            Work::Restore(_) | Work::Check(_) | Work::Probe(_) | Work::Unknown => true,
        }
    }
}

impl State {
    /// A job that has not begun.
    pub fn new(settings: Settings) -> Self {
        let root = Dir {
            above: None,
            path: RawName::default(),
            node: Vec::new(),
            view: None,
            parents: settings.parents.clone(),
            parent_device: None,
            pieces: BTreeMap::new(),
            open: 1, // the root task
        };
        Self {
            settings,
            now: Duration::ZERO,
            phase: Phase::Waiting,
            tasks: BTreeMap::new(),
            backlog: VecDeque::new(),
            in_flight: 0,
            dirs: BTreeMap::from([(ROOT, root)]),
            files: BTreeMap::new(),
            next_key: 1,
            proofs: BTreeMap::new(),
            wanted: BTreeMap::new(),
            packs: Packs::default(),
            unanswered: 0,
            facts: FactsStage::Root,
            facts_changed: false,
            devices: BTreeMap::new(),
            mounted: BTreeSet::new(),
            unmounted: BTreeSet::new(),
            workers: Workers::default(),
            probe: Probe::default(),
            counts: Counts::default(),
            problems: Vec::new(),
            tree: None,
            progress: Progress::default(),
            listed_for_wanted: false,
            effects: Vec::new(),
        }
    }

    /// Takes one event at monotonic time `now`; returns what is to be done.
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        self.take(event);
        self.publish_backlog();
        self.write_index_if_due();
        self.finish_if_possible();
        std::mem::take(&mut self.effects)
    }

    /// The time of the last event, by the job's own count.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.phase != Phase::Waiting
    }

    /// Effects that were returned and not answered.
    pub fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Whether the job has ended, one way or the other.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Figures of the accepted reports.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What could not be read, and the like: by path, each once though its task was done again.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.problems.clone();
        problems.sort_by(|a, b| (&a.path, &a.message).cmp(&(&b.path, &b.message)));
        problems.dedup();
        problems
    }

    /// The root's tree, once it is stored.
    pub fn tree(&self) -> Option<Id> {
        self.tree
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let counts = &self.counts;
        Progress {
            tasks_open: self.tasks.len() as u64,
            entries: counts.entries,
            bytes_done: counts.bytes_processed,
            bytes_read: counts.bytes_read,
            bytes_stored: counts.bytes_packed,
            ..self.progress.clone()
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Started => self.start(),
            Event::Tick => self.probe_if_stalled(),
            Event::Workers { live, holds, slots } => self.see_workers(live, &holds, slots),
            Event::Result(report) => self.take_result(*report),
            Event::LongReport(payload) => self.perform(Effect::LoadReport(payload)),
            Event::ReportLoaded(report) => {
                self.answered();
                self.take_result(*report);
            }
            Event::Dead(dead) => self.take_dead(dead),
            Event::PackReported(report) => self.take_pack(report),
            Event::PackConfirmed { pack, blobs } => self.confirm_pack(pack, &blobs),
            Event::PackMissing { pack } => self.miss_pack(pack),
            Event::BorrowedChecked { report, missing } => self.check_borrowed(report, missing),
            Event::IndexListed { found } => self.take_index_listing(&found),
            Event::NamesRead { dir, first, names } => self.reopen_names(dir, &first, names),
            Event::FactsReady { devices } => self.facts_ready(devices),
            Event::Published { task } => self.note_published(task),
            Event::DirAssembled { dir, node } => self.place_assembled(dir, node),
            Event::RootAssembled { tree } => self.root_assembled(tree),
            Event::FileStitched { file, outcome } => self.place_stitched(file, *outcome),
            Event::PacksFlushed => self.packs_flushed(),
            Event::IndexWritten { packs } => self.index_written(&packs),
            Event::Committed { .. } => self.phase = Phase::Ended,
            Event::CancelRequested => self.cancel(),
            Event::StateLost | Event::TakenOver => self.state_lost(),
            Event::EffectFailed { reason } => self.fail(reason),
        }
    }

    fn start(&mut self) {
        self.phase = Phase::Archiving;
        let work = Work::Archive(ArchiveWork {
            scope: Scope::Root { targets: self.settings.targets.clone() },
            parents: self.settings.parents.clone(),
            parent_device: None,
            view: None,
            expected_targets: self.first_expectation(),
            budget: self.settings.budget.clone(),
            borrow: true,
            last_word: self.is_one_view(),
        });
        self.open_task(work, 0, Place::Root);
    }

    fn take_result(&mut self, report: ResultReport) {
        let Some(task) = self.tasks.get(&report.task) else {
            return; // a second report of a finished task
        };
        if task.round != report.round {
            return;
        }
        match &report.outcome {
            Outcome::NotMyView(refusal) => {
                let refusal = refusal.clone();
                self.refuse(report.task, report.worker, refusal);
            }
            Outcome::Failed { reason } => {
                let reason = reason.clone();
                self.fail(reason);
            }
            Outcome::Probed => self.probe_answered(report.task),
            Outcome::Unknown => {
                self.fail("a worker of a newer release reports what this coordinator cannot read".into())
            }
            Outcome::Archived(_) | Outcome::Range(_) => self.accept(report),
            Outcome::Restored(_) | Outcome::Checked(_) => {} // of another kind of job: not ours
        }
    }

    fn accept(&mut self, report: ResultReport) {
        if self.packs.any_missing(&report.packs) {
            self.republish_round(report.task);
            return;
        }
        let Some(task) = self.remove_task(report.task) else { return };
        self.progress.note_done(&task, &report.worker);
        self.note_progress();
        let proof = self.begin_proof(&report, task.round);
        match report.outcome {
            Outcome::Archived(archived) => {
                let origin = Origin { worker: &report.worker, proof, round: task.round, borrow: task.may_borrow() };
                self.accept_archived(&task, archived, &origin);
            }
            Outcome::Range(range) => self.accept_range(&task.place, range, proof),
            _ => {}
        }
        if let Some(key) = proof {
            self.close_proof_if_complete(key);
        }
    }

    fn take_dead(&mut self, dead: proto::report::DeadReport) {
        let now = self.now;
        if let Some(task) = self.tasks.get_mut(&dead.task)
            && task.round == dead.round
        {
            let reason = format!("task {} was given up ({}): {}", dead.task.short(), dead.reason, dead.message);
            task.dead.get_or_insert((now, reason)); // another worker may have it: see `bury_dead`
        }
    }

    pub(super) fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// Returns an effect that will be answered.
    pub(super) fn perform(&mut self, effect: Effect) {
        if self.phase != Phase::Ended {
            self.unanswered += 1;
            self.effects.push(effect);
        }
    }

    pub(super) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    pub(super) fn fail(&mut self, reason: String) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.effects = vec![Effect::Fail { reason }];
        }
    }

    fn cancel(&mut self) {
        if self.phase != Phase::Committing {
            self.phase = Phase::Ended;
            self.effects = vec![Effect::Cancel];
        }
    }
}
