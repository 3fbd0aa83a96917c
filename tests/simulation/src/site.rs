//! One site: a repository, a fleet's doors, a data set on several hosts, and the processes that work there.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator::abandoned::Abandoned;
use coordinator::backup::{self, BackupDone};
use coordinator::error::JobError;
use coordinator::takeover;
use fleet::cpu::Cpu;
use fleet::objects::{EmbeddedObjects, Objects, RepositoryObjects};
use fleet::queue::{LocalQueue, Message};
use fleet::state::LocalState;
use proto::handles::{Clock, Random};
use proto::id::{JobId, WorkerId};
use proto::job::{BackupRequest, Request, Submission};
use repository::format::key::{KeyOwner, ScryptParameters};
use repository::locks::{LockRequest, fleet_hostname};
use repository::repository::Repository;
use repository::storage::{Memory, Options, Storage, stack};
use sources::files::roots::Root;
use sources::generated::{GeneratedSource, GeneratedTree};
use tokio::sync::watch;
use worker::restore::RootTargets;
use worker::worker::{Drain, Worker};

use crate::actor::Actor;
use crate::clock::{ActorClock, SimClock};
use crate::dice::Dice;
use crate::doors::{Published, SimQueue, SimState, SimStorage, Way, Witness};
use crate::faults::{Faults, Rates};
use crate::trace::Trace;

/// The pool of every worker.
pub const POOL: &str = "default";
/// Nobody but who knows it may open the repository; it must be found nowhere.
pub const PASSWORD: &str = "correct-horse-battery-staple";
/// The cheapest key that there is.
const CHEAP: ScryptParameters = ScryptParameters { n: 2, r: 1, p: 1 };

/// What a site is like.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Everything of a job runs in one process.
    pub embedded: bool,
    /// How often things go wrong.
    pub rates: Rates,
    /// Print the trace.
    pub is_printed: bool,
}

/// Queue, job state and payloads of a fleet.
#[derive(Clone)]
pub struct Fleet {
    /// The broker.
    pub queue: LocalQueue,
    /// The job state.
    pub state: LocalState,
    /// Payloads, where they are kept in memory.
    objects: Option<EmbeddedObjects>,
}

/// One site.
pub struct Site {
    /// Time.
    pub clock: Arc<SimClock>,
    /// What goes wrong.
    pub faults: Arc<Faults>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// The repository's storage.
    pub memory: Memory,
    /// The data set.
    pub tree: Arc<GeneratedTree>,
    /// What it is like.
    pub manner: Manner,
    /// Every message that was published.
    pub published: Published,
    /// Who sees everything.
    pub witness: Arc<Witness>,
    /// Where workers that are hired from now on may restore to.
    pub restore_roots: Mutex<Vec<Root>>,
    fleet: Mutex<Fleet>,
    nonces: Arc<Dice>,
    started: Mutex<u64>,
}

/// A worker of the site.
pub struct Hired {
    /// Its process.
    pub actor: Arc<Actor>,
    /// Its host's view of the data set.
    pub source: Arc<GeneratedSource>,
    /// Asks it to leave.
    pub drain: Drain,
    /// Ends with it.
    pub ended: tokio::task::JoinHandle<()>,
}

/// A job of the site.
pub struct Started {
    /// Its coordinator's process.
    pub actor: Arc<Actor>,
    /// Its id.
    pub job: JobId,
    /// How it ended; none if its coordinator was killed.
    pub ended: tokio::task::JoinHandle<Option<Result<BackupDone, JobError>>>,
}

impl Site {
    /// A site with a new repository.
    pub async fn new(dice: &Dice, tree: Arc<GeneratedTree>, manner: Manner) -> Self {
        let memory = Memory::new();
        let nonces = Arc::new(dice.split());
        let owner = KeyOwner::default();
        let storage = Arc::new(memory.clone());
        let made = Repository::init_with_cost(storage, PASSWORD.as_bytes(), owner, CHEAP, nonces.clone()).await;
        if let Err(error) = made {
            panic!("no repository can be made in memory: {error}");
        }
        Self::with_repository(memory, nonces, dice, tree, manner)
    }

    fn with_repository(
        memory: Memory,
        nonces: Arc<Dice>,
        dice: &Dice,
        tree: Arc<GeneratedTree>,
        manner: Manner,
    ) -> Self {
        let clock = Arc::new(SimClock::new());
        let fleet =
            Fleet { queue: LocalQueue::new(clock.clone()), state: LocalState::new(clock.clone()), objects: None };
        Self {
            faults: Arc::new(Faults::new(Arc::new(dice.split()), manner.rates)),
            trace: Arc::new(Trace::new(clock.clone(), manner.is_printed)),
            clock,
            witness: Arc::new(Witness::new(memory.clone())),
            memory,
            tree,
            manner,
            published: Published::default(),
            restore_roots: Mutex::default(),
            fleet: Mutex::new(fleet),
            nonces,
            started: Mutex::new(0),
        }
    }

