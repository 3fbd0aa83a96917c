//! Payloads that are too long for a message: sealed objects of the job, named by the digest of their plain bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use proto::id::{Id, JobId};
use proto::names::job_payload;
use proto::report::Payload;
use repository::repository::{Repository, RepositoryError};

/// Longer payloads do not travel in a message.
pub const INLINE_BYTES_MAX: usize = 32 << 10;

/// Why a payload cannot be stored or had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ObjectError {
    /// The job has no such payload: its fragments were removed, or never arrived.
    #[error("job {job} has no payload {id}")]
    Missing {
        /// The job.
        job: JobId,
        /// The payload.
        id: Id,
    },
    /// The bytes are not those that the id names.
    #[error("payload {id} of job {job} is damaged")]
    Damaged {
        /// The job.
        job: JobId,
        /// The payload.
        id: Id,
    },
    /// The storage failed.
    #[error("a payload of job {job} cannot be stored or read")]
    Storage {
        /// The job.
        job: JobId,
        /// Whether trying again may help.
        transient: bool,
        /// The cause.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// Where payloads are kept.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Keeps `plain`; keeping it twice is harmless.
    async fn put(&self, job: &JobId, plain: Bytes) -> Result<Id, ObjectError>;

    /// Sees to it that all payloads of `job` outlive this process.
    async fn persist(&self, job: &JobId) -> Result<(), ObjectError>;

    /// The payload `id`.
    async fn get(&self, job: &JobId, id: &Id) -> Result<Bytes, ObjectError>;
}

/// Comforts on top of [`Objects`].
#[async_trait]
pub trait ObjectsExt: Objects {
    /// A payload for `plain`: inline if it is short.
    async fn payload(&self, job: &JobId, plain: Vec<u8>) -> Result<Payload, ObjectError> {
        if plain.len() <= INLINE_BYTES_MAX {
            return Ok(Payload::Inline(plain));
        }
        self.store(job, plain).await
    }

    /// A payload for `plain` that is never inline.
    async fn store(&self, job: &JobId, plain: Vec<u8>) -> Result<Payload, ObjectError> {
        let bytes = plain.len() as u64;
        Ok(Payload::Object { id: self.put(job, plain.into()).await?, bytes })
    }

    /// The bytes that `payload` stands for.
    async fn load(&self, job: &JobId, payload: &Payload) -> Result<Bytes, ObjectError> {
        match payload {
            Payload::Inline(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            Payload::Object { id, .. } => self.get(job, id).await,
        }
    }
}

impl<O: Objects + ?Sized> ObjectsExt for O {}

/// Payloads as sealed objects of the repository.
#[derive(Clone, Debug)]
pub struct RepositoryObjects {
    repository: Repository,
}

impl RepositoryObjects {
    /// Payloads in `repository`.
    pub fn new(repository: Repository) -> Self {
        Self { repository }
    }
}

#[async_trait]
impl Objects for RepositoryObjects {
    async fn put(&self, job: &JobId, plain: Bytes) -> Result<Id, ObjectError> {
        let id = Id::of(&plain);
        match self.repository.put_private(&job_payload(job, &id), &plain).await {
            // The name is the digest of the content.
            Ok(()) | Err(RepositoryError::AlreadyThere { .. }) => Ok(id),
            Err(error) => Err(storage_error(job, error)),
        }
    }

    async fn persist(&self, _job: &JobId) -> Result<(), ObjectError> {
        Ok(())
    }

    async fn get(&self, job: &JobId, id: &Id) -> Result<Bytes, ObjectError> {
        match self.repository.get_private(&job_payload(job, id)).await {
            Ok(Some(plain)) if Id::of(&plain) == *id => Ok(plain.into()),
            Ok(Some(_)) => Err(ObjectError::Damaged { job: job.clone(), id: *id }),
            Ok(None) => Err(ObjectError::Missing { job: job.clone(), id: *id }),
            Err(error) => Err(storage_error(job, error)),
        }
    }
}

fn storage_error(job: &JobId, error: RepositoryError) -> ObjectError {
    ObjectError::Storage { job: job.clone(), transient: error.is_transient(), source: Arc::new(error) }
}

/// Payloads in memory while they are few, for one process: a small backup costs no extra objects. Clones share them.
#[derive(Clone, Debug)]
pub struct EmbeddedObjects {
    beyond: RepositoryObjects,
    kept: Arc<Mutex<Kept>>,
}

/// Payloads beyond this go to the repository.
const KEPT_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
struct Kept {
    payloads: BTreeMap<(JobId, Id), Bytes>,
    bytes: usize,
    /// Everything goes to the repository from now on.
    persistent: bool,
}

impl EmbeddedObjects {
    /// Payloads that go to `repository` when they become many, or have to outlive the process.
    pub fn new(repository: Repository) -> Self {
        Self { beyond: RepositoryObjects::new(repository), kept: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is held; a poisoned lock holds a whole map.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Objects for EmbeddedObjects {
    async fn put(&self, job: &JobId, plain: Bytes) -> Result<Id, ObjectError> {
        {
            let mut kept = self.lock();
            if !kept.persistent && kept.bytes + plain.len() <= KEPT_BYTES_MAX {
                let id = Id::of(&plain);
                kept.bytes += plain.len();
                kept.payloads.insert((job.clone(), id), plain);
                return Ok(id);
            }
        }
        self.beyond.put(job, plain).await
    }

    async fn persist(&self, job: &JobId) -> Result<(), ObjectError> {
        let payloads: Vec<Bytes> = {
            let mut kept = self.lock();
            kept.persistent = true;
            kept.payloads.values().cloned().collect()
        };
        for plain in payloads {
            self.beyond.put(job, plain).await?;
        }
        Ok(())
    }

    async fn get(&self, job: &JobId, id: &Id) -> Result<Bytes, ObjectError> {
        let kept = self.lock().payloads.get(&(job.clone(), *id)).cloned();
        match kept {
            Some(plain) => Ok(plain),
            None => self.beyond.get(job, id).await,
        }
    }
}
