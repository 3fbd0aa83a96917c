//! Pure bytes to values and back, one file per kind of object.

pub mod config;
pub mod index;
pub mod key;
pub mod lock;
pub mod pack;
