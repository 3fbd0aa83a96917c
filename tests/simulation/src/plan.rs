//! What a seed decides: the fleet, what goes wrong, and when.

use std::time::Duration;

use coordinator::error::JobError;
use proto::handles::RandomExt;
use proto::job::Budget;

use crate::dice::Dice;
use crate::faults::Rates;

/// A worker's host.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Tasks at once.
    pub slots: u32,
    /// What it adds to device numbers.
    pub device_shift: u64,
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A worker is killed after so many more of its points.
    KillWorker(usize, u64),
    /// A worker is asked to leave; it comes back.
    DrainWorker(usize),
    /// A worker is stopped for a while.
    StopWorker(usize, Duration),
    /// A job's coordinator is killed after so many more of its points.
    KillJob(usize, u64),
    /// A job's coordinator is killed just before a call that begins like this.
    KillJobBefore(usize, &'static str),
    /// A job's coordinator is stopped for a while, after so many more of its points.
    StopJob(usize, u64, Duration),
    /// FLUSHALL.
    Flush,
    /// A worker's host loses a file system for a while.
    Unmount(usize, Duration),
    /// Somebody removes every lock, waits so long, and prunes.
    UnlockAllAndPrune(Duration),
    /// Somebody removes stale locks, and prunes if that is allowed.
    UnlockAndPrune,
    /// The wall clock is set.
    JumpWall(i64),
    /// Somebody cancels a job.
    Cancel(usize),
    /// A user changes something.
    Change,
    /// A user changes something just before a large file is read for the n-th time.
    ChangeAtRead(u64),
    /// A report that nobody of the fleet wrote.
    PlantReport(usize),
}

/// What a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything of a job runs in one process.
    pub embedded: bool,
    /// The workers' hosts.
    pub hosts: Vec<Host>,
    /// How much one task may do.
    pub budget: Budget,
    /// Target size of packs.
    pub pack_size: u64,
    /// How often calls go wrong.
    pub rates: Rates,
    /// Jobs that run at once, of different hosts.
    pub jobs: usize,
    /// Backups of each of them.
    pub rounds: usize,
    /// A job whose coordinator falls silent is taken over by another one, not submitted again.
    pub takes_over: bool,
    /// Workers keep indexes from job to job.
    pub warm_caches: bool,
    /// Before the last round somebody forgets all snapshots, and prunes.
    pub forgets: bool,
    /// A large file is so regular that the chains of its ranges do not meet.
    pub long_zeros: bool,
    /// What happens in each round, by time.
    pub happenings: Vec<Vec<(Duration, Happening)>>,
}

/// Ranges of a file that is full of zeros: each is read up to 64 MiB beyond its end, so there must not be many.
pub const LONG_RANGE_BYTES: u64 = 48 << 20;

/// After a look at its lock a job puts for 10 s, and a put takes 30 s at most: then nothing of it comes any more.
const PUTS_OVER_AFTER: Duration = Duration::from_secs(41);

impl Plan {
    /// The plan of a seed.
    pub fn roll(dice: &Dice) -> Self {
        let embedded = dice.chance(200);
        let workers = dice.between(1, 4) as usize;
        let shifts = dice.chance(300);
        let hosts = (0..workers)
            .map(|number| Host {
                slots: dice.between(1, 3) as u32,
                device_shift: if shifts { 1000 * number as u64 } else { 0 },
            })
            .collect();
        let warm_caches = dice.chance(200);
        let forgets = dice.chance(if warm_caches { 500 } else { 100 });
        // What is forgotten in the third round was listed, and may be kept, in the second.
        let rounds = if forgets { 3 } else { dice.between(1, 2) as usize };
        let long_zeros = dice.chance(20);
        let jobs = if !embedded && dice.chance(300) { 2 } else { 1 };
        let mut plan = Self {
            embedded,
            hosts,
            budget: roll_budget(dice, long_zeros),
            pack_size: *dice.pick(&[4 << 10, 64 << 10, 1 << 20, 16 << 20]),
            rates: roll_rates(dice, embedded),
            jobs,
            rounds,
            takes_over: false,
            warm_caches,
            forgets,
            long_zeros,
            happenings: Vec::new(),
        };
        plan.happenings = (0..rounds).map(|_| plan.roll_happenings(dice)).collect();
        plan.takes_over = !embedded && dice.chance(600);
        plan
    }

