//! Looks after a repository as a whole.

pub mod check;
pub mod executor;
