//! Follows a job to its end.
//!
//! # Loss
//! The job state may forget everything. Who has the submission publishes it again when the document has vanished, or has
//! not been written for long: the record in the repository makes that the same job. A coordinator that leads the job, or
//! saw its end, writes its document again within seconds; without the submission that is waited for, and no longer than
//! it takes another coordinator to go on. A job state that does not answer is waited for as long as at the start. Who
//! gives up says how to attach again: the job goes on.
//!
//! # Signals
//! The first one detaches, a second one soon after it cancels the job; then its end is awaited.

use std::time::Duration;

use proto::follow::{JobDocument, JobPhase};
use proto::handles::UnixTime;
use proto::id::JobId;
use proto::job::Submission;

use super::publish;
use crate::exit::CommandError;
use crate::fleet_doors::FleetDoors;
use crate::progress::{Display, Sample};
use crate::session::Session;
use crate::signals::Signals;

/// How often the document is read.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A document of an open job that was not written for so long tells nothing any more.
const STALE_AFTER: Duration = Duration::from_secs(45);
/// Another coordinator has found a job that nobody leads by then, and has written its document.
const FOUND_AGAIN_WITHIN: Duration = Duration::from_secs(60);
/// A submission is published again no more often.
const PUBLISHED_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// What comes within this time is one signal: a shell and a wrapper may both send it.
const ONE_SIGNAL: Duration = Duration::from_millis(300);
/// How long a second signal is waited for.
const SECOND_SIGNAL_WITHIN: Duration = Duration::from_secs(3);

/// What is followed.
pub(crate) struct Followed {
    /// The job.
    pub(crate) job: JobId,
    /// What was submitted, by whoever did so.
    pub(crate) submission: Option<Submission>,
    /// How long a job that nobody knows is waited for, and a service that does not answer.
    pub(crate) within: Duration,
}

/// A job's document.
pub(crate) fn decode(bytes: &[u8]) -> Option<JobDocument> {
    serde_json::from_slice(bytes).ok()
}

/// Follows a job, and whatever goes on in its place; returns its last document.
///
/// # Errors
/// `Detached`; nobody knows the job; nothing is heard of it any more; the job state refuses access.
pub(crate) async fn follow(
    session: &Session,
    doors: &FleetDoors,
    followed: Followed,
) -> Result<JobDocument, CommandError> {
    let mut signals = Signals::listen()?;
    let mut follower = Follower::new(session, doors, followed);
    loop {
        tokio::select! {
            biased;
            () = signals.stop() => follower.interrupt(&mut signals).await?,
            () = session.clock.sleep(LOOK_EVERY) => {
                if let Some(end) = follower.look().await? {
                    session.output.end_progress();
                    return Ok(end);
                }
            }
        }
    }
}

/// What is to be done about the document that was just read.
#[derive(Debug, PartialEq)]
enum Step {
    /// Nothing: the job goes on.
    Wait,
    /// It is over.
    End,
    /// Another job goes on in its place.
    GoOn(JobId),
    /// Nobody has said anything for too long.
    Missed,
}

/// How old news of the job are.
struct News {
    /// When the document that was read last was written, by its writer's clock.
    written_at: Option<UnixTime>,
    /// When that was seen first.
    seen_at: Duration,
}

impl News {
    fn judge(&mut self, document: Option<&JobDocument>, now: Duration) -> Step {
        let Some(document) = document else { return Step::Missed };
        if let Some(by) = &document.superseded_by {
            return Step::GoOn(by.clone());
        }
        if document.state.is_final() {
            return Step::End;
        }
        if self.written_at != Some(document.updated_at) {
            (self.written_at, self.seen_at) = (Some(document.updated_at), now);
        }
        let is_stale = now.saturating_sub(self.seen_at) >= STALE_AFTER;
        // What waits for its turn may wait for long without anybody writing.
        if is_stale && document.state != JobPhase::Queued { Step::Missed } else { Step::Wait }
    }
}

struct Follower<'a> {
    session: &'a Session,
    doors: &'a FleetDoors,
    followed: Followed,
    news: News,
    began_at: Duration,
    published_at: Duration,
    was_seen: bool,
    /// Since when there is no document.
    gone_since: Silence,
    /// Since when the document that is there is an old one.
    stale_since: Silence,
    is_cancelling: bool,
    display: Display,
    shown_at: Option<Duration>,
    /// Since when the job state does not answer.
    away_since: Silence,
}

