//! A fleet in one process of which every worker has the data set at another mount. Its one argument is a
//! [`tests::views::Views`] in JSON, its output a [`Viewed`].
//!
//! The doors are those of an embedded run. The coordinator takes it for a fleet: in an embedded run there is one view, and
//! nobody is asked for a second one.
#![allow(clippy::disallowed_macros, reason = "a program of the tests prints its result")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use coordinator::Doors;
use coordinator::backup::{self, BackupDone};
use coordinator::job::Progress;
use fleet::clock::SystemClock;
use fleet::cpu::Cpu;
use fleet::objects::EmbeddedObjects;
use fleet::queue::LocalQueue;
use fleet::rand::SystemRandom;
use fleet::state::LocalState;
use proto::id::WorkerId;
use proto::job::{BackupRequest, Budget, ParentChoice, Request, Submission, TargetNode, TargetPlace};
use proto::name::RawName;
use repository::locks::{LockRequest, process_is_alive};
use repository::repository::Repository;
use repository::storage::{Location, Options};
use sources::files::FileSource;
use sources::files::roots::Root;
use sources::files::users::UserTable;
use sources::names::Names;
use sources::source::{Metadata, Mount, OpenFile, Source, SourceError};
use tests::views::{Loss, PLACE, Viewed, Views};
use tokio::sync::watch;
use tokio::task::JoinSet;
use worker::worker::{Drain, Settings as WorkerSettings, Worker};

