//! Pulls tasks and does them: pull -> walk -> read -> dedupe -> seal -> pack -> upload -> report.
//!
//! The modules stand in the order in which the data passes them.

pub mod worker;
mod pull;
mod running;
mod job;
mod walk;
mod parent;
mod devices;
mod read;
mod dedupe;
mod pack;
mod upload;
mod tree;
mod pipeline;
mod range;
pub mod restore;
mod check;
mod report;
mod stop;
pub mod error;
pub mod meter;
mod metrics;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod split_tests;
#[cfg(test)]
mod test_site;
