//! The words on the wire: ids, messages, names. No I/O, no clock, no async runtime.

pub mod auth;
pub mod envelope;
pub mod facts;
pub mod follow;
pub mod handles;
pub mod id;
pub mod job;
pub mod name;
pub mod names;
pub mod report;
pub mod restore;
pub mod task;
