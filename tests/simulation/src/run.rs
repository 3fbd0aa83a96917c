//! One seed: rounds of backups while things happen, and a judgement after each round.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator::backup::BackupDone;
use coordinator::error::JobError;
use proto::handles::{Clock, RandomExt};
use proto::id::{Id, JobId};
use sources::generated::GeneratedSource;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use worker::worker::Drain;

use crate::actor::Actor;
use crate::data::{Data, ROOT, request};
use crate::dice::Dice;
use crate::faults::Rates;
use crate::oracle::{Audit, BLOB_GONE, PACK_GONE, difference};
use crate::panics::Panics;
use crate::plan::Plan;
use crate::reference::Reference;
use crate::site::{Manner, Site, Started};

/// A job that takes longer, in simulated time, hangs.
const JOB_TIME_MAX: Duration = Duration::from_secs(48 * 3600);
/// From this attempt on nothing goes wrong any more: the job must succeed.
const CALM_FROM_ATTEMPT: usize = 3;

/// What a seed came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Stands for everything that happened.
    pub trace: u64,
    /// How many events there were.
    pub events: u64,
    /// Snapshots at the end.
    pub snapshots: usize,
    /// Jobs that failed or were killed, as the plan explains.
    pub failures: usize,
}

/// Runs a seed.
///
/// # Errors
/// What must not be.
pub async fn run(seed: u64, is_printed: bool) -> Result<Summary, String> {
    let panics = Panics::watch();
    panics.judge(run_rounds(seed, is_printed).await)
}

async fn run_rounds(seed: u64, is_printed: bool) -> Result<Summary, String> {
    let dice = Arc::new(Dice::new(seed));
    let plan = Plan::roll(&dice);
    let data = Data::roll(&dice);
    if plan.long_zeros {
        data.add_long_zeros(&dice);
    }
    let caches = match plan.warm_caches {
        true => Some(tempfile::tempdir().map_err(|error| format!("no folder for caches: {error}"))?),
        false => None,
    };
    let manner = Manner { embedded: plan.embedded, rates: plan.rates, is_printed };
    let site = Site::new(&dice, data.tree.clone(), manner).await;
    site.renew_fleet().await;
    site.note(format_args!("{plan:#?}"));
    let run = Arc::new(Run { site, plan, data, dice, caches, state: Mutex::default() });
    for round in 0..run.plan.rounds {
        match run.clone().round(round).await {
            Ok(()) => {}
            Err(wrong) if is_of_a_prune(&wrong) && run.plan.prunes_in_the_window() => {
                run.site.note(format_args!("{wrong}: pruned while the lock was taken away"));
                break;
            }
            Err(wrong) => return Err(wrong),
        }
    }
    let state = run.state();
    let trace = &run.site.trace;
    Ok(Summary {
        trace: trace.hash(),
        events: trace.events(),
        snapshots: state.snapshots.len(),
        failures: state.failures,
    })
}

/// Whether it is what a prune leaves behind that did not see a snapshot or an index file which was being put.
fn is_of_a_prune(wrong: &str) -> bool {
    [PACK_GONE, BLOB_GONE].into_iter().any(|gone| wrong.ends_with(gone))
}

/// A seed that runs.
pub(crate) struct Run {
    pub(crate) site: Site,
    pub(crate) plan: Plan,
    pub(crate) data: Data,
    pub(crate) dice: Arc<Dice>,
    /// Where the hosts of workers keep indexes.
    caches: Option<TempDir>,
    state: Mutex<RunState>,
}

#[derive(Default)]
pub(crate) struct RunState {
    pub(crate) workers: Vec<AtWork>,
    pub(crate) jobs: Vec<Option<(Arc<Actor>, JobId)>>,
    /// Everybody who leads or led a job of this round.
    pub(crate) coordinators: Vec<Arc<Actor>>,
    /// Nothing goes wrong any more in this round.
    pub(crate) calm: bool,
    /// The data set changed in this round.
    pub(crate) changed: bool,
    /// Snapshots of the rounds before.
    snapshots: BTreeSet<Id>,
    failures: usize,
    /// Of these, in this round: killed, or failed where an answer may have been lost.
    unclear: usize,
}

/// A worker of now.
pub(crate) struct AtWork {
    pub(crate) actor: Arc<Actor>,
    pub(crate) source: Arc<GeneratedSource>,
    pub(crate) drain: Drain,
}

/// What goes on beside the jobs of a round.
#[derive(Default)]
struct Background {
    keepers: Vec<JoinHandle<()>>,
    /// It ends by itself once nothing goes wrong any more; a prune that has begun is not cut off.
    happenings: Option<JoinHandle<()>>,
}

