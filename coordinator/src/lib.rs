//! Accepts jobs, splits data sets, publishes tasks, collects reports, assembles trees, commits snapshots.
//!
//! The modules stand in the order in which a job passes them.

pub mod daemon;
pub mod backup;
pub mod restore;
pub mod check;
pub mod takeover;
pub mod abandoned;
mod parent;
mod resume;
mod record;
mod found_record;
mod checkpoint;
mod plain_record;
mod heartbeat;
pub mod leadership;
mod living;
mod lead;
pub mod job;
mod run;
mod publish;
mod waiting;
mod perform;
mod collect;
mod session;
mod assemble;
mod commit;
pub mod metrics;
pub mod summary;
pub mod choose;
pub mod error;

use std::path::PathBuf;
use std::sync::Arc;

use fleet::cpu::Cpu;
use fleet::objects::Objects;
use fleet::queue::TaskQueue;
use fleet::state::JobState;
use proto::handles::Clock;
use repository::repository::Repository;

/// What a coordinator works with. Cheap to clone.
#[derive(Clone)]
pub struct Doors {
    /// Where tasks go to.
    pub queue: Arc<dyn TaskQueue>,
    /// Where reports come from.
    pub state: Arc<dyn JobState>,
    /// Where long payloads are.
    pub objects: Arc<dyn Objects>,
    /// What is written.
    pub repository: Repository,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Threads.
    pub cpu: Cpu,
    /// Where indexes are kept between jobs; nowhere without it.
    pub cache: Option<PathBuf>,
}
