//! The command line as a user meets it: what it prints, what it returns.
#![allow(clippy::disallowed_macros, reason = "a test prints what it measured")]

mod damage;
mod default_repository;
mod json_lines;
mod locks;
mod selection;
