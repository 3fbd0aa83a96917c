//! A fleet of processes on real services, judged by stock restic and rsync.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod bad_input;
mod commands;
mod dashboard;
mod drain;
mod faults;
mod foreign;
mod ground;
mod intruder;
mod jobs;
mod memory;
mod mid_job;
mod restores;
mod secrets;
mod voyage;
