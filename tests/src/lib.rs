//! The black box harness: awkward file trees, stock restic as oracle, rsync as judge of restored trees, and the built
//! `longshore` in an environment of its own.
//!
//! All of it panics with what it was doing when something outside the test fails: a broken harness is a failed test.

pub mod azurite;
pub mod bytes;
pub mod cli;
pub mod compare;
pub mod crafted;
pub mod frozen;
pub mod memory;
pub mod mounts;
pub mod mutate;
pub mod process;
pub mod processes;
pub mod proxy;
pub mod restic;
pub mod scratch;
pub mod services;
pub mod trees;
pub mod views;
