//! The one bridge from the async threads to those that read files and compute.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A bug: the work panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work on another thread panicked")]
pub struct Panicked;

/// Runs blocking and computing work.
#[derive(Clone, Debug)]
pub struct Cpu(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// On the runtime's blocking threads; computing is bounded by the permits.
    Threads(Arc<Semaphore>),
    /// At once, on the caller's thread: repeatable.
    Inline,
}

impl Cpu {
    /// Computes on at most `cores` threads at once.
    pub fn threads(cores: usize) -> Self {
        Self(Kind::Threads(Arc::new(Semaphore::new(cores.max(1)))))
    }

    /// Does everything at once, on the caller's thread.
    pub fn inline() -> Self {
        Self(Kind::Inline)
    }

    /// Runs work that computes.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
        match &self.0 {
            Kind::Inline => {
                tokio::task::yield_now().await;
                Ok(work())
            }
            Kind::Threads(permits) => {
                let permit = permits.clone().acquire_owned().await.map_err(|_| Panicked)?;
                let bounded = move || {
                    let _permit = permit;
                    work()
                };
                tokio::task::spawn_blocking(bounded).await.map_err(|_| Panicked)
            }
        }
    }

    /// Begins work that waits for a disk, to be asked for its result later. Inline, it is done at once.
    pub fn begin_read<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Begun<T> {
        Begun(match &self.0 {
            Kind::Inline => Progress::Done(work()),
            Kind::Threads(_) => Progress::Running(tokio::task::spawn_blocking(work)),
        })
    }

    /// Runs work that waits for a disk.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn read<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
        if let Kind::Inline = &self.0 {
            tokio::task::yield_now().await;
        }
        self.begin_read(work).result().await
    }
}

/// Work that has begun. Goes on to its end, even if nobody asks.
pub struct Begun<T>(Progress<T>);

enum Progress<T> {
    Done(T),
    Running(JoinHandle<T>),
}

impl<T> Begun<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// When the work panicked.
    pub async fn result(self) -> Result<T, Panicked> {
        match self.0 {
            Progress::Done(result) => Ok(result),
            Progress::Running(work) => work.await.map_err(|_| Panicked),
        }
    }
}
