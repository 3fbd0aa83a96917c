//! Pure bytes to values and back, one file per kind of thing that a restic repository holds.
//!
//! What is written equals, byte for byte, what stock restic 0.19.1 writes for the same facts; what is
//! read is anything restic reads. No I/O but through the readers and writers that are passed in.
//! `docs/format.md` has the facts that are easy to get wrong.

pub mod config;
pub mod index;
pub mod json;
pub mod key;
pub mod lock;
pub mod node;
pub mod node_time;
pub mod pack;
mod printable;
pub mod quote;
pub mod snapshot;
pub mod tree;
pub mod zone;
