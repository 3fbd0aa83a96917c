//! The restic repository format, version 2, read and written; version 1 read.
//!
//! Usable without the fleet.

// What every byte goes through: packages of their own, so that they are optimised in tests too.
pub use {chunker, crypto};

pub mod blob_index;
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