impl Run {
    pub(crate) fn state(&self) -> MutexGuard<'_, RunState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn round(self: Arc<Self>, round: usize) -> Result<(), String> {
        self.site.note(format_args!("round {round}"));
        if round > 0 {
            for _ in 0..self.dice.below(4) {
                self.data.tree.apply(self.data.roll_change(&self.dice));
            }
            self.site.clock.sleep(Duration::from_secs(self.dice.between(1, 4000))).await;
        }
        if self.plan.forgets && round + 1 == self.plan.rounds {
            self.site.forget_all();
            self.state().snapshots.clear();
            self.site.unlock().await;
            self.site.prune().await;
        }
        self.begin_round();
        let mut background = Background::default();
        if !self.plan.embedded {
            let keepers = (0..self.plan.hosts.len()).map(|number| tokio::spawn(self.clone().keep_worker(number)));
            background.keepers.extend(keepers);
        }
        background.happenings = Some(tokio::spawn(self.clone().let_happen(round)));
        let clients = (0..self.plan.jobs).map(|slot| self.clone().insist(slot));
        let done = futures::future::try_join_all(clients).await;
        let changed = self.state().changed;
        self.end_round(background).await;
        let done = done?;
        self.judge(&done, !changed).await?;
        if changed {
            self.clone().still_round().await?;
        }
        Ok(())
    }

    /// After a round in which the data set changed: once more while it stands still. Everything must be noticed.
    async fn still_round(self: Arc<Self>) -> Result<(), String> {
        self.site.note(format_args!("round without changes"));
        self.begin_round();
        self.make_calm();
        let mut background = Background::default();
        if !self.plan.embedded {
            background.keepers.push(tokio::spawn(self.clone().keep_worker(0)));
        }
        let done = self.clone().insist(0).await;
        self.end_round(background).await;
        self.judge(&[done?], true).await
    }

    fn begin_round(&self) {
        self.site.faults.set(self.plan.rates);
        let mut state = self.state();
        (state.calm, state.changed, state.unclear) = (false, false, 0);
        state.jobs = vec![None; self.plan.jobs];
        state.workers.clear();
        state.coordinators.clear();
    }

    /// Everybody leaves; what is still on its way arrives.
    async fn end_round(&self, background: Background) {
        self.make_calm();
        background.keepers.iter().for_each(JoinHandle::abort);
        self.state().workers.drain(..).for_each(|worker| worker.actor.kill());
        if let Some(happenings) = background.happenings {
            // One that panicked is seen.
            let _ = happenings.await;
        }
        self.site.clock.sleep(Duration::from_secs(180)).await;
    }

    /// Nothing goes wrong any more.
    pub(crate) fn make_calm(&self) {
        self.site.faults.set(Rates::default());
        self.data.tree.forget_planted();
        let mut state = self.state();
        state.calm = true;
        for worker in &state.workers {
            worker.actor.spare();
            self.data.mounts.iter().for_each(|place| worker.source.remount(place));
        }
        state.coordinators.iter().for_each(|actor| actor.spare());
    }

    fn cache_of(&self, host: &str) -> Option<PathBuf> {
        Some(self.caches.as_ref()?.path().join(host))
    }

    /// A worker of one host, again and again.
    async fn keep_worker(self: Arc<Self>, number: usize) {
        let host = self.plan.hosts[number];
        let name = format!("host{number}");
        loop {
            let cache = self.cache_of(&name);
            let hired = self.site.hire(&name, &[ROOT], host.slots, host.device_shift, cache).await;
            let worker = AtWork { actor: hired.actor, source: hired.source, drain: hired.drain };
            {
                let mut state = self.state();
                if state.workers.len() > number {
                    state.workers[number] = worker;
                } else {
                    state.workers.push(worker);
                }
            }
            // How a worker ends is the business of its own trace, and a panic of it is seen.
            drop(hired.ended.await);
            self.site.clock.sleep(self.dice.time_below(Duration::from_secs(15))).await;
        }
    }

    /// Submits a job until it succeeds.
    async fn insist(self: Arc<Self>, slot: usize) -> Result<BackupDone, String> {
        let host = format!("client{slot}");
        self.site.clock.sleep(self.dice.time_below(Duration::from_secs(5))).await;
        for attempt in 0.. {
            let was_calm = self.state().calm;
            if attempt >= CALM_FROM_ATTEMPT {
                self.make_calm();
            }
            let ended = self.attempt(slot, &host).await?;
            match ended {
                Some(Ok(done)) => return Ok(done),
                None => self.note_failure(true),
                Some(Err(error)) => {
                    let is_unclear = self.plan.rates.storage > 0 || matches!(error, JobError::LockLost(_));
                    if attempt > CALM_FROM_ATTEMPT && was_calm {
                        return Err(format!("a job fails though nothing goes wrong any more: {}", error.chain()));
                    }
                    if !self.plan.explains(&error) {
                        return Err(format!("nothing explains that a job failed: {}", error.chain()));
                    }
                    self.note_failure(is_unclear);
                }
            }
            self.site.clock.sleep(self.dice.time_below(Duration::from_secs(40))).await;
        }
        Err("nobody counts so far".to_owned())
    }

    fn note_failure(&self, is_unclear: bool) {
        let mut state = self.state();
        state.failures += 1;
        state.unclear += usize::from(is_unclear);
    }

    async fn attempt(&self, slot: usize, host: &str) -> Result<Option<Result<BackupDone, JobError>>, String> {
        if self.plan.embedded {
            self.site.renew_fleet().await;
            let mut workers = Vec::new();
            for (number, host) in self.plan.hosts.iter().enumerate() {
                let name = format!("host{number}");
                let cache = self.cache_of(&name);
                let hired = self.site.hire(&name, &[ROOT], host.slots, host.device_shift, cache).await;
                workers.push(AtWork { actor: hired.actor, source: hired.source, drain: hired.drain });
            }
            self.state().workers = workers;
        }
        let request = request(host, self.plan.budget.clone(), self.plan.pack_size);
        let started = self.site.submit(host, &request).await;
        self.note_leader(slot, &started);
        let limit = self.site.clock.sleep(JOB_TIME_MAX);
        let ended = tokio::select! {
            biased;
            ended = self.follow(slot, host, started) => ended?,
            () = limit => return Err(format!("a job does not end within {} hours", JOB_TIME_MAX.as_secs() / 3600)),
        };
        self.state().jobs[slot] = None;
        if self.plan.embedded {
            // One process: with the coordinator everybody is gone.
            self.state().workers.drain(..).for_each(|worker| worker.actor.kill());
        }
        Ok(ended)
    }

    pub(crate) fn note_leader(&self, slot: usize, started: &Started) {
        let mut state = self.state();
        state.jobs[slot] = Some((started.actor.clone(), started.job.clone()));
        state.coordinators.push(started.actor.clone());
    }

    /// Judges everything; `stood_still`: the new snapshots must be those of a fault-free run.
    async fn judge(&self, done: &[BackupDone], stood_still: bool) -> Result<(), String> {
        self.site.witness.judge(self.plan.prunes_in_the_window())?;
        let mut audit = Audit::of(&self.site).await?;
        let all: BTreeSet<Id> = audit.snapshots.keys().copied().collect();
        let before = self.state().snapshots.clone();
        if let Some(lost) = before.difference(&all).next() {
            return Err(format!("snapshot {lost} is gone"));
        }
        let new: Vec<Id> = all.difference(&before).copied().collect();
        let extra = new.len() - done.len().min(new.len());
        let unclear = self.state().unclear;
        if extra > unclear {
            return Err(format!(
                "{} snapshots of {} jobs, of which {unclear} may have made one more",
                new.len(),
                done.len()
            ));
        }
        let reference = if stood_still { Some(Reference::of(&self.site).await?) } else { None };
        for id in &all {
            let flat = audit.flatten(id).await?;
            if let Some(reference) = reference.as_ref().filter(|_| new.contains(id)) {
                if let Some(difference) = difference(&flat, &reference.flat) {
                    return Err(format!("snapshot {id}: {difference}"));
                }
                let shifts = self.plan.hosts.iter().any(|host| host.device_shift > 0);
                let tree = audit.snapshots[id].tree;
                if !shifts && tree != reference.tree {
                    return Err(format!("snapshot {id} has tree {tree}, not {}", reference.tree));
                }
            }
        }
        for done in done {
            if !new.contains(&done.snapshot) {
                return Err(format!("snapshot {} was reported and is not new", done.snapshot));
            }
            if let Some(reference) = &reference {
                check_counts(done, reference)?;
            }
        }
        self.site.judge_locks(&audit.locks().await).await?;
        self.state().snapshots = all;
        Ok(())
    }
}

/// The figures of a job are those of a fault-free run.
fn check_counts(done: &BackupDone, reference: &Reference) -> Result<(), String> {
    let (found, expected) = (&done.counts, &reference.counts);
    let files = |counts: &proto::report::Counts| counts.files_new + counts.files_changed + counts.files_unmodified;
    let dirs = |counts: &proto::report::Counts| counts.dirs_new + counts.dirs_changed + counts.dirs_unmodified;
    for (what, found, expected) in [
        ("files", files(found), files(expected)),
        ("directories", dirs(found), dirs(expected)),
        ("entries", found.entries, expected.entries),
        ("bytes processed", found.bytes_processed, expected.bytes_processed),
        ("unreadable entries", found.unreadable, expected.unreadable),
    ] {
        if found != expected {
            let problems = &done.problems;
            return Err(format!("the job counted {found} {what}, there are {expected}; it lists {problems:#?}"));
        }
    }
    Ok(())
}
