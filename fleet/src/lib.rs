//! How work travels: the task queue, the job state, and the real clock and randomness; and how a process of a fleet shows
//! what it does.

pub mod queue;
pub mod state;
pub mod objects;
pub mod cpu;
pub mod clock;
pub mod rand;
pub mod service;
pub mod metrics;
pub mod page;
mod limit;
