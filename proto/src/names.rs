//! Every name that others can see: exchanges, queues, keys, objects. The only place with such literals.

use crate::id::{Epoch, Id, JobId};

/// Where our own sealed objects live in the container; restic leaves it alone.
pub const PRIVATE_PREFIX: &str = "longshore/";
/// Folder of the job records, within [`PRIVATE_PREFIX`] as all names of private objects here.
pub const JOBS_PREFIX: &str = "jobs/";

/// The name under which the storage has a private object.
pub fn stored(private: &str) -> String {
    format!("{PRIVATE_PREFIX}{private}")
}

/// Folder of one job's record.
pub fn job_prefix(job: &JobId) -> String {
    format!("{JOBS_PREFIX}{job}/")
}

/// One of the create-only objects of a job's record.
pub fn job_record(job: &JobId, record: Record) -> String {
    let prefix = job_prefix(job);
    match record {
        Record::Submitted => format!("{prefix}submitted"),
        Record::Start => format!("{prefix}start"),
        Record::Epoch(epoch) => format!("{prefix}epoch-{epoch:08}"),
        Record::Checkpoint(epoch, number) => format!("{prefix}checkpoint-{epoch:08}-{number:08}"),
        Record::Commit => format!("{prefix}commit"),
        Record::Result => format!("{prefix}result"),
    }
}

/// The objects of a job's record (DESIGN 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The submission.
    Submitted,
    /// Lock, G, parent, zone.
    Start,
    /// Creating it is taking the job over.
    Epoch(Epoch),
    /// What is finished, by epoch and number.
    Checkpoint(Epoch, u64),
    /// The finished bytes of the snapshot file, or how the job ended without one.
    Commit,
    /// How it ended.
    Result,
}

/// A payload that was too long for a message.
pub fn job_payload(job: &JobId, payload: &Id) -> String {
    format!("{}payload/{payload}", job_prefix(job))
}

/// Markers of restores in their target directory.
pub const RESTORE_MARKER_PREFIX: &str = ".longshore-restore-";

/// The marker that a worker puts into the target of a restore.
pub fn restore_marker(job: &JobId, number: u64) -> String {
    format!("{RESTORE_MARKER_PREFIX}{job}-{number:016x}")
}
