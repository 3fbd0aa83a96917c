//! The restic repository format, version 2, read and written; version 1 read.
//!
//! Usable without the fleet.

pub mod format;
pub mod storage;
