//! Azure Blob Storage against its emulator: the storage's contract, whole backups judged by stock restic, credentials, and
//! what a bad network does.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod backups;
mod bad_input;
mod contract;
mod credentials;
mod faults;
mod ground;
mod secrets;
