//! The real coordinator and the real workers, in simulated time, with everything going wrong that can.
//!
//! A seed decides everything: data set, fleet, faults, kills, order. After each run the repository is judged
//! ([`oracle`]). A seed that fails is repeated by `cargo run --profile sim -p simulation -- --seed N`.

pub mod actor;
pub mod clock;
pub mod coordinators;
pub mod data;
pub mod dice;
pub mod doors;
pub mod entropy;
pub mod faults;
pub mod happenings;
pub mod heirs;
pub mod janitor;
pub mod leftovers;
pub mod oracle;
pub mod panics;
pub mod plan;
pub mod reference;
pub mod run;
#[cfg(test)]
mod scenarios;
pub mod site;
pub mod trace;
