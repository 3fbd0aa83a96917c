//! Whole backups and restores, judged by stock restic and rsync.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod harness;
