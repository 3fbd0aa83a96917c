//! The restic repository format, version 2, read and written; version 1 read.
//!
//! Usable without the fleet.

pub mod blob_index;
pub mod chunker;
pub mod crypto;
pub mod format;
pub mod locks;
pub mod maintenance;
pub mod pack_writer;
pub mod repository;
pub mod seal;
pub mod storage;

#[cfg(test)]
mod test_random;
#[cfg(test)]
mod stock_restic_tests;
