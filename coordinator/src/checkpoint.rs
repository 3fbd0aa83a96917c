//! What a checkpoint holds: all that a successor needs to go on as if it had led the job from the start (DESIGN 3.7).
//!
//! # What it covers
//! Every report up to `position` is in `state`: settled partitions, splits, and unsettled results with what they still
//! need. An effect that was begun and has no answer stands in `under_way`; doing it again is harmless. Trees of
//! directories that are finished in `state` are in durable packs.
//!
//! # What it leaves out
//! What packs hold: a successor reads that from the index files and from the packs' headers ([`crate::session`]).

use fleet::state::Position;
use proto::id::Id;
use serde::{Deserialize, Serialize};

use crate::assemble::Figures;
use crate::error::JobError;
use crate::job::{Effect, State};

/// One checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The decisions so far.
    pub(crate) state: State,
    /// Effects without an answer, in the order in which they were begun.
    pub(crate) under_way: Vec<Effect>,
    /// The generation of the job state that was read.
    pub(crate) generation: u64,
    /// Up to where its reports were read.
    pub(crate) position: Position,
    /// The facts in force.
    pub(crate) facts: Id,
    /// What the coordinator stored itself.
    pub(crate) figures: Figures,
    /// Index files that were written.
    pub(crate) index_files: u64,
    /// The lock file that the job is under.
    pub(crate) lock: Id,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, JobError> {
        rmp_serde::to_vec_named(self).map_err(|error| JobError::internal("a checkpoint", &error))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, JobError> {
        rmp_serde::from_slice(bytes).map_err(|error| JobError::internal("a checkpoint", &error))
    }
}
