//! Lets a fleet do the work: submits a job, follows it to its end, and says what came of it as if it had been done here.
//!
//! A submission goes through the message broker, all that is seen of the job comes from the job state; the repository is
//! not needed.

mod follow;
mod registry;
mod submit;

use std::time::Duration;

use clap::Args;
use coordinator::summary::{BackupSummary, CheckSummary, RestoreSummary};
use proto::follow::{FailureClass, JobDocument, JobFailure, JobKind, JobPhase};
use proto::id::Id;
use proto::job::Request;
use serde::de::DeserializeOwned;
use serde_json::json;

pub(crate) use self::follow::{Followed, decode, follow};
pub(crate) use self::registry::coordinators;
pub(crate) use self::submit::{publish, submission};
use crate::commands::{Ended, backup, check, restore};
use crate::exit::{CommandError, ExitStatus};
use crate::session::Session;

/// How a fleet is reached.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Through a fleet")]
pub(crate) struct ConnectFlags {
    /// How long to wait for the services of the fleet, and for a coordinator (30s, 5m).
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) connect_timeout: Duration,

    /// The repository, where coordinators of several share the services; `longshore worker list` shows ids.
    #[arg(long, value_name = "ID")]
    pub(crate) repository_id: Option<Id>,
}

/// How a job is submitted.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Through a fleet")]
pub(crate) struct SubmitFlags {
    /// The workers that shall do it.
    #[arg(long, value_name = "POOL", default_value = crate::embedded::POOL)]
    pub(crate) pool: String,

    /// Print the job's id and do not wait for its end.
    #[arg(long)]
    pub(crate) detach: bool,

    /// Submissions with the same key are the same job: whoever submits again attaches to it.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,

    /// How long to wait for a live worker of the pool.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub(crate) wait_workers: Duration,

    #[command(flatten)]
    pub(crate) connect: ConnectFlags,
}

/// `90`, `90s`, `5m` or `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix(|unit: char| unit.is_ascii_alphabetic()) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds: Option<u64> = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let seconds = number.zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is no time; write it like 30s, 5m or 2h"))
}

/// Submits a job and, unless only that was asked for, follows it to its end.
pub(crate) async fn submit_and_follow(session: &Session, flags: &SubmitFlags, request: Request) -> Ended {
    let doors = session.connect(flags.connect.connect_timeout).await?;
    let submission = submission(session, &doors, flags, request).await?;
    publish(session, &doors, &submission, flags.connect.connect_timeout).await?;
    if flags.detach {
        return print_id(session, &submission.job);
    }
    let followed =
        Followed { job: submission.job.clone(), submission: Some(submission), within: flags.connect.connect_timeout };
    let document = Box::pin(follow(session, &doors, followed)).await?;
    print_end(session, &document)
}

/// Prints the id of a job that was submitted.
pub(crate) fn print_id(session: &Session, job: &proto::id::JobId) -> Ended {
    if session.output.is_json() {
        session.output.message(&json!({"message_type": "submitted", "job": job}))?;
    } else {
        session.output.line(job)?;
    }
    Ok(ExitStatus::Done)
}

/// Says what came of a job, as the command that does the same work in this process.
pub(crate) fn print_end(session: &Session, document: &JobDocument) -> Ended {
    let job = document.job.clone();
    match (document.state, document.kind) {
        (JobPhase::Done, JobKind::Backup) => {
            result::<BackupSummary>(document).and_then(|summary| backup::summary::print(session, &summary, 0))
        }
        (JobPhase::Done, JobKind::Restore) => {
            result::<RestoreSummary>(document).and_then(|summary| restore::summarize(&summary, session))
        }
        (JobPhase::Done, JobKind::Check) => {
            result::<CheckSummary>(document).and_then(|summary| check::summarize(&summary, &session.output))
        }
        _ => {
            let unknown =
                || JobFailure { class: FailureClass::Failed, message: "nobody says what came of it".to_owned() };
            Err(CommandError::JobFailed { job, failure: document.failure.clone().unwrap_or_else(unknown) })
        }
    }
}

fn result<T: DeserializeOwned>(document: &JobDocument) -> Result<T, CommandError> {
    let result = document.result.clone().unwrap_or_default();
    serde_json::from_value(result).map_err(|error| {
        let message = format!("it is done, and what is said of its result cannot be read: {error}");
        let failure = JobFailure { class: FailureClass::Failed, message };
        CommandError::JobFailed { job: document.job.clone(), failure }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let seconds = |text| parse_duration(text).map(|time| time.as_secs());
        assert_eq!([seconds("90"), seconds("30s"), seconds("5m"), seconds("2h")], [Ok(90), Ok(30), Ok(300), Ok(7200)]);
        for text in ["", "s", "5d", "-1s", "1.5m", "é", "99999999999999999999h", "9999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
