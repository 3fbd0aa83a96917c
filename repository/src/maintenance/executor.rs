//! Where maintenance computes: off the async threads, on as many cores as the caller grants.

use std::sync::Arc;

use proto::handles::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::repository::RepositoryError;

/// Runs work that computes.
pub trait Executor: Send + Sync {
    /// Runs `work`, which does not wait for anything, and completes when it has ended. Work that
    /// was begun goes on to its end even if nobody waits any more; work may be dropped unbegun.
    fn execute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()>;
}

/// The blocking threads of the tokio runtime, at most so many at once.
#[derive(Clone, Debug)]
pub struct BlockingThreads {
    permits: Arc<Semaphore>,
}

impl BlockingThreads {
    /// Computes on at most `cores` threads (at least 1) at once.
    pub fn new(cores: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(cores.max(1))) }
    }
}

impl Executor for BlockingThreads {
    fn execute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
            let bounded = move || {
                let _permit = permit;
                work();
            };
            if let Err(error) = tokio::task::spawn_blocking(bounded).await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        })
    }
}

/// Computes at once, on the caller's thread: repeatable, for tests and the simulation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn execute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            work();
        })
    }
}

/// What a piece of maintenance may use: cores, and memory for what it reads.
#[derive(Clone)]
pub struct Resources {
    executor: Arc<dyn Executor>,
    memory: Arc<Semaphore>,
    memory_bytes: u64,
}

impl Resources {
    /// Bytes read ahead and not yet worked on, when nothing else is said.
    pub const MEMORY_BYTES_DEFAULT: u64 = 64 << 20;

    /// Computes with `executor` and holds at most `memory_bytes` of stored bytes at once; one
    /// larger blob is held alone. Decompressing takes up to 25 MiB more for each thread.
    pub fn new(executor: Arc<dyn Executor>, memory_bytes: u64) -> Self {
        let memory_bytes = memory_bytes.clamp(1, u64::from(u32::MAX));
        // Fits: clamped to 32 bits, which a semaphore can count on 64-bit machines.
        let memory = Arc::new(Semaphore::new(memory_bytes as usize));
        Self { executor, memory, memory_bytes }
    }

    /// Waits until `bytes` may be held. First come, first served, so that large ones get through.
    ///
    /// # Errors
    /// `Stopping`.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, RepositoryError> {
        let bytes = bytes.min(self.memory_bytes) as u32;
        self.memory.clone().acquire_many_owned(bytes).await.map_err(|_| RepositoryError::Stopping)
    }

    /// Does work on the executor.
    ///
    /// # Errors
    /// `Stopping` if the executor dropped the work.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RepositoryError> {
        let (sender, receiver) = oneshot::channel();
        // If nobody listens any more the result is not wanted.
        let deliver = move || drop(sender.send(work()));
        self.executor.execute(Box::new(deliver)).await;
        receiver.await.map_err(|_| RepositoryError::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_executors_give_the_result() {
        for executor in [Arc::new(Inline) as Arc<dyn Executor>, Arc::new(BlockingThreads::new(0))] {
            let resources = Resources::new(executor, 1);
            assert_eq!(resources.compute(|| 7).await.unwrap(), 7);
        }
    }

    #[tokio::test]
    async fn dropped_work_is_an_error() {
        struct Dropping;
        impl Executor for Dropping {
            fn execute(&self, _work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
                Box::pin(async {})
            }
        }
        let error = Resources::new(Arc::new(Dropping), 1).compute(|| 7).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Stopping));
    }

    #[tokio::test]
    async fn more_than_all_memory_is_all_memory() {
        let resources = Resources::new(Arc::new(Inline), 10);
        let all = resources.reserve(1 << 40).await.unwrap();
        assert_eq!(all.num_permits(), 10);
        assert_eq!(resources.memory.available_permits(), 0);
    }
}
