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

/// Names of the task queue (DESIGN 6): exchanges, queues, routing keys, headers.
pub mod queue {
    /// Takes submissions.
    pub const JOBS_EXCHANGE: &str = "longshore.jobs";
    /// Takes tasks, by [`task_key`].
    pub const TASKS_EXCHANGE: &str = "longshore.tasks";
    /// Takes tasks that come back after a delay, by [`DELAY_HEADER`]: the routing key stays that of the task.
    pub const RETRY_EXCHANGE: &str = "longshore.retry";
    /// Takes tasks whose delay is over, by [`task_key`].
    pub const DUE_EXCHANGE: &str = "longshore.due";
    /// Takes those of them whose queue is gone.
    pub const STRANDED_EXCHANGE: &str = "longshore.stranded";
    /// Takes what was given up.
    pub const DEAD_EXCHANGE: &str = "longshore.dead";

    /// Submissions, for coordinators.
    pub const SUBMIT_QUEUE: &str = "longshore.jobs.submit";
    /// Tasks that were given up, for people.
    pub const DEAD_TASKS_QUEUE: &str = "longshore.dead.tasks";
    /// Submissions that were given up, for people.
    pub const DEAD_JOBS_QUEUE: &str = "longshore.dead.jobs";
    /// Copies of given up tasks, for coordinators.
    pub const DEAD_NOTICES_QUEUE: &str = "longshore.dead.notices";

    /// Routing key of submissions.
    pub const SUBMIT_KEY: &str = "submit";
    /// Routing key of tasks that were given up.
    pub const DEAD_TASKS_KEY: &str = "tasks";
    /// Routing key of submissions that were given up.
    pub const DEAD_JOBS_KEY: &str = "jobs";
    /// Routing key of notices that nobody could pass on; they go to people only.
    pub const DEAD_NOTICES_KEY: &str = "notices";

    /// Which delay a message is to have.
    pub const DELAY_HEADER: &str = "longshore-delay";
    /// Version of the envelope.
    pub const SCHEMA_HEADER: &str = "longshore-schema";
    /// Whose message it is: a task or job.
    pub const SUBJECT_HEADER: &str = "longshore-task";
    /// The task's round.
    pub const ROUND_HEADER: &str = "longshore-round";
    /// Counts fresh copies.
    pub const ATTEMPT_HEADER: &str = "longshore-attempt";
    /// When a first attempt was published, in milliseconds since 1970; copies do not say.
    pub const FIRST_SEEN_HEADER: &str = "longshore-first-seen";
    /// Short code of the last error.
    pub const ERROR_HEADER: &str = "longshore-last-error";

    /// Routing key of tasks.
    pub fn task_key(pool: &str, class: &str) -> String {
        format!("{pool}.{class}")
    }

    /// The queue of tasks of one pool and class.
    pub fn task_queue(pool: &str, class: &str) -> String {
        format!("longshore.tasks.{pool}.{class}")
    }

    /// The queue in which messages wait for `tier`, such as `5s`.
    pub fn delay_queue(tier: &str) -> String {
        format!("longshore.delay.{tier}")
    }
}

/// Names of the job state (DESIGN 6). Keys of one job, one repository and one registry share a hash tag.
pub mod state {
    use crate::id::{Id, JobId, WorkerId};

    /// The field of a report in its stream.
    pub const REPORT_FIELD: &str = "r";

    /// What stands before every key: several fleets may share a server.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Keys {
        prefix: String,
    }

    impl Default for Keys {
        fn default() -> Self {
            Self::new("longshore")
        }
    }

    impl Keys {
        /// Keys that begin with `prefix`.
        pub fn new(prefix: &str) -> Self {
            Self { prefix: prefix.to_owned() }
        }

        fn job(&self, job: &JobId, what: &str) -> String {
            format!("{}:{{{job}}}:{what}", self.prefix)
        }

        /// The generation of a job's state.
        pub fn generation(&self, job: &JobId) -> String {
            self.job(job, "generation")
        }

        /// The report stream of a job.
        pub fn reports(&self, job: &JobId) -> String {
            self.job(job, "reports")
        }

        /// Who began tasks of a job and has not ended them.
        pub fn starts(&self, job: &JobId) -> String {
            self.job(job, "starts")
        }

        /// That a job is to stop.
        pub fn cancel(&self, job: &JobId) -> String {
            self.job(job, "cancel")
        }

        /// The document for those who follow a job.
        pub fn document(&self, job: &JobId) -> String {
            self.job(job, "state")
        }

        /// The newest jobs of a repository.
        pub fn jobs(&self, repository: &Id) -> String {
            format!("{}:{{{repository}}}:jobs", self.prefix)
        }

        /// A shard of the blobs that running jobs stored in a repository.
        pub fn blobs(&self, repository: &Id, shard: u64) -> String {
            format!("{}:{{{repository}}}:blobs:{shard}", self.prefix)
        }

        /// Who is in the registry of workers.
        pub fn workers(&self) -> String {
            format!("{}:{{worker}}", self.prefix)
        }

        /// What stands before a worker's id in the key of its heartbeat.
        pub fn worker_prefix(&self) -> String {
            format!("{}:{{worker}}:", self.prefix)
        }

        /// Who is in the registry of coordinators.
        pub fn coordinators(&self) -> String {
            format!("{}:{{coordinator}}", self.prefix)
        }

        /// What stands before a coordinator's id in the key of its heartbeat.
        pub fn coordinator_prefix(&self) -> String {
            format!("{}:{{coordinator}}:", self.prefix)
        }

        /// That a worker is to drain.
        pub fn drain(&self, worker: &WorkerId) -> String {
            format!("{}:drain:{worker}", self.prefix)
        }
    }
}
