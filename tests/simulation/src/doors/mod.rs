//! The doors as one process of the site has them: with faults, delays and its own death.

mod locks;
mod queue;
mod state;
mod storage;
mod witness;

use std::fmt::Arguments;
use std::future::Future;
use std::sync::Arc;

use proto::handles::Clock;

use crate::actor::Actor;
use crate::clock::SimClock;
use crate::faults::Faults;
use crate::trace::Trace;

pub use locks::Held;
pub use queue::{Published, SimQueue};
pub use state::SimState;
pub use storage::SimStorage;
pub use witness::Witness;

/// What the doors of one process have to do with each other.
#[derive(Clone, Debug)]
pub struct Way {
    /// Whose doors they are.
    pub actor: Arc<Actor>,
    /// Time.
    pub clock: Arc<SimClock>,
    /// What goes wrong.
    pub faults: Arc<Faults>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// Who sees everything.
    pub witness: Arc<Witness>,
}

impl Way {
    /// A call is on its way out.
    async fn out(&self) {
        self.actor.point().await;
        self.clock.sleep(self.faults.latency()).await;
    }

    /// An answer is on its way back.
    async fn back(&self) {
        self.clock.sleep(self.faults.latency()).await;
        self.actor.point().await;
    }

    /// Something that happens once it is on its way, whether or not its sender lives to see it.
    async fn on_its_way<T: Send + 'static>(&self, effect: impl Future<Output = T> + Send + 'static) -> T {
        self.actor.point().await;
        let latency = self.clock.sleep(self.faults.latency());
        let sent = tokio::spawn(async move {
            latency.await;
            effect.await
        });
        match sent.await {
            Ok(answer) => answer,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Something that happens later, and nobody waits for it.
    fn later(&self, after: std::time::Duration, effect: impl Future<Output = ()> + Send + 'static) {
        let sleep = self.clock.sleep(after);
        tokio::spawn(async move {
            sleep.await;
            effect.await;
        });
    }

    fn note(&self, what: Arguments<'_>) {
        self.trace.note(self.actor.name(), what);
    }
}