const POOL: &str = "default";

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).expect("one argument: the views in JSON");
    let views: Views = serde_json::from_str(&argument).expect("views in JSON");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run(&views)) {
        Ok(viewed) => {
            println!("{}", serde_json::to_string(&viewed).expect("JSON"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

async fn run(views: &Views) -> Result<Viewed, Box<dyn std::error::Error>> {
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let location = Location::Local(views.repository.clone());
    let storage = repository::storage::open(&location, Options::new(clock.clone(), random.clone()))?;
    let password = std::fs::read(&views.password_file)?;
    let repository = Repository::open(storage, &password, None, random).await?;
    let doors = Doors {
        queue: Arc::new(LocalQueue::new(clock.clone())),
        state: Arc::new(LocalState::new(clock.clone())),
        objects: Arc::new(EmbeddedObjects::new(repository.clone())),
        repository,
        clock,
        cpu: Cpu::threads(std::thread::available_parallelism().map_or(1, usize::from)),
        cache: None,
    };
    let seen = Arc::new(Seen::default());
    let drain = Drain::default();
    let mut working = JoinSet::new();
    for (number, mount) in views.mounts.iter().enumerate() {
        let worker = worker(&doors, watched(views, number, mount, &seen), number, &drain);
        working.spawn(async move { worker.run().await });
    }
    let settings = backup::Settings {
        lock: lock_request(),
        embedded: false,
        retry_lock: None,
        wait_workers: std::time::Duration::from_secs(10),
        leadership: None,
    };
    let (progress, _) = watch::channel(Progress::default());
    let done = backup::run(&doors, &submission(views, &doors), &settings, &progress).await;
    drain.begin();
    working.join_all().await.into_iter().collect::<Result<(), _>>()?;
    Ok(viewed(views, &done?, &seen))
}

fn worker(doors: &Doors, source: Watched, number: usize, drain: &Drain) -> Worker {
    let settings = WorkerSettings { worker: worker_id(number), pool: POOL.to_owned(), ..WorkerSettings::default() };
    let doors = worker::worker::Doors {
        queue: doors.queue.clone(),
        state: doors.state.clone(),
        objects: doors.objects.clone(),
        source: Arc::new(source),
        repository: doors.repository.clone(),
        clock: doors.clock.clone(),
        cpu: doors.cpu.clone(),
        cache: None,
    };
    Worker::new(settings, doors, drain.clone())
}

fn worker_id(number: usize) -> WorkerId {
    WorkerId::new(format!("view-{number}")).expect("letters, a dash and digits")
}

fn lock_request() -> LockRequest {
    LockRequest {
        exclusive: false,
        hostname: "several-views".to_owned(),
        username: String::new(),
        pid: std::process::id(),
        uid: 0,
        gid: 0,
        job: None,
        is_alive: process_is_alive,
    }
}

fn submission(views: &Views, doors: &Doors) -> Submission {
    let [entries, bytes, range_threshold_bytes, range_bytes] = views.budget;
    let place = RawName::from(views.target.as_os_str().as_bytes());
    let name = RawName::from(views.target.file_name().expect("a target with a name").as_bytes());
    let request = BackupRequest {
        targets: vec![TargetNode {
            name,
            source: place.clone(),
            place: TargetPlace::Target { path: place.clone(), explicit: true },
        }],
        paths: vec![place],
        hostname: "several-views".to_owned(),
        username: String::new(),
        uid: 0,
        gid: 0,
        tags: Vec::new(),
        time: None,
        zone: "UTC".to_owned(),
        source_options: serde_json::Value::Null,
        excludes: Vec::new(),
        parent: ParentChoice::None,
        allow_empty: false,
        budget: Budget {
            changed_entries: entries,
            entries,
            bytes,
            range_bytes,
            range_threshold_bytes,
            ..Budget::default()
        },
        compression: "auto".to_owned(),
        with_atime: false,
        ignore_ctime: false,
        ignore_inode: false,
        pack_size: 16 << 20,
        missing_targets: Vec::new(),
    };
    Submission {
        job: backup::new_job_id(doors),
        repository: doors.repository.id(),
        idempotency_key: None,
        pool: POOL.to_owned(),
        submitted_at: doors.clock.now(),
        request: Request::Backup(Box::new(request)),
    }
}

fn viewed(views: &Views, done: &BackupDone, seen: &Seen) -> Viewed {
    let progress = &done.progress;
    let finished = |number| progress.partitions_by_worker.get(&worker_id(number)).copied().unwrap_or(0);
    let opened = seen.links.lock().expect("no panic");
    Viewed {
        tree: done.tree.to_string(),
        snapshot: done.snapshot.to_string(),
        root_worker: seen.root_worker.load(Ordering::SeqCst),
        partitions: [progress.subtree_partitions, progress.name_range_partitions, progress.byte_range_partitions],
        by_worker: (0..views.mounts.len()).map(finished).collect(),
        seams: [progress.seams_matched, progress.seams_redone],
        links_across: opened.values().filter(|workers| workers.len() > 1).count() as u64,
        lost: seen.lost.load(Ordering::SeqCst),
        vanished: done.counts.vanished,
        problems: done.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect(),
    }
}

/// What the workers asked of their views.
#[derive(Default)]
struct Seen {
    /// Who listed its mounts last: that is the end of a root task.
    root_worker: AtomicUsize,
    /// Who opened a name of an inode that has several.
    links: Mutex<Links>,
    /// Told when one was opened.
    opened: Condvar,
    lost: AtomicBool,
}

/// Workers by inode.
type Links = BTreeMap<u64, BTreeSet<usize>>;

/// The files of one worker, and what it asks of them.
struct Watched {
    files: FileSource,
    number: usize,
    mount: PathBuf,
    seen: Arc<Seen>,
    place_to_meet: Option<PathBuf>,
    /// What goes away, and how many files are opened before.
    loss: Option<(Loss, AtomicU64)>,
}

fn watched(views: &Views, number: usize, mount: &Path, seen: &Arc<Seen>) -> Watched {
    let root = Root { path: PLACE.as_bytes().to_vec(), mount: mount.as_os_str().as_bytes().to_vec() };
    let own = views.loss.clone().filter(|loss| loss.worker.is_none_or(|worker| worker == number));
    let loss = own.map(|loss| (loss, AtomicU64::new(0)));
    Watched {
        files: FileSource::new(vec![root]),
        number,
        mount: mount.to_owned(),
        seen: seen.clone(),
        place_to_meet: views.meet.clone(),
        loss,
    }
}

impl Watched {
    fn lose(&self, path: &[u8]) {
        let Some((loss, opened)) = &self.loss else { return };
        let counts = path.starts_with(loss.below.as_os_str().as_bytes());
        if !counts || opened.fetch_add(1, Ordering::SeqCst) + 1 != loss.at_file {
            return;
        }
        if self.seen.lost.swap(true, Ordering::SeqCst) {
            return; // another worker lost its own
        }
        let mount = self.mount.join(&loss.within);
        let status = Command::new("umount").arg("--lazy").arg(&mount).status().expect("umount runs");
        assert!(status.success(), "umount {}", mount.display());
    }
}

impl Watched {
    /// Notes who opened a name of an inode that has several; at the place to meet, waits for another worker.
    fn meet(&self, path: &[u8], inode: u64) {
        let mut links = self.seen.links.lock().expect("no panic");
        links.entry(inode).or_default().insert(self.number);
        self.seen.opened.notify_all();
        if self.place_to_meet.as_ref().is_some_and(|place| place.as_os_str().as_bytes() == path) {
            let alone = |links: &mut Links| links.get(&inode).is_none_or(|workers| workers.len() < 2);
            let _met = self.seen.opened.wait_while(links, alone).expect("no panic");
        }
    }
}

impl Source for Watched {
    fn metadata(&self, path: &[u8]) -> Result<Metadata, SourceError> {
        self.files.metadata(path)
    }

    fn metadata_of(
        &self,
        directory: &[u8],
        names: &[&[u8]],
    ) -> Result<Vec<Result<Metadata, SourceError>>, SourceError> {
        self.files.metadata_of(directory, names)
    }

    fn list(&self, directory: &[u8]) -> Result<Names, SourceError> {
        self.files.list(directory)
    }

    fn open(&self, path: &[u8], expected: &Metadata) -> Result<Box<dyn OpenFile>, SourceError> {
        self.lose(path);
        if expected.links > 1 {
            self.meet(path, expected.inode);
        }
        self.files.open(path, expected)
    }

    fn mounts(&self, under: &[Vec<u8>]) -> Result<Vec<Mount>, SourceError> {
        self.seen.root_worker.store(self.number, Ordering::SeqCst);
        self.files.mounts(under)
    }

    fn users(&self) -> Result<UserTable, SourceError> {
        self.files.users()
    }
}
