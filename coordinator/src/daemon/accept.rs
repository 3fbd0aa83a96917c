//! Judges a submission by what it says, before anything is asked of anybody.

use proto::envelope::MESSAGE_BYTES_MAX;
use proto::id::{Id, JobId};
use proto::job::{BackupRequest, Budget, CheckRequest, Request, RestoreRequest, Submission, TargetNode, TargetPlace};
use proto::name::RawName;
use repository::format::zone::Zone;
use repository::maintenance::check::Subset;
use repository::seal::Compression;
use serde::Deserialize;
use sources::paths;

/// A submission that nobody will carry out.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    /// Short code of the dead letter.
    pub(super) reason: &'static str,
    /// One sentence for people.
    pub(super) why: String,
    /// What could be read of it.
    pub(super) submission: Option<Box<Submission>>,
}

impl Refusal {
    pub(super) fn of(submission: Submission, reason: &'static str, why: String) -> Self {
        Self { reason, why, submission: Some(Box::new(submission)) }
    }

    pub(super) fn unread(reason: &'static str, why: String) -> Self {
        Self { reason, why, submission: None }
    }
}

/// Whose a submission is: read first, so that one for another repository is told from garbage whatever it asks for.
#[derive(Deserialize)]
struct Addressed {
    repository: Id,
}

/// Whose follower waits.
#[derive(Deserialize)]
struct Named {
    job: String,
}

/// The job of a submission of which nothing else can be read.
pub(super) fn named_in(body: &[u8]) -> Option<JobId> {
    let named: Named = serde_json::from_slice(body).ok()?;
    JobId::new(named.job).ok()
}

/// Longer paths are none.
const PATH_BYTES_MAX: usize = 4096;
/// JSON that nests deeper cannot be read back.
const TARGET_DEPTH_MAX: usize = 24;
/// Packs of this size are the largest that restic makes.
const PACK_SIZE_MAX: u64 = 128 << 20;
const KEY_BYTES_MAX: usize = 1024;

/// A submission that can be carried out: its job follows from its key, its targets from its paths.
///
/// # Errors
/// Why not.
pub(super) fn judge(body: &[u8], repository: &Id) -> Result<Submission, Refusal> {
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(Refusal::unread("size", format!("it has {} bytes", body.len())));
    }
    let malformed = |error: serde_json::Error| Refusal::unread("malformed", error.to_string());
    let addressed: Addressed = serde_json::from_slice(body).map_err(malformed)?;
    let parsed = serde_json::from_slice::<Submission>(body);
    if addressed.repository != *repository {
        let why = format!("it is for repository {}", addressed.repository.short());
        return Err(Refusal { reason: "repository", why, submission: parsed.ok().map(Box::new) });
    }
    let mut submission = parsed.map_err(malformed)?;
    if let Request::Backup(request) = &mut submission.request
        && request.targets.is_empty()
        && request.paths.iter().all(is_place)
    {
        request.targets = TargetNode::of_paths(&request.paths);
    }
    if let Request::Restore(request) = &mut submission.request {
        request.instead_of.clear(); // said by coordinators only, in the record
    }
    match check(&submission) {
        Ok(()) => {}
        Err(why) => return Err(Refusal::of(submission, "malformed", why)),
    }
    if let Some(key) = &submission.idempotency_key {
        submission.job = Submission::job_of_key(repository, key);
    }
    Ok(submission)
}

fn check(submission: &Submission) -> Result<(), String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let pool = &submission.pool;
    demand(!pool.is_empty() && pool.len() <= 64 && pool.bytes().all(is_name), || format!("{pool:?} is no pool"))?;
    let key_fits = |key: &String| !key.is_empty() && key.len() <= KEY_BYTES_MAX;
    demand(submission.idempotency_key.as_ref().is_none_or(key_fits), || "the idempotency key is too long".to_owned())?;
    // The job's name in the repository: ids are checked where they are made, not where they are read.
    let job = submission.job.as_str();
    demand(JobId::new(job).is_ok(), || format!("{job:?} is no job id"))?;
    match &submission.request {
        Request::Backup(request) => check_backup(request),
        Request::Restore(request) => check_restore(request),
        Request::Check(request) => check_check(request),
    }
}

