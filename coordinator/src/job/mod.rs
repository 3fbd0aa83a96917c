//! The decisions of a job, as pure code: [`State::apply`] takes one event and returns the effects to perform.
//!
//! # Invariants
//! - A piece of a directory counts only once it is *proven*: every pack that its report wrote is confirmed in storage,
//!   and every blob that it borrowed is in a confirmed pack of this job or in a durable index file.
//! - A directory is assembled when all its pieces are proven; their names ascend strictly.
//! - The snapshot is committed when the root is assembled and every pack of the job is in a durable index file.
//! - The first accepted result of an open task counts; all others are dropped.

mod effect;
mod event;
mod finish;
mod open_files;
mod partial;
mod partitions;
mod progress;
mod proofs;
mod publish;
mod seams;
mod state;
mod views;
#[cfg(test)]
mod state_tests;

pub use effect::Effect;
pub use event::{BlobKey, Event};
pub use partial::{PartialChild, PartialDir};
pub use progress::Progress;
pub use seams::{RangePart, Stitched};
pub use state::{DirKey, FileKey, ReportKey, Settings, State};
