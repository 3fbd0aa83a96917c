//! The words on the wire: ids, messages, names. No I/O, no clock, no async runtime.

pub mod handles;
pub mod id;