fn demand(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Whether a path is one that a target can have: absolute, cleaned, not the root.
fn is_place(path: &RawName) -> bool {
    let bytes = path.as_bytes();
    paths::is_absolute(bytes)
        && bytes != b"/"
        && bytes.len() <= PATH_BYTES_MAX
        && !bytes.contains(&0)
        && paths::clean(bytes) == bytes
}

fn check_backup(request: &BackupRequest) -> Result<(), String> {
    demand(!request.paths.is_empty(), || "there is no path to back up".to_owned())?;
    for path in &request.paths {
        let why = || format!("{path} is not an absolute path without `.`, `..` and empty names, below the root");
        demand(is_place(path), why)?;
    }
    check_targets(&request.targets, TARGET_DEPTH_MAX)?;
    demand(!request.hostname.is_empty(), || "there is no host name".to_owned())?;
    demand(Zone::named(&request.zone).is_ok(), || format!("time zone {:?} is not known", request.zone))?;
    let compression = &request.compression;
    demand(compression.parse::<Compression>().is_ok(), || format!("compression {compression:?} is not known"))?;
    let size = request.pack_size;
    demand((1..=PACK_SIZE_MAX).contains(&size), || format!("packs cannot have {size} bytes"))?;
    request.budget.check()
}

fn check_targets(targets: &[TargetNode], depth_left: usize) -> Result<(), String> {
    demand(!targets.is_empty(), || "a directory leads to no target".to_owned())?;
    demand(depth_left > 0, || "a path to back up has too many names".to_owned())?;
    let ascending = targets.is_sorted_by(|one, next| one.name < next.name);
    demand(ascending, || "the names of targets do not ascend".to_owned())?;
    for target in targets {
        demand(paths::is_entry_name(&target.name.0), || format!("{} is not a name", target.name))?;
        demand(is_place(&target.source), || format!("{} is not an absolute path", target.source))?;
        match &target.place {
            TargetPlace::Above(below) => check_targets(below, depth_left - 1)?,
            TargetPlace::Target { path, .. } => {
                demand(is_place(path), || format!("{path} is not an absolute path"))?;
            }
        }
    }
    Ok(())
}

fn check_restore(request: &RestoreRequest) -> Result<(), String> {
    let target = &request.target;
    demand(is_place(target), || format!("{target} is not an absolute path below the root"))?;
    let mut names = request.path.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    demand(names.all(paths::is_entry_name), || format!("{} is not a path in a snapshot", request.path))?;
    request.budget.as_ref().map_or(Ok(()), Budget::check)
}

fn check_check(request: &CheckRequest) -> Result<(), String> {
    demand(request.task_bytes != Some(0), || "a task would read nothing".to_owned())?;
    match &request.subset {
        Some(subset) => subset.parse::<Subset>().map(drop).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn repository() -> Id {
        Id::of(b"repository")
    }

    fn backup() -> Value {
        json!({
            "job": "019", "repository": repository(), "submitted_at": {"seconds": 1, "nanos": 0},
            "request": {
                "kind": "backup", "paths": ["/srv/www", "/etc"], "hostname": "web-1", "username": "", "uid": 0,
                "gid": 0, "zone": "UTC",
            },
        })
    }

    fn judged(json: &Value) -> Result<Submission, Refusal> {
        judge(&serde_json::to_vec(json).unwrap(), &repository())
    }

    /// What becomes of a backup in which one value of the request is another one.
    fn with(field: &str, value: Value) -> Result<Submission, Refusal> {
        let mut json = backup();
        json["request"][field] = value;
        judged(&json)
    }

    #[test]
    fn targets_follow_from_paths() {
        let submission = judged(&backup()).unwrap();
        let Request::Backup(request) = submission.request else { panic!("another kind") };
        assert_eq!(request.targets, TargetNode::of_paths(&request.paths));
        assert_eq!(submission.pool, "default");
    }

    #[test]
    fn a_job_follows_from_its_key() {
        let mut json = backup();
        json["idempotency_key"] = "nightly".into();
        assert_eq!(judged(&json).unwrap().job, Submission::job_of_key(&repository(), "nightly"));
        json["idempotency_key"] = "x".repeat(KEY_BYTES_MAX + 1).into();
        assert_eq!(judged(&json).unwrap_err().reason, "malformed");
    }

    #[test]
    fn garbage_and_what_is_for_others_is_told_apart() {
        for garbage in [&b""[..], b"\xff\x00", b"[]", b"{}", b"null", br#"{"repository":"x"}"#] {
            assert_eq!(judge(garbage, &repository()).unwrap_err().reason, "malformed", "{garbage:?}");
        }
        let long = vec![b' '; MESSAGE_BYTES_MAX + 1];
        assert_eq!(judge(&long, &repository()).unwrap_err().reason, "size");
        let mut json = backup();
        json["repository"] = json!(Id::of(b"another"));
        let refusal = judged(&json).unwrap_err();
        assert_eq!((refusal.reason, refusal.submission.is_some()), ("repository", true));
        json["request"] = json!({"kind": "of a newer release"});
        assert_eq!(judged(&json).unwrap_err().reason, "repository");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(judge(deep.as_bytes(), &repository()).unwrap_err().reason, "malformed");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        for (field, value) in [
            ("paths", json!([])),
            ("paths", json!(["relative"])),
            ("paths", json!(["/a/../b"])),
            ("paths", json!(["/a/"])),
            ("paths", json!(["/"])),
            ("paths", json!(["/a\u{0}b"])),
            ("paths", json!([format!("/{}", "a/".repeat(40) + "b")])),
            ("hostname", json!("")),
            ("zone", json!("Nowhere/City")),
            ("compression", json!("zip")),
            ("pack_size", json!(0)),
            ("pack_size", json!(1_u64 << 40)),
            ("budget", json!({"entries": 0})),
            ("budget", json!({"soft_deadline_seconds": u64::MAX})),
        ] {
            let refusal = with(field, value.clone()).unwrap_err();
            assert_eq!(refusal.reason, "malformed", "{field} {value}");
            assert!(!refusal.why.is_empty() && refusal.submission.is_some());
        }
        let mut json = backup();
        json["job"] = "../evil".into();
        assert_eq!(judged(&json).unwrap_err().reason, "malformed");
        json["job"] = "good".into();
        json["pool"] = "a b".into();
        assert_eq!(judged(&json).unwrap_err().reason, "malformed");
    }

    #[test]
    fn a_submission_that_cannot_be_read_names_its_job() {
        let mut json = backup();
        json["request"] = json!({"kind": "of a newer release"});
        assert!(judged(&json).unwrap_err().submission.is_none());
        let named = |json: &Value| named_in(&serde_json::to_vec(json).unwrap());
        assert_eq!(named(&json), JobId::new("019").ok());
        json["job"] = "../evil".into();
        assert_eq!((named(&json), named(&json!([])), named_in(b"{")), (None, None, None));
    }

    #[test]
    fn restores_and_checks_are_judged_too() {
        let judged = |request: Value| {
            let mut json = backup();
            json["request"] = request;
            self::judged(&json).is_ok()
        };
        let restore = |target: &str, path: &str| json!({"kind": "restore", "snapshot": Id::of(b"s"), "path": path, "target": target});
        assert!(judged(restore("/srv", "etc/x")) && judged(restore("/srv", "")));
        assert!(!judged(restore("srv", "")) && !judged(restore("/", "")) && !judged(restore("/srv", "../x")));
        assert!(judged(json!({"kind": "check"})) && judged(json!({"kind": "check", "subset": "1/7"})));
        assert!(!judged(json!({"kind": "check", "subset": "8/7"})));
    }
}
