//! Crashes, stops and hostile neighbours while a job runs.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod beside_restic;
mod moving_files;
mod several_views;
mod unmounted;
