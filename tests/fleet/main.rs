//! A fleet of processes on real services, judged by stock restic and rsync.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod commands;
mod dashboard;
mod jobs;
