//! What a process of a fleet needs, as its page shows it.

use std::sync::Arc;

use repository::storage::meter::Counters;

use super::Page;
use crate::metrics::show_queue;
use crate::queue::{LinkStatus, RabbitQueue};
use crate::state::JobState;

/// What is in the way as long as nobody says that it is there.
pub(super) const NEEDED: &[&str] = &["repository", "queue", "state"];

impl Page {
    /// The repository is open; `counters` are those of its storage. It is not asked for again: each request is billed, and
    /// work that needs it is tried again by itself.
    pub fn watch_repository(&self, counters: Arc<Counters>) {
        self.exporter().show_storage(counters);
        self.ready_if("repository", || async { Ok(()) });
    }

    /// The queue is to be connected, and to take publications.
    pub fn watch_queue(&self, queue: &RabbitQueue) {
        let (shown, watched) = (queue.clone(), queue.clone());
        self.exporter().ask(move || show_queue(&shown.status()));
        self.ready_if("queue", move || {
            let status = watched.status();
            let found = judge("consuming", &status.consuming).and_then(|()| judge("publishing", &status.publishing));
            async move { found }
        });
    }

    /// The job state is to answer.
    pub fn watch_state(&self, state: Arc<dyn JobState>) {
        self.ready_if("state", move || {
            let state = state.clone();
            async move { state.coordinators().await.map(drop).map_err(|error| error.to_string()) }
        });
    }

    /// Whoever leaves takes no new work.
    pub fn ready_unless_leaving(&self, is_leaving: impl Fn() -> bool + Send + Sync + 'static) {
        self.ready_if("staying", move || {
            let found = if is_leaving() { Err("it drains and leaves".to_owned()) } else { Ok(()) };
            async move { found }
        });
    }
}

fn judge(role: &str, link: &LinkStatus) -> Result<(), String> {
    match (&link.blocked, link.connected) {
        (_, false) => Err(format!("the connection for {role} is not there")),
        (Some(reason), true) => Err(format!("the broker takes no publications: {reason}")),
        (None, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_ready_when_it_is_there_and_not_blocked() {
        let link = |connected, blocked: Option<&str>| LinkStatus {
            connected,
            blocked: blocked.map(str::to_owned),
            reconnects: 3,
        };
        assert_eq!(judge("consuming", &link(true, None)), Ok(()));
        assert!(judge("consuming", &link(false, None)).unwrap_err().contains("for consuming is not there"));
        assert!(judge("publishing", &link(true, Some("low on memory"))).unwrap_err().ends_with("low on memory"));
    }
}
