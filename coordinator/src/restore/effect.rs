//! What a restore wants done.

use proto::id::{Id, Round, WorkerId};
use proto::name::RawName;
use proto::task::Work;

/// One thing to do. `Publish` and `AdoptMarker` are answered by an event.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few exist at a time")]
pub enum Effect {
    /// Publish a task.
    Publish {
        /// Its id.
        task: Id,
        /// Its round.
        round: Round,
        /// Its stage.
        stage: u32,
        /// What to do.
        work: Work,
        /// Who refused it.
        refused_by: Vec<WorkerId>,
    },
    /// Name the marker in the job's facts.
    AdoptMarker(RawName),
    /// All stages are done.
    Finish,
    /// The job ends early.
    Fail {
        /// One sentence for people.
        reason: String,
    },
    /// The job ends as cancelled.
    Cancel,
}
