//! How work travels: the task queue, the job state, and the real clock and randomness.

pub mod queue;
pub mod state;
pub mod objects;
pub mod cpu;
pub mod clock;
pub mod rand;
pub mod service;
mod limit;
