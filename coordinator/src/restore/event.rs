//! What happens to a restore.

use std::collections::BTreeSet;

use proto::id::{Id, Round, WorkerId};
use proto::report::{DeadReport, ResultReport};
use proto::restore::{LinkedFile, NamedNode};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job begins.
    Started,
    /// Time went on.
    Tick,
    /// Who lives, what they hold, and how many tasks they can do at once.
    Workers {
        /// Every live worker.
        live: BTreeSet<WorkerId>,
        /// The (task, round)s in their heartbeats.
        holds: BTreeSet<(Id, Round)>,
        /// Sum of their slots.
        slots: u32,
    },
    /// A worker's result, verified, its lists read.
    Result {
        /// The result.
        report: Box<ResultReport>,
        /// Directories that get their metadata in a later stage.
        directories: Vec<NamedNode>,
        /// Files with names in other scopes.
        linked: Vec<LinkedFile>,
    },
    /// A task reached the dead letters.
    Dead(DeadReport),
    /// The message was confirmed.
    Published,
    /// The facts with the marker are in force.
    MarkerAdopted,
    /// Somebody asked to cancel.
    CancelRequested,
    /// The job's state was lost: messages may be, too.
    StateLost,
}
