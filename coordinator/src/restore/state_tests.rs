//! Decisions of a restore.
