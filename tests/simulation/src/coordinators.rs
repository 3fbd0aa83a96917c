//! Coordinators of the fleet that take submissions from the queue, as `longshore coordinator` does.

use std::sync::Arc;
use std::time::Duration;

use coordinator::daemon::{self, Settings, new_coordinator_id};
use coordinator::error::JobError;
use coordinator::leadership::Leadership;
use fleet::queue::{Address, Message, TaskQueue};
use fleet::state::JobState;
use proto::follow::JobDocument;
use proto::id::JobId;
use proto::job::Submission;
use repository::locks::{LockRequest, fleet_hostname};

use crate::actor::Actor;
use crate::site::Site;

/// One of them.
pub struct Coordinator {
    /// Its process.
    pub actor: Arc<Actor>,
    /// Asks it to stop.
    pub leadership: Leadership,
    /// Ends with it; none if it was killed.
    pub ended: tokio::task::JoinHandle<Option<Result<(), JobError>>>,
}

impl Site {
    /// A coordinator begins that knows `pools`.
    pub async fn coordinate(&self, name: &str, pools: &[&str]) -> Coordinator {
        let actor = self.actor(name);
        let doors = self.coordinator_doors(&actor).await;
        let pools = pools.iter().map(|pool| (*pool).to_owned()).collect();
        let leadership = Leadership::new(new_coordinator_id(&doors), pools);
        let settings = Settings {
            lock: LockRequest {
                exclusive: false,
                hostname: fleet_hostname(&doors.repository.id()),
                username: "longshore".to_owned(),
                pid: 1,
                uid: 0,
                gid: 0,
                job: None,
                is_alive: |_| true,
            },
            jobs_at_once: 4,
            retry_lock: None,
            wait_workers: Duration::from_secs(600),
        };
        let (process, led) = (actor.clone(), leadership.clone());
        let ended = tokio::spawn(async move {
            process.live(Box::pin(async move { daemon::run(&doors, &settings, &led).await })).await
        });
        Coordinator { actor, leadership, ended }
    }

    /// Somebody publishes something where submissions are taken from.
    pub async fn publish_submission(&self, body: Vec<u8>) {
        let message = Message { body: body.into(), attempt: 1, last_error: None, subject: "job".to_owned() };
        if let Err(error) = self.fleet().queue.publish(&Address::Jobs, message).await {
            panic!("a queue in memory refuses a submission: {error}");
        }
    }

    /// A program that knows no limits publishes to the jobs queue.
    pub fn publish_foreign(&self, body: Vec<u8>) {
        let message = Message { body: body.into(), attempt: 1, last_error: None, subject: "job".to_owned() };
        self.fleet().queue.put_foreign(message);
    }

    /// Somebody submits a job.
    pub async fn publish_job(&self, submission: &Submission) {
        match serde_json::to_vec(submission) {
            Ok(body) => self.publish_submission(body).await,
            Err(error) => panic!("a submission cannot be encoded: {error}"),
        }
    }

    /// What the job state shows of a job.
    pub async fn document(&self, job: &JobId) -> Option<JobDocument> {
        // Memory does not fail.
        let bytes = self.fleet().state.job_state(job).await.ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Reasons and bodies of submissions that were dead-lettered.
    pub fn dead_submissions(&self) -> Vec<String> {
        let dead = self.fleet().queue.dead();
        let of_jobs = dead.into_iter().filter(|(address, _)| *address == Address::DeadJobs);
        of_jobs.filter_map(|(_, message)| message.last_error).collect()
    }
}
