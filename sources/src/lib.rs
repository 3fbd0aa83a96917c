//! What can be backed up: the source door and what stands behind it.
//!
//! Reading path: [`source`] (the door), [`restore_target`] (the door back), [`files`] (both for a file
//! tree on a host), [`generated`] (a file tree made from a seed, for tests and the simulation).

#[cfg(test)]
mod contract;
pub mod files;
pub mod generated;
pub mod names;
pub mod paths;
pub mod patterns;
pub mod restore_target;
mod serialized;
pub mod source;
