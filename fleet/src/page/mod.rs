//! The page of a process of a fleet: `/metrics`, `/healthz`, `/readyz`, for those who watch over it.
//!
//! # Who serves
//! A thread of its own: it answers also when the event loop of the process stands still, and says so. What it serves is
//! kept ready; asking often costs nobody anything.
//!
//! # What may leak
//! The page has no password and asks for none: figures, names of data sets, and addresses of services without users and
//! passwords. Whom it is open to is the matter of the address it listens at.

mod health;
mod serve;
mod services;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use proto::handles::Clock;
use tokio::task::AbortHandle;

use self::health::Health;
use self::services::NEEDED;
use crate::metrics::{Exporter, ExporterError, Role};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing can be counted.
    #[error("nothing can be counted")]
    Exporter(#[from] ExporterError),
}

/// A page that is served until this is dropped.
pub struct Page {
    address: SocketAddr,
    exporter: Arc<Exporter>,
    health: Arc<Health>,
    watching: Vec<AbortHandle>,
    /// Dropped, it ends the thread that serves.
    _serving: tokio::sync::oneshot::Sender<()>,
}

impl Page {
    /// Serves at `address`, and counts from now on. Within the runtime whose health it tells. The process is not ready
    /// before repository, queue and job state are there, and are watched.
    ///
    /// # Errors
    /// Somebody else listens there; this process has a page already.
    pub fn open(address: SocketAddr, role: Role, pools: &[String], clock: Arc<dyn Clock>) -> Result<Self, PageError> {
        let listening = listen(address)?;
        Self::serve(listening, Exporter::install(role, pools)?, role, NEEDED, clock)
    }

    fn serve(
        (listener, address): (TcpListener, SocketAddr),
        exporter: Exporter,
        role: Role,
        needed: &'static [&'static str],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PageError> {
        let (exporter, health) = (Arc::new(exporter), Arc::new(Health::new(clock, needed)));
        let (serving, stop) = tokio::sync::oneshot::channel();
        serve::begin(listener, exporter.clone(), health.clone(), stop)
            .map_err(|source| PageError::Listen { address, source })?;
        let shows_lag = role == Role::Coordinator;
        let watching = vec![
            tokio::spawn(health::pulse(health.clone(), exporter.clone(), shows_lag)).abort_handle(),
            tokio::spawn(health::look(health.clone())).abort_handle(),
        ];
        Ok(Self { address, exporter, health, watching, _serving: serving })
    }

    /// Where it is served: the port that was chosen, if none was named.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What counts.
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// The process is ready only while `check` finds no fault. It is asked every few seconds and has as long to answer;
    /// its words are on the page.
    pub fn ready_if<F>(&self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.health.add(name, Box::new(move || Box::pin(check())));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.watching.iter().for_each(AbortHandle::abort);
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), PageError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    listen().map_err(|source| PageError::Listen { address, source })
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
