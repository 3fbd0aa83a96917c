//! A repository's lock files in memory behind a storage that fails by plan.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use proto::handles::Clock;
use proto::id::{Id, JobId};

use super::error::LockError;
use super::files::LockFiles;
use super::take::Taker;
use super::test_clock::VirtualClock;
use super::{LockRequest, RepositoryLock};
use crate::crypto::MasterKey;
use crate::format::config::RepositoryVersion;
use crate::format::lock::Lock;
use crate::seal::{Compression, Sealer, open_file};
use crate::storage::faulty::{Call, Fault, Faulty};
use crate::storage::{Memory, Operation, Storage};
use crate::test_random::SeededRandom;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) struct Site {
    pub(super) clock: VirtualClock,
    pub(super) memory: Memory,
    pub(super) faulty: Arc<Faulty>,
    pub(super) sealer: Sealer,
}

impl Site {
    pub(super) fn new() -> Self {
        Self::with_seed(1)
    }

    pub(super) fn with_seed(seed: u64) -> Self {
        static KEY: OnceLock<Arc<MasterKey>> = OnceLock::new();
        let key = KEY.get_or_init(|| Arc::new(MasterKey::generate(&SeededRandom::new(0)).unwrap()));
        let random = Arc::new(SeededRandom::new(seed));
        let sealer = Sealer::new(key.clone(), RepositoryVersion::V2, Compression::Auto, random);
        let clock = VirtualClock::default();
        let memory = Memory::new();
        let faulty = Faulty::new(Arc::new(memory.clone()), Arc::new(clock.clone()), |_| Fault::None);
        Self { clock, memory, faulty: Arc::new(faulty), sealer }
    }

    pub(super) fn files(&self) -> LockFiles {
        self.files_of(self.faulty.clone())
    }

    /// The lock files through a storage of the test's own.
    pub(super) fn files_of(&self, storage: Arc<dyn Storage>) -> LockFiles {
        LockFiles::new(storage, self.sealer.clone())
    }

    pub(super) async fn take(&self, request: LockRequest) -> Result<RepositoryLock, LockError> {
        self.take_within(request, None).await
    }

    pub(super) async fn take_within(
        &self,
        request: LockRequest,
        retry_for: Option<Duration>,
    ) -> Result<RepositoryLock, LockError> {
        let taker = Taker::new(self.files(), request, Arc::new(self.clock.clone()));
        self.clock.drive(taker.take(retry_for)).await
    }

    /// The lock files that are stored, by name, opened.
    pub(super) fn locks(&self) -> Vec<(Id, Lock)> {
        let content = self.memory.content().into_iter();
        let open = |(name, stored): (String, Bytes)| {
            let json = open_file(self.sealer.key(), &stored).unwrap();
            (name.strip_prefix("locks/").unwrap().parse().unwrap(), Lock::decode(&json).unwrap())
        };
        content.map(open).collect()
    }

    /// The ids of the lock files that are stored.
    pub(super) fn ids(&self) -> Vec<Id> {
        self.memory.content().keys().map(|name| name.strip_prefix("locks/").unwrap().parse().unwrap()).collect()
    }

    /// Seals the JSON of somebody else's lock.
    pub(super) fn foreign(&self, json: &str) -> (Id, Bytes) {
        let sealed = self.sealer.seal_file(json.as_bytes()).unwrap();
        (Id::of(&sealed), sealed.into())
    }

    /// Puts somebody else's lock into the storage.
    pub(super) fn plant(&self, json: &str) -> Id {
        let (id, sealed) = self.foreign(json);
        self.memory.tamper(&LockFiles::name(&id), Some(sealed));
        id
    }

    /// Takes a lock file out of the storage.
    pub(super) fn remove(&self, id: &Id) {
        self.memory.tamper(&LockFiles::name(id), None);
    }

    /// Lets `act` see the calls of one kind from now on, by how many of the kind were made before;
    /// what it gives back befalls the call.
    pub(super) fn on(&self, operation: Operation, mut act: impl FnMut(u64, &Call) -> Fault + Send + 'static) {
        let mut made = 0;
        self.faulty.replace_plan(move |call| {
            if call.operation != operation {
                return Fault::None;
            }
            made += 1;
            act(made - 1, call)
        });
    }

    /// How many calls of one kind were made.
    pub(super) fn calls(&self, operation: Operation) -> usize {
        self.faulty.records().iter().filter(|record| record.call.operation == operation).count()
    }
}

/// What restic writes for a lock of this site's start.
pub(super) fn restic_lock(exclusive: bool, pid: u32, clock: &VirtualClock) -> String {
    let time = jiff::Timestamp::from_second(clock.now().seconds).unwrap();
    format!(r#"{{"time":"{time}","exclusive":{exclusive},"hostname":"harbour","username":"root","pid":{pid},"uid":7}}"#)
}

pub(super) fn request(exclusive: bool) -> LockRequest {
    LockRequest {
        exclusive,
        hostname: "pier".to_owned(),
        username: "keeper".to_owned(),
        pid: 4711,
        uid: 0,
        gid: 100,
        job: None,
        is_alive: |_| true,
    }
}

pub(super) fn of_job(exclusive: bool, job: &str) -> LockRequest {
    LockRequest {
        hostname: super::fleet_hostname(&Id::of(b"repository")),
        job: Some(JobId::new(job).unwrap()),
        ..request(exclusive)
    }
}
