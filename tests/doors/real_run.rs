//! A whole backup through both doors on real services.

use std::sync::Arc;
use std::time::Duration;

use coordinator::backup::{self, BackupDone};
use coordinator::job::Progress;
use fleet::clock::SystemClock;
use fleet::cpu::Cpu;
use fleet::objects::RepositoryObjects;
use fleet::queue::{LocalQueue, TaskQueue};
use fleet::rand::SystemRandom;
use fleet::state::{JobState, LocalState};
use proto::id::WorkerId;
use proto::job::{BackupRequest, Budget, ParentChoice, Request, Submission, TargetNode, TargetPlace};
use proto::name::RawName;
use repository::format::key::KeyOwner;
use repository::locks::{LockRequest, fleet_hostname};
use repository::repository::Repository;
use repository::storage::Memory;
use sources::generated::{GeneratedSource, GeneratedTree, TreeSettings};
use tests::services::rabbitmq::Vhosts;
use tests::services::redis::PrivateRedis;
use tokio::sync::watch;
use tokio::task::JoinSet;
use worker::worker::{Drain, Settings as WorkerSettings, Worker};

use crate::{queue_at, state_at};

const POOL: &str = "p";
const WORKERS: usize = 3;

/// The doors of one process.
type Pair = (Arc<dyn TaskQueue>, Arc<dyn JobState>);

fn coordinator_doors((queue, state): Pair, repository: &Repository) -> coordinator::Doors {
    coordinator::Doors {
        queue,
        state,
        objects: Arc::new(RepositoryObjects::new(repository.clone())),
        repository: repository.clone(),
        clock: Arc::new(SystemClock::new()),
        cpu: Cpu::threads(1),
        cache: None,
    }
}

fn worker(number: usize, doors: &coordinator::Doors, tree: &Arc<GeneratedTree>, drain: &Drain) -> Worker {
    let doors = worker::worker::Doors {
        queue: doors.queue.clone(),
        state: doors.state.clone(),
        objects: doors.objects.clone(),
        source: Arc::new(GeneratedSource::new(tree.clone())),
        repository: doors.repository.clone(),
        clock: doors.clock.clone(),
        cpu: doors.cpu.clone(),
        cache: None,
    };
    let worker = WorkerId::new(format!("worker-{number}")).expect("the id of a worker");
    let settings = WorkerSettings { worker, pool: POOL.to_owned(), slots: 2, ..WorkerSettings::default() };
    Worker::new(settings, doors, drain.clone())
}

fn submission(doors: &coordinator::Doors) -> Submission {
    let place = RawName::from(&b"/data"[..]);
    let target = TargetPlace::Target { path: place.clone(), explicit: true };
    let request = BackupRequest {
        targets: vec![TargetNode { name: RawName::from(&b"data"[..]), source: place.clone(), place: target }],
        paths: vec![place],
        hostname: "host".to_owned(),
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
        // Many tasks of little work.
        budget: Budget { changed_entries: 5, entries: 5, bytes: 50_000, ..Budget::default() },
        compression: "auto".to_owned(),
        with_atime: false,
        ignore_ctime: false,
        ignore_inode: false,
        pack_size: 4 << 20,
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

fn settings(submission: &Submission) -> backup::Settings {
    backup::Settings {
        lock: LockRequest {
            exclusive: false,
            hostname: fleet_hostname(&submission.repository),
            username: String::new(),
            pid: 1,
            uid: 0,
            gid: 0,
            job: Some(submission.job.clone()),
            is_alive: |_| true,
        },
        embedded: false,
        retry_lock: None,
        wait_workers: Duration::from_secs(60),
        leadership: None,
    }
}

/// Backs `tree` up into a new repository; each process has doors of its own. `meanwhile` sees the progress.
async fn back_up(tree: &Arc<GeneratedTree>, pairs: Vec<Pair>, meanwhile: impl AsyncFn(&Progress)) -> BackupDone {
    let random = Arc::new(SystemRandom);
    let storage = Arc::new(Memory::new());
    let repository = Repository::init(storage, b"password", KeyOwner::default(), random).await.expect("a repository");
    let mut pairs = pairs.into_iter();
    let doors = coordinator_doors(pairs.next().expect("the coordinator's doors"), &repository);
    let (drain, mut working) = (Drain::default(), JoinSet::new());
    for (number, pair) in pairs.enumerate() {
        let worker = worker(number, &coordinator_doors(pair, &repository), tree, &drain);
        working.spawn(async move { worker.run().await });
    }
    let submission = submission(&doors);
    let (progress, mut seen) = watch::channel(Progress::default());
    let settings = settings(&submission);
    let watching = async {
        while seen.changed().await.is_ok() {
            let progress = seen.borrow_and_update().clone();
            meanwhile(&progress).await;
        }
    };
    let running = async {
        let done = backup::run(&doors, &submission, &settings, &progress).await;
        drop(progress);
        done
    };
    let (done, ()) = futures::join!(running, watching);
    drain.begin();
    for ended in working.join_all().await {
        ended.expect("a worker");
    }
    done.unwrap_or_else(|error| panic!("{}", error.chain()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_a_backup_through_real_doors_survives_a_flush() {
    let shape = TreeSettings { entries: 400, depth_max: 5, file_bytes_max: 30_000, ..TreeSettings::default() };
    let tree = Arc::new(GeneratedTree::from_seed(7, shape));
    let clock = Arc::new(SystemClock::new());
    let local: Pair = (Arc::new(LocalQueue::new(clock.clone())), Arc::new(LocalState::new(clock)));
    let wanted = back_up(&tree, vec![local; 1 + WORKERS], async |_| {}).await;

    let (vhosts, server) = (Vhosts::new("real-run", 1), PrivateRedis::start("real-run", &[]));
    let mut pairs: Vec<Pair> = Vec::new();
    for _ in 0..=WORKERS {
        let (queue, state) = (queue_at(&vhosts.url(0)).await, state_at(&server.url(""), "t").await);
        pairs.push((Arc::new(queue), Arc::new(state)));
    }
    let lost_at = std::sync::Mutex::new(None);
    let meanwhile = async |progress: &Progress| {
        let mut lost_at = lost_at.lock().expect("no panic");
        if progress.tasks_done > 5 && lost_at.is_none() {
            let forever: Vec<_> = server.keys().into_iter().filter(|(_, seconds)| *seconds < 0).collect();
            assert!(forever.is_empty(), "keys without a time to live: {forever:?}");
            server.cli(&["FLUSHALL"]);
            *lost_at = Some(progress.tasks_done);
        }
    };
    let done = back_up(&tree, pairs, meanwhile).await;
    println!("tasks done at the flush and in the end: {lost_at:?} {}", done.progress.tasks_done);
    assert!(lost_at.lock().expect("no panic").is_some_and(|lost_at| lost_at < done.progress.tasks_done));
    assert_eq!(done.tree, wanted.tree);
    let keys = server.keys();
    println!("keys that are left: {keys:?}");
    assert!(keys.iter().all(|(_, seconds)| *seconds > 0), "keys without a time to live: {keys:?}");
}
