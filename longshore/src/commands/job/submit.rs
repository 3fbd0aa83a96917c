//! `job submit`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use proto::job::{Request, Submission};
use serde_json::Value;

use crate::commands::Ended;
use crate::exit::CommandError;
use crate::fleet_client::{self, Followed, SubmitFlags, follow, print_end, print_id, publish};
use crate::session::Session;

/// Submit a job that a file describes, and print its id.
///
/// The file holds a request in JSON, such as {"kind": "backup", "paths": ["/srv"], "hostname": "web-1", "username":
/// "root", "uid": 0, "gid": 0, "zone": "UTC"}, or a whole submission with the request in it. What a submission leaves out
/// of job, repository, pool and time is filled in.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore job submit backup.json --idempotency-key nightly-2026-11-24\n  \
    echo '{\"kind\": \"check\", \"subset\": \"1/7\"}' | longshore job submit - --follow")]
pub(super) struct Arguments {
    /// The file; - for stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Follow the job to its end, as `longshore job follow`.
    #[arg(long, conflicts_with = "detach")]
    follow: bool,

    #[command(flatten)]
    submit: SubmitFlags,
}

/// What a file may say of a submission beside its request.
#[derive(Debug, Default, PartialEq)]
struct Given {
    job: Option<Value>,
    repository: Option<Value>,
    pool: Option<String>,
    idempotency_key: Option<String>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    let (given, request) = understand(&read(&arguments.file)?)?;
    let mut flags = arguments.submit.clone();
    if let Some(pool) = given.pool {
        flags.pool = pool;
    }
    flags.idempotency_key = flags.idempotency_key.or(given.idempotency_key);
    if let Some(repository) = given.repository {
        flags.connect.repository_id = Some(known("repository", repository)?);
    }
    let within = flags.connect.connect_timeout;
    let doors = session.connect(within).await?;
    let mut submission = fleet_client::submission(session, &doors, &flags, request).await?;
    if let Some(job) = given.job.filter(|_| flags.idempotency_key.is_none()) {
        submission = Submission { job: known("job", job)?, ..submission };
    }
    publish(session, &doors, &submission, within).await?;
    if !arguments.follow {
        return print_id(session, &submission.job);
    }
    let followed = Followed { job: submission.job.clone(), submission: Some(submission), within };
    let document = Box::pin(follow(session, &doors, followed)).await?;
    print_end(session, &document)
}

fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_end(&mut bytes).map(drop),
        false => std::fs::read(file).map(|read| bytes = read),
    };
    let path = file.display().to_string();
    read.map(|()| bytes).map_err(|source| CommandError::File { action: "read", path, source })
}

/// Takes a submission or a bare request apart.
fn understand(json: &[u8]) -> Result<(Given, Request), CommandError> {
    let no_json = |error: serde_json::Error| CommandError::Usage(format!("the file is no submission: {error}"));
    let mut json: Value = serde_json::from_slice(json).map_err(no_json)?;
    let Some(fields) = json.as_object_mut() else {
        return Err(CommandError::Usage("the file is no submission: it holds no object".to_owned()));
    };
    let Some(request) = fields.remove("request") else {
        return Ok((Given::default(), serde_json::from_value(json).map_err(no_json)?));
    };
    let text = |value: Value| value.as_str().map(str::to_owned);
    let given = Given {
        job: fields.remove("job"),
        repository: fields.remove("repository"),
        pool: fields.remove("pool").and_then(text),
        idempotency_key: fields.remove("idempotency_key").and_then(text),
    };
    Ok((given, serde_json::from_value(request).map_err(no_json)?))
}

fn known<T: serde::de::DeserializeOwned>(what: &str, value: Value) -> Result<T, CommandError> {
    serde_json::from_value(value).map_err(|error| CommandError::Usage(format!("the {what} of the submission: {error}")))
}

#[cfg(test)]
mod tests {
    use proto::job::CheckRequest;

    use super::*;

    #[test]
    fn a_file_holds_a_request_or_a_submission() {
        let check = Request::Check(CheckRequest::default());
        let (given, request) = understand(br#"{"kind": "check"}"#).unwrap();
        assert_eq!((given, request), (Given::default(), check.clone()));
        let whole = br#"{"job": "j", "pool": "bulk", "idempotency_key": "k", "request": {"kind": "check"}}"#;
        let (given, request) = understand(whole).unwrap();
        assert_eq!(request, check);
        assert_eq!((given.pool.as_deref(), given.idempotency_key.as_deref()), (Some("bulk"), Some("k")));
        for wrong in [&b""[..], b"[]", b"{}", br#"{"kind": "copy"}"#, br#"{"request": 7}"#] {
            assert!(matches!(understand(wrong), Err(CommandError::Usage(_))), "{wrong:?}");
        }
    }
}