    fn roll_happenings(&self, dice: &Dice) -> Vec<(Duration, Happening)> {
        let mut happenings = Vec::new();
        let (hosts, jobs) = (self.hosts.len() as u64, self.jobs as u64);
        let mut add = |count: u64, window: u64, make: &dyn Fn(&Dice) -> Happening| {
            for _ in 0..count {
                happenings.push((dice.time_below(Duration::from_secs(window)), make(dice)));
            }
        };
        let host = |dice: &Dice| dice.below(hosts) as usize;
        let job = |dice: &Dice| dice.below(jobs) as usize;
        // A file system that one host lacks is noticed as long as another host that has it is known to live.
        let unmounts = hosts > 1 && !self.embedded && self.rates.state == 0 && dice.chance(150);
        if unmounts {
            add(1, 10, &|dice| Happening::Unmount(host(dice), Duration::from_secs(dice.between(1, 300))));
        } else if !self.embedded {
            if dice.chance(400) {
                add(dice.between(1, 3), 30, &|dice| Happening::KillWorker(host(dice), dice.below(400)));
            }
            if dice.chance(150) {
                add(dice.between(1, 2), 20, &|dice| Happening::DrainWorker(host(dice)));
            }
            if dice.chance(100) {
                add(1, 20, &|dice| Happening::StopWorker(host(dice), Duration::from_secs(dice.between(1, 3000))));
            }
            if dice.chance(200) {
                add(dice.between(1, 2), 30, &|_| Happening::Flush);
            }
        }
        if dice.chance(300) {
            add(dice.between(1, 2), 20, &|dice| Happening::KillJob(job(dice), dice.below(500)));
        }
        if dice.chance(100) {
            let call = |dice: &Dice| *dice.pick(&["Put index/", "Put snapshots/", "Put longshore/", "Put data/"]);
            add(1, 20, &|dice| Happening::KillJobBefore(job(dice), call(dice)));
        }
        if dice.chance(150) {
            let stop = |dice: &Dice| Duration::from_secs(dice.between(1, 4000));
            add(1, 20, &|dice| Happening::StopJob(job(dice), dice.below(400), stop(dice)));
            add(dice.between(1, 3), 4000, &|_| Happening::UnlockAndPrune);
        }
        if dice.chance(150) {
            let wait = |dice: &Dice| if dice.chance(500) { Duration::ZERO } else { PUTS_OVER_AFTER };
            add(dice.between(1, 2), 40, &|dice| Happening::UnlockAllAndPrune(wait(dice)));
        }
        if dice.chance(250) {
            add(dice.between(1, 3), 60, &|_| Happening::UnlockAndPrune);
        }
        if dice.chance(50) {
            add(1, 30, &|dice| Happening::JumpWall(dice.between(0, 8000) as i64 - 4000));
        }
        if dice.chance(50) {
            add(1, 20, &|dice| Happening::Cancel(job(dice)));
        }
        if dice.chance(150) {
            add(dice.between(1, 4), 15, &|_| Happening::Change);
            add(dice.between(0, 2), 2, &|dice| Happening::ChangeAtRead(dice.below(12)));
        }
        if dice.chance(100) {
            add(2, 15, &|dice| Happening::PlantReport(job(dice)));
        }
        happenings.sort_by_key(|(at, _)| *at);
        happenings
    }

    fn has(&self, wanted: impl Fn(&Happening) -> bool) -> bool {
        self.happenings.iter().flatten().any(|(_, happening)| wanted(happening))
    }

    /// Whether a lock may be lost.
    pub fn loses_locks(&self) -> bool {
        self.has(|happening| {
            matches!(happening, Happening::UnlockAllAndPrune(_) | Happening::StopJob(..) | Happening::JumpWall(_))
        })
    }

    /// Whether a prune may begin between a job's look at its lock and the end of what it puts then: restic has the same
    /// window.
    pub fn prunes_in_the_window(&self) -> bool {
        self.has(|happening| matches!(happening, Happening::UnlockAllAndPrune(wait) if *wait < PUTS_OVER_AFTER))
    }

    /// Whether a failure of a job follows from what was planned.
    pub fn explains(&self, error: &JobError) -> bool {
        let disturbed = self.has(|happening| {
            use Happening::{DrainWorker, Flush, KillWorker, StopWorker};
            matches!(happening, KillWorker(..) | DrainWorker(_) | StopWorker(..) | Flush)
        });
        let rates = &self.rates;
        let prunes = self.loses_locks();
        let calls_fail = rates.storage + rates.queue + rates.state + rates.lost_messages > 0;
        match error {
            JobError::Cancelled => self.has(|happening| matches!(happening, Happening::Cancel(_))),
            JobError::NoWorkers { .. } => disturbed || calls_fail,
            JobError::Queue(_) => rates.queue > 0,
            JobError::State(_) => rates.state > 0,
            JobError::LockLost(_) => self.loses_locks(),
            JobError::Fenced { .. } | JobError::Ended { .. } => self.takes_over,
            JobError::Storage(_) | JobError::Repository(_) | JobError::Object(_) | JobError::Lock(_) => {
                rates.storage > 0 || prunes
            }
            // A worker that cannot read what it was told of.
            JobError::Failed { reason } if reason.starts_with("the repository cannot be used") => {
                rates.storage > 0 || prunes
            }
            JobError::Failed { reason } if reason.contains("was given up") => disturbed || calls_fail || prunes,
            JobError::Failed { reason } if reason.contains("see the") || reason.contains("sees the") => {
                self.has(|happening| matches!(happening, Happening::Unmount(..)))
            }
            _ => false,
        }
    }
}

fn roll_budget(dice: &Dice, long_zeros: bool) -> Budget {
    let budget = Budget {
        changed_entries: *dice.pick(&[1, 2, 5, 10_000]),
        entries: *dice.pick(&[2, 7, 200_000]),
        bytes: *dice.pick(&[500, 20_000, 1 << 30]),
        range_bytes: *dice.pick(&[600 << 10, 1 << 20, 3 << 20]),
        range_threshold_bytes: *dice.pick(&[512 << 10, 2 << 20, 1 << 30]),
        soft_deadline_seconds: *dice.pick(&[1, 10, 120]),
    };
    match long_zeros {
        true => Budget { range_bytes: LONG_RANGE_BYTES, range_threshold_bytes: LONG_RANGE_BYTES, ..budget },
        false => budget,
    }
}

fn roll_rates(dice: &Dice, embedded: bool) -> Rates {
    let per_mille = |chance: u16, most: u64| if dice.chance(chance) { dice.between(1, most) as u16 } else { 0 };
    let storage = per_mille(400, 60);
    if embedded {
        return Rates { storage, slow: per_mille(200, 30), ..Rates::default() };
    }
    Rates {
        storage,
        queue: per_mille(400, 60),
        lost_messages: per_mille(100, 30),
        state: per_mille(400, 60),
        lies: per_mille(300, 300),
        slow: per_mille(200, 30),
    }
}