/// Since when something is missed.
#[derive(Debug, Default)]
struct Silence(Option<Duration>);

impl Silence {
    /// It is missed now: whether that lasts for `limit`.
    fn lasts(&mut self, now: Duration, limit: Duration) -> bool {
        now >= *self.0.get_or_insert(now) + limit
    }

    fn is_new(&self) -> bool {
        self.0.is_none()
    }

    /// It is missed now: whether for the first time.
    fn begins(&mut self, now: Duration) -> bool {
        let is_new = self.is_new();
        self.0.get_or_insert(now);
        is_new
    }

    fn end(&mut self) {
        self.0 = None;
    }
}

impl<'a> Follower<'a> {
    fn new(session: &'a Session, doors: &'a FleetDoors, followed: Followed) -> Self {
        let now = session.clock.monotonic();
        Self {
            session,
            doors,
            followed,
            news: News { written_at: None, seen_at: now },
            began_at: now,
            published_at: now,
            was_seen: false,
            gone_since: Silence::default(),
            stale_since: Silence::default(),
            is_cancelling: false,
            display: Display::new(session.output.clone()),
            shown_at: None,
            away_since: Silence::default(),
        }
    }

    /// Looks once; returns the last document once the job is over.
    async fn look(&mut self) -> Result<Option<JobDocument>, CommandError> {
        let read = self.doors.state.job_state(&self.followed.job).await;
        let now = self.session.clock.monotonic();
        let document = match read {
            Ok(bytes) => bytes.and_then(|bytes| decode(&bytes)),
            Err(error @ fleet::state::StateError::Unavailable { .. }) => {
                if self.away_since.is_new() {
                    self.session.output.warn(format_args!("nothing is heard of the job: {error}"));
                }
                if self.away_since.lasts(now, self.followed.within) {
                    return Err(self.lost(error.to_string()));
                }
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if !self.away_since.is_new() {
            self.away_since.end();
            self.news.seen_at = now; // what nobody could read was not silence
        }
        if document.is_some() {
            self.was_seen = true;
            self.gone_since.end();
        }
        match self.news.judge(document.as_ref(), now) {
            Step::End => return Ok(document),
            Step::GoOn(by) => {
                self.session.output.note(format_args!("job {} goes on as {by}", self.followed.job));
                if let Some(submission) = &mut self.followed.submission {
                    (submission.job, submission.idempotency_key) = (by.clone(), None);
                }
                self.followed.job = by;
                self.news = News { written_at: None, seen_at: now };
                self.published_at = now;
            }
            Step::Missed => self.miss(document.is_none(), now).await?,
            Step::Wait => self.stale_since.end(),
        }
        if let Some(document) = &document {
            self.show(document, now);
        }
        Ok(None)
    }

    fn lost(&self, why: String) -> CommandError {
        self.session.output.end_progress();
        CommandError::Lost { job: self.followed.job.clone(), why }
    }

    /// Nothing is heard of the job: `is_gone`, not even something old.
    async fn miss(&mut self, is_gone: bool, now: Duration) -> Result<(), CommandError> {
        if !is_gone && self.stale_since.begins(now) {
            self.session.output.warn(format_args!(
                "no coordinator has written about job {} for {} s; it goes on once one runs (Ctrl-C stops waiting)",
                self.followed.job,
                STALE_AFTER.as_secs()
            ));
        }
        let Some(submission) = &self.followed.submission else {
            if !self.was_seen && now >= self.began_at + self.followed.within {
                return Err(CommandError::NoJob { job: self.followed.job.clone() });
            }
            let limit = self.followed.within.max(FOUND_AGAIN_WITHIN);
            if self.was_seen && is_gone && self.gone_since.lasts(now, limit) {
                return Err(self.lost("the fleet's state forgot it, and no coordinator writes it again".to_owned()));
            }
            return Ok(());
        };
        if now < self.published_at + PUBLISHED_AGAIN_AFTER {
            return Ok(());
        }
        self.published_at = now;
        if is_gone {
            self.session.output.warn("the fleet's state forgot the job; it is submitted again, and stays one job");
        }
        match publish(self.session, self.doors, submission, Duration::ZERO).await {
            Err(CommandError::Queue(error)) => {
                tracing::warn!(%error, "it cannot be submitted now");
                Ok(())
            }
            published => published,
        }
    }

    fn show(&mut self, document: &JobDocument, now: Duration) {
        let Some(interval) = self.session.output.progress_interval() else { return };
        let is_due = self.shown_at.is_none_or(|at| now >= at + interval);
        if !is_due || document.state != JobPhase::Running {
            return;
        }
        self.shown_at = Some(now);
        let progress = &document.progress;
        let started_at = progress.started_at.unwrap_or(document.submitted_at);
        let sample = Sample {
            elapsed: document.updated_at.since(started_at),
            entries: progress.entries,
            bytes_done: progress.bytes_done,
            bytes_read: progress.bytes_read,
            bytes_stored: progress.bytes_stored,
            partitions_done: progress.tasks_done,
            partitions_open: progress.tasks_open,
        };
        self.display.show(sample, progress.bytes_total);
    }

    /// Detaches, or cancels the job if another signal follows.
    async fn interrupt(&mut self, signals: &mut Signals) -> Result<(), CommandError> {
        let job = self.followed.job.clone();
        let detached = CommandError::Detached { job: job.clone() };
        if self.is_cancelling {
            return Err(detached);
        }
        let clock = &self.session.clock;
        let first_at = clock.monotonic();
        self.session.output.end_progress();
        self.session.output.note("detaches; a second Ctrl-C cancels the job");
        loop {
            let left = (first_at + SECOND_SIGNAL_WITHIN).saturating_sub(clock.monotonic());
            tokio::select! {
                biased;
                () = signals.stop() => {}
                () = clock.sleep(left) => return Err(detached),
            }
            if clock.monotonic() >= first_at + ONE_SIGNAL {
                break;
            }
        }
        self.doors.state.request_cancel(&job).await?;
        self.is_cancelling = true;
        self.session.output.note(format_args!("cancels job {job}, and waits for its end"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::id::Id;
    use proto::job::{CheckRequest, Request};

    use super::*;

    fn document(state: JobPhase, second: i64) -> JobDocument {
        let submission = Submission {
            job: JobId::new("j").unwrap(),
            repository: Id::of(b"r"),
            idempotency_key: None,
            pool: "default".to_owned(),
            submitted_at: UnixTime::default(),
            request: Request::Check(CheckRequest::default()),
        };
        JobDocument { state, ..JobDocument::queued(&submission, UnixTime::from_seconds(second)) }
    }

    #[test]
    fn a_silence_is_one_from_its_beginning_to_its_end() {
        let (mut silence, limit) = (Silence::default(), Duration::from_secs(30));
        let second = Duration::from_secs;
        assert!(silence.is_new() && !silence.lasts(second(100), limit));
        assert!(!silence.is_new() && !silence.lasts(second(129), limit));
        assert!(silence.lasts(second(130), limit));
        assert!(!silence.begins(second(130)));
        silence.end();
        assert!(silence.begins(second(131)) && !silence.lasts(second(131), limit), "another one begins");
    }

    #[test]
    fn old_news_are_no_news() {
        let mut news = News { written_at: None, seen_at: Duration::ZERO };
        let mut judge = |document: Option<&JobDocument>, seconds| news.judge(document, Duration::from_secs(seconds));
        assert_eq!(judge(None, 0), Step::Missed);
        let running = |second| document(JobPhase::Running, second);
        assert_eq!(judge(Some(&running(5)), 100), Step::Wait);
        assert_eq!(judge(Some(&running(5)), 144), Step::Wait);
        assert_eq!(judge(Some(&running(5)), 145), Step::Missed);
        assert_eq!(judge(Some(&running(6)), 146), Step::Wait);
        let waiting = document(JobPhase::Queued, 7);
        assert_eq!(judge(Some(&waiting), 147), Step::Wait);
        assert_eq!(judge(Some(&waiting), 10_000), Step::Wait);
        assert_eq!(judge(Some(&document(JobPhase::Failed, 8)), 10_001), Step::End);
        let by = JobId::new("k").unwrap();
        let superseded = JobDocument { superseded_by: Some(by.clone()), ..document(JobPhase::Superseded, 9) };
        assert_eq!(judge(Some(&superseded), 10_002), Step::GoOn(by));
    }
}
