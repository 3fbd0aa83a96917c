//! Payloads that are too long for a message: sealed objects of the job, named by the digest of their plain bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use proto::id::{Id, JobId};
use proto::report::Payload;

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

/// Payloads in memory, for one process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryObjects {
    kept: Arc<Mutex<BTreeMap<(JobId, Id), Bytes>>>,
}

#[async_trait]
impl Objects for MemoryObjects {
    async fn put(&self, job: &JobId, plain: Bytes) -> Result<Id, ObjectError> {
        let id = Id::of(&plain);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert((job.clone(), id), plain);
        Ok(id)
    }

    async fn get(&self, job: &JobId, id: &Id) -> Result<Bytes, ObjectError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(job.clone(), *id)).cloned().ok_or_else(|| ObjectError::Missing { job: job.clone(), id: *id })
    }
}