    /// Another site with the same data set and an empty repository of the same settings, where nothing goes wrong.
    pub fn calm_twin(&self) -> Self {
        let mut content = self.memory.content();
        content.retain(|name, _| name == "config" || name.starts_with("keys/"));
        let manner = Manner { embedded: true, rates: Rates::default(), is_printed: false };
        let dice = Dice::new(1);
        let nonces = Arc::new(dice.split());
        Self::with_repository(Memory::from_content(content), nonces, &dice, self.tree.clone(), manner)
    }

    /// Queue, state and payloads of now.
    pub fn fleet(&self) -> Fleet {
        self.lock_fleet().clone()
    }

    fn lock_fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes of an embedded run are gone, and with them everything that they kept in memory.
    pub async fn renew_fleet(&self) {
        let repository = self.open_quietly("objects").await.0;
        let mut fleet = self.lock_fleet();
        *fleet = Fleet {
            queue: LocalQueue::new(self.clock.clone()),
            state: LocalState::new(self.clock.clone()),
            objects: self.manner.embedded.then(|| EmbeddedObjects::new(repository)),
        };
    }

    /// A process of this name.
    pub fn actor(&self, name: impl Into<String>) -> Arc<Actor> {
        Actor::new(name, self.clock.clone())
    }

    fn way(&self, actor: &Arc<Actor>) -> Way {
        Way {
            actor: actor.clone(),
            clock: self.clock.clone(),
            faults: self.faults.clone(),
            trace: self.trace.clone(),
            witness: self.witness.clone(),
        }
    }

