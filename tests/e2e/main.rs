//! Whole backups and restores, judged by stock restic and rsync.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod adoption;
mod bad_input;
mod flags;
mod harness;
mod memory;
mod hostile;
mod round_trip;
mod same_tree;
mod second_run;
mod unreadable;
mod version_one;