    /// Notes something that the site itself does.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note("site", what);
    }

    /// The repository as `actor` reaches it: with faults, and tries again as in production.
    pub async fn repository(&self, actor: &Arc<Actor>) -> Repository {
        let (repository, storage) = self.open(actor).await;
        storage.begin();
        repository
    }

    async fn open_quietly(&self, name: &str) -> (Repository, Arc<SimStorage>) {
        self.open(&self.actor(name)).await
    }

    async fn open(&self, actor: &Arc<Actor>) -> (Repository, Arc<SimStorage>) {
        let storage = Arc::new(SimStorage::new(self.memory.clone(), self.way(actor)));
        let options = Options::new(self.actor_clock(actor), self.nonces.clone());
        let stacked = stack(storage.clone(), options);
        (self.open_on(stacked).await, storage)
    }

    /// The repository without anything in between.
    pub async fn bare_repository(&self) -> Repository {
        self.open_on(Arc::new(self.memory.clone())).await
    }

    async fn open_on(&self, storage: Arc<dyn Storage>) -> Repository {
        match Repository::open(storage, PASSWORD.as_bytes(), None, self.nonces.clone()).await {
            Ok(repository) => repository,
            Err(error) => panic!("the repository in memory cannot be opened: {error}"),
        }
    }

    /// The clock of one process.
    pub fn actor_clock(&self, actor: &Arc<Actor>) -> Arc<dyn Clock> {
        Arc::new(ActorClock::new(self.clock.clone(), actor.clone()))
    }

    fn objects(&self, repository: &Repository) -> Arc<dyn Objects> {
        match self.fleet().objects {
            Some(objects) => Arc::new(objects),
            None => Arc::new(RepositoryObjects::new(repository.clone())),
        }
    }

    fn next_number(&self) -> u64 {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        *started += 1;
        *started
    }

    /// A worker begins on a host that adds `device_shift` to its device numbers.
    pub async fn hire(
        &self,
        host: &str,
        roots: &[&str],
        slots: u32,
        device_shift: u64,
        cache: Option<PathBuf>,
    ) -> Hired {
        let roots = roots.iter().map(|root| root.as_bytes().to_vec()).collect();
        let source = Arc::new(GeneratedSource::on_host(self.tree.clone(), roots, device_shift));
        self.hire_with(host, source, slots, cache).await
    }

    /// The same with a view of the data set that is there already: the same host again.
    pub async fn hire_with(
        &self,
        host: &str,
        source: Arc<GeneratedSource>,
        slots: u32,
        cache: Option<PathBuf>,
    ) -> Hired {
        let actor = self.actor(format!("{host}-{}", self.next_number()));
        self.note(format_args!("starts {}", actor.name()));
        let repository = self.repository(&actor).await;
        self.witness.meet(&repository);
        let fleet = self.fleet();
        let doors = worker::worker::Doors {
            queue: Arc::new(SimQueue::new(fleet.queue, self.way(&actor), self.published.clone())),
            state: Arc::new(SimState::new(fleet.state, self.way(&actor))),
            objects: self.objects(&repository),
            source: source.clone(),
            repository,
            clock: self.actor_clock(&actor),
            cpu: Cpu::inline(),
            cache,
        };
        let name = match WorkerId::new(actor.name()) {
            Ok(name) => name,
            Err(error) => panic!("{} is no name of a worker: {error}", actor.name()),
        };
        let drain = Drain::default();
        let pool = POOL.to_owned();
        let settings = worker::worker::Settings { worker: name, pool, slots, ..worker::worker::Settings::default() };
        let worker = Worker::new(settings, doors, drain.clone());
        let restore_roots = self.restore_roots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        worker.allow_restores(Arc::new(RootTargets::new(restore_roots)));
        let (process, trace) = (actor.clone(), self.trace.clone());
        let ended = tokio::spawn(async move {
            let ended = process.live(Box::pin(async move { worker.run().await })).await;
            trace.note(process.name(), format_args!("ended {ended:?}"));
        });
        Hired { actor, source, drain, ended }
    }

    /// What a coordinator works with.
    pub async fn coordinator_doors(&self, actor: &Arc<Actor>) -> coordinator::Doors {
        let repository = self.repository(actor).await;
        let fleet = self.fleet();
        coordinator::Doors {
            queue: Arc::new(SimQueue::new(fleet.queue, self.way(actor), self.published.clone())),
            state: Arc::new(SimState::new(fleet.state, self.way(actor))),
            objects: self.objects(&repository),
            repository,
            clock: self.actor_clock(actor),
            cpu: Cpu::inline(),
            cache: None,
        }
    }

    /// A coordinator begins a job.
    pub async fn submit(&self, host: &str, request: &BackupRequest) -> Started {
        let actor = self.actor(format!("{host}-job-{}", self.next_number()));
        let doors = self.coordinator_doors(&actor).await;
        let repository = doors.repository.clone();
        let submission = Submission {
            job: backup::new_job_id(&doors),
            repository: repository.id(),
            idempotency_key: None,
            pool: POOL.to_owned(),
            submitted_at: self.clock.now(),
            request: Request::Backup(Box::new(request.clone())),
        };
        let settings = self.job_settings(&repository, &submission.job);
        let job = submission.job.clone();
        self.trace.note(actor.name(), format_args!("starts job {job}"));
        let ended = self.live(&actor, async move {
            let (progress, _) = watch::channel(coordinator::job::Progress::default());
            backup::run(&doors, &submission, &settings, &progress).await
        });
        Started { actor, job, ended }
    }

    /// A coordinator takes a job over that another one abandoned.
    pub async fn take_over(&self, host: &str, abandoned: &Abandoned) -> Started {
        let actor = self.actor(format!("{host}-heir-{}", self.next_number()));
        let doors = self.coordinator_doors(&actor).await;
        let settings = self.job_settings(&doors.repository, &abandoned.job);
        let (job, abandoned) = (abandoned.job.clone(), abandoned.clone());
        self.trace.note(actor.name(), format_args!("takes over job {job} after epoch {}", abandoned.epoch));
        let ended = self.live(&actor, async move {
            let (progress, _) = watch::channel(coordinator::job::Progress::default());
            takeover::take_over(&doors, &abandoned, &settings, &progress).await
        });
        Started { actor, job, ended }
    }

    fn live(
        &self,
        actor: &Arc<Actor>,
        coordinating: impl Future<Output = Result<BackupDone, JobError>> + Send + 'static,
    ) -> tokio::task::JoinHandle<Option<Result<BackupDone, JobError>>> {
        let (process, trace) = (actor.clone(), self.trace.clone());
        tokio::spawn(async move {
            let ended = process.live(Box::pin(coordinating)).await;
            match &ended {
                None => trace.note(process.name(), format_args!("killed")),
                Some(Ok(done)) => trace.note(process.name(), format_args!("done: snapshot {}", done.snapshot)),
                Some(Err(error)) => trace.note(process.name(), format_args!("failed: {}", error.chain())),
            }
            ended
        })
    }

    fn job_settings(&self, repository: &Repository, job: &JobId) -> backup::Settings {
        backup::Settings {
            lock: LockRequest {
                exclusive: false,
                hostname: fleet_hostname(&repository.id()),
                username: "longshore".to_owned(),
                pid: 1,
                uid: 0,
                gid: 0,
                job: Some(job.clone()),
                is_alive: |_| true,
            },
            embedded: self.manner.embedded,
            retry_lock: Some(Duration::from_secs(3600)),
            wait_workers: Duration::from_secs(120),
            leadership: None,
        }
    }

    /// Everything that was published so far.
    pub fn messages(&self) -> Vec<Message> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Randomness for whoever encrypts.
    pub fn nonces(&self) -> Arc<dyn Random> {
        self.nonces.clone()
    }
}
