//! What is asked for: submissions (JSON), and how a job ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::handles::UnixTime;
use crate::id::{Id, JobId};
use crate::name::RawName;
use crate::restore::Overwrite;

/// One piece of work, as a client submits it (JSON, so that any AMQP client can).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The job's id, chosen by the submitter so that it can follow.
    pub job: JobId,
    /// The id in the config of the repository that is meant.
    pub repository: Id,
    /// Submissions with the same key are the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The workers that shall do it.
    #[serde(default = "default_pool")]
    pub pool: String,
    /// When it was submitted.
    pub submitted_at: UnixTime,
    /// What to do.
    pub request: Request,
}

impl Submission {
    /// The job that every submission with this idempotency key is: whoever submits again attaches to it, and the
    /// repository's record of the job is all that must be remembered.
    pub fn job_of_key(repository: &Id, key: &str) -> JobId {
        let digest = Id::of_parts([b"longshore job v1".as_slice(), repository.as_bytes(), key.as_bytes()]);
        let text = format!("key-{}", &digest.to_string()[..KEY_DIGITS]);
        match JobId::new(text) {
            Ok(job) => job,
            Err(_) => unreachable!("letters, a dash and hex digits are the id of a job"),
        }
    }
}

impl Submission {
    /// The job that goes on in place of this one: whoever decides that it does comes to the same. Of a job that is named
    /// by the time it was made the next millisecond's, so that it sorts behind it.
    pub fn successor(&self) -> Self {
        let digest = Id::of_parts([b"longshore successor v1".as_slice(), self.job.as_str().as_bytes()]).to_string();
        let text = match millis_of(&self.job) {
            Some(millis) => {
                let time = format!("{:012x}", millis.wrapping_add(1) & 0xffff_ffff_ffff);
                let (variant, node) = (&digest[3..6], &digest[6..18]);
                format!("{}-{}-7{}-8{variant}-{node}", &time[..8], &time[8..], &digest[..3])
            }
            None => format!("next-{}", &digest[..KEY_DIGITS]),
        };
        match JobId::new(text) {
            Ok(job) => self.as_job(&job),
            Err(_) => unreachable!("letters, dashes and hex digits are the id of a job"),
        }
    }

    /// The same under another name, which does not follow from an idempotency key.
    pub fn as_job(&self, job: &JobId) -> Self {
        Self { job: job.clone(), idempotency_key: None, ..self.clone() }
    }
}

/// The time in a job id that is a UUIDv7, in milliseconds.
fn millis_of(job: &JobId) -> Option<u64> {
    let text = job.as_str();
    let parts: Vec<&str> = text.split('-').collect();
    let is_uuid = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts[2].starts_with('7');
    if !is_uuid {
        return None;
    }
    u64::from_str_radix(&[parts[0], parts[1]].concat(), 16).ok()
}

/// Hex digits of a job id that follows from an idempotency key.
const KEY_DIGITS: usize = 40;

fn default_pool() -> String {
    "default".to_owned()
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Make a snapshot.
    Backup(Box<BackupRequest>),
    /// Write a snapshot's content back.
    Restore(Box<RestoreRequest>),
    /// Read packs and compare them with the index.
    Check(CheckRequest),
}

/// Make a snapshot of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The top of the snapshot's tree, down to the targets. A fleet makes it of `paths` when it is empty.
    #[serde(default)]
    pub targets: Vec<TargetNode>,
    /// The snapshot's `paths`: absolute, cleaned, as given.
    pub paths: Vec<RawName>,
    /// The snapshot's `hostname`.
    pub hostname: String,
    /// The snapshot's `username`.
    pub username: String,
    /// The snapshot's `uid`; 0 is left out there.
    pub uid: u32,
    /// The snapshot's `gid`; 0 is left out there.
    pub gid: u32,
    /// The snapshot's `tags`, as given.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The snapshot's `time`; the start of the job without it.
    #[serde(default)]
    pub time: Option<UnixTime>,
    /// The named time zone in which times are written, such as `Europe/Berlin`, as the submitter has it.
    pub zone: String,
    /// What the source leaves out, in the source's own words (for files: `sources::files::exclude::ExcludeRules`).
    #[serde(default)]
    pub source_options: serde_json::Value,
    /// The snapshot's `excludes`.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// With what to compare.
    #[serde(default)]
    pub parent: ParentChoice,
    /// A data set that is empty where its parent was not is taken as it is.
    #[serde(default)]
    pub allow_empty: bool,
    /// How much one task may do before it reports a split.
    #[serde(default)]
    pub budget: Budget,
    /// How much is compressed: `off`, `fastest`, `auto`, `better`, `max`.
    #[serde(default = "default_compression")]
    pub compression: String,
    /// Access times are kept, not replaced by modification times.
    #[serde(default)]
    pub with_atime: bool,
    /// A file whose ctime alone differs is not read again.
    #[serde(default)]
    pub ignore_ctime: bool,
    /// A file whose inode (or ctime) alone differs is not read again.
    #[serde(default)]
    pub ignore_inode: bool,
    /// Target size of a pack in bytes.
    #[serde(default = "default_pack_size")]
    pub pack_size: u64,
    /// Targets that the submitter did not find; each counts as a source that could not be read.
    #[serde(default)]
    pub missing_targets: Vec<RawName>,
}

fn default_compression() -> String {
    "auto".to_owned()
}

fn default_pack_size() -> u64 {
    16 << 20
}

/// One entry of the snapshot's tree at or above a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetNode {
    /// Name in the snapshot's tree.
    pub name: RawName,
    /// Where the worker finds it: absolute, no link above the last component.
    pub source: RawName,
    /// What it is.
    pub place: TargetPlace,
}

/// What stands at or above a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetPlace {
    /// A directory that leads to targets and holds nothing else.
    Above(Vec<TargetNode>),
    /// Backed up with everything below.
    Target {
        /// Absolute and cleaned, as it was given: what exclude patterns and messages use.
        path: RawName,
        /// Named by the user: excludes do not apply to it.
        explicit: bool,
    },
}

impl TargetNode {
    /// The tree that leads to `paths`, which are absolute and cleaned, and not the root: as they are, with no link
    /// followed. What is below another one of them is in that one.
    pub fn of_paths(paths: &[RawName]) -> Vec<Self> {
        let rests: Vec<(&RawName, &[u8])> =
            paths.iter().map(|path| (path, path.0.strip_prefix(b"/").unwrap_or(&path.0))).collect();
        Self::below(b"", &rests)
    }

    /// The entries of `above` that lead to targets, of which the second part is what is left of the path.
    fn below(above: &[u8], targets: &[(&RawName, &[u8])]) -> Vec<Self> {
        let mut by_name: BTreeMap<&[u8], Vec<(&RawName, &[u8])>> = BTreeMap::new();
        for (target, rest) in targets {
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let (name, behind) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            by_name.entry(name).or_default().push((target, behind));
        }
        let node = |(name, inside): (&[u8], Vec<(&RawName, &[u8])>)| {
            let source = [above, b"/", name].concat();
            let place = match inside.iter().find(|(_, rest)| rest.is_empty()) {
                Some((target, _)) => TargetPlace::Target { path: (*target).clone(), explicit: true },
                None => TargetPlace::Above(Self::below(&source, &inside)),
            };
            Self { name: name.into(), source: source.into(), place }
        };
        by_name.into_iter().map(node).collect()
    }

    /// Every target at or below, in order: its path as given, and where it is found.
    pub fn targets<'a>(nodes: &'a [Self], found: &mut Vec<(&'a RawName, &'a RawName)>) {
        for node in nodes {
            match &node.place {
                TargetPlace::Above(children) => Self::targets(children, found),
                TargetPlace::Target { path, .. } => found.push((path, &node.source)),
            }
        }
    }
}

/// With which snapshot unchanged files are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentChoice {
    /// The newest of the same host and paths.
    #[default]
    Newest,
    /// This one.
    Snapshot(Id),
    /// The one whose id begins so, or `latest`: found by the coordinator.
    Named(String),
    /// None: everything is read.
    None,
}

/// How much one archive task may do before it stops and reports a split (DESIGN 3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Entries that are new or changed.
    pub changed_entries: u64,
    /// Entries in all.
    pub entries: u64,
    /// Bytes of files that are new or changed.
    pub bytes: u64,
    /// Length of one byte range of a large file.
    pub range_bytes: u64,
    /// Files longer than this are read in ranges.
    pub range_threshold_bytes: u64,
    /// After this many seconds the current file is finished and the rest reported.
    pub soft_deadline_seconds: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            changed_entries: 10_000,
            entries: 200_000,
            bytes: 1 << 30,
            range_bytes: 1 << 30,
            range_threshold_bytes: 2 << 30,
            soft_deadline_seconds: 120,
        }
    }
}

/// A task may work on for so long at most before it reports what is left.
pub const SOFT_DEADLINE_SECONDS_MAX: u64 = 24 * 3600;

impl Budget {
    /// Whether tasks can keep to it.
    ///
    /// # Errors
    /// Why not, in one sentence.
    pub fn check(&self) -> Result<(), String> {
        let Self { changed_entries, entries, bytes, range_bytes, range_threshold_bytes, soft_deadline_seconds } = self;
        let all = [changed_entries, entries, bytes, range_bytes, range_threshold_bytes];
        if all.into_iter().any(|part| *part == 0) {
            return Err("a part of the budget is 0".to_owned());
        }
        if *soft_deadline_seconds > SOFT_DEADLINE_SECONDS_MAX {
            return Err(format!("a soft deadline of {soft_deadline_seconds} s is longer than a day"));
        }
        Ok(())
    }

    /// The length of one byte range of a file of `size` bytes: longer ones where there would be too many.
    pub fn range_bytes_for(&self, size: u64) -> u64 {
        self.range_bytes.max(size.div_ceil(RANGES_MAX)).max(1)
    }
}

/// A file is read or written in no more ranges than this.
pub const RANGES_MAX: u64 = 10_000;

/// Write a snapshot's content back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The snapshot.
    pub snapshot: Id,
    /// The subfolder inside the snapshot; empty for all.
    pub path: RawName,
    /// Absolute path of the directory to write into.
    pub target: RawName,
    /// Only what one of these patterns matches; empty for all.
    #[serde(default)]
    pub include: Vec<String>,
    /// Not what one of these patterns matches.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Remove what the snapshot has not.
    #[serde(default)]
    pub delete: bool,
    /// Leave holes for runs of zeros.
    #[serde(default)]
    pub sparse: bool,
    /// Say what would be done, and write nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// As `include`, whatever the case of letters.
    #[serde(default)]
    pub include_any_case: Vec<String>,
    /// As `exclude`, whatever the case of letters.
    #[serde(default)]
    pub exclude_any_case: Vec<String>,
    /// What becomes of files that are there.
    #[serde(default)]
    pub overwrite: Overwrite,
    /// Read what was written again, and compare.
    #[serde(default)]
    pub verify: bool,
    /// Says which snapshot, where the submitter has no access to the repository: then it counts, not `snapshot`.
    #[serde(default)]
    pub choice: Option<SnapshotChoice>,
    /// How much one task may do.
    #[serde(default)]
    pub budget: Option<Budget>,
    /// The repository is not locked meanwhile.
    #[serde(default)]
    pub no_lock: bool,
    /// Jobs that were abandoned and are done again as this one; the newest last. Their tasks must not write any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<JobId>,
}

/// Which snapshot, in the words of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotChoice {
    /// `latest`, or the beginning of an id.
    pub snapshot: String,
    /// With `latest`: only of one of these hosts; empty for any.
    pub hosts: Vec<String>,
    /// With `latest`: only with all tags of one of these lists (`TAG,TAG`); empty for any.
    pub tags: Vec<String>,
    /// With `latest`: only with all of these paths.
    pub paths: Vec<String>,
}

/// Look at everything in the repository, and read packs and compare them with the index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// The packs to read; all without it.
    #[serde(default)]
    pub packs: Option<Vec<Id>>,
    /// Only a part of them: `n/t`, `P%` or a size.
    #[serde(default)]
    pub subset: Option<String>,
    /// Bytes of packs that one task reads.
    #[serde(default)]
    pub task_bytes: Option<u64>,
    /// The repository is not locked meanwhile.
    #[serde(default)]
    pub no_lock: bool,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum JobOutcome {
    /// The snapshot is committed and was read back.
    Done {
        /// The snapshot.
        snapshot: Id,
    },
    /// The restore came to its end.
    Restored,
    /// The check came to its end.
    Checked,
    /// No snapshot, and why.
    Failed {
        /// One sentence for people.
        reason: String,
    },
    /// Cancelled by a person.
    Cancelled,
    /// The repository lock had a gap: everything goes on as a new job.
    Superseded {
        /// The job that goes on.
        by: JobId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RawName {
        text.as_bytes().into()
    }

    fn shape(nodes: &[TargetNode]) -> String {
        let node = |node: &TargetNode| match &node.place {
            TargetPlace::Above(below) => format!("{}({})", node.name, shape(below)),
            TargetPlace::Target { path, .. } => format!("{}={path}@{}", node.name, node.source),
        };
        nodes.iter().map(node).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_become_a_tree_that_leads_to_them() {
        let paths = ["/srv/www", "/srv/a-b", "/srv/a/c", "/etc", "/srv/a/c/below"].map(name);
        let nodes = TargetNode::of_paths(&paths);
        let expected = "etc=/etc@/etc srv(a(c=/srv/a/c@/srv/a/c) a-b=/srv/a-b@/srv/a-b www=/srv/www@/srv/www)";
        assert_eq!(shape(&nodes), expected);
        assert_eq!(nodes[1].source, name("/srv"));
    }

    #[test]
    fn one_key_is_one_job_of_one_repository() {
        let (one, two) = (Id::of(b"one"), Id::of(b"two"));
        let job = Submission::job_of_key(&one, "nightly 2026-11-24");
        assert_eq!(job, Submission::job_of_key(&one, "nightly 2026-11-24"));
        assert_ne!(job, Submission::job_of_key(&two, "nightly 2026-11-24"));
        assert_ne!(job, Submission::job_of_key(&one, "nightly 2026-11-25"));
        assert!(JobId::new(job.as_str()).is_ok());
    }

    fn check_of(job: &str) -> Submission {
        Submission {
            job: JobId::new(job).unwrap(),
            repository: Id::of(b"r"),
            idempotency_key: Some("nightly".to_owned()),
            pool: default_pool(),
            submitted_at: UnixTime::default(),
            request: Request::Check(CheckRequest::default()),
        }
    }

    #[test]
    fn all_come_to_the_same_successor() {
        let submission = check_of("019ab2c3-ffff-7abc-8def-0123456789ab");
        let next = submission.successor();
        assert_eq!(next, submission.successor());
        assert!(next.job.as_str().starts_with("019ab2c4-0000-7"), "{}", next.job);
        assert_eq!((next.job.as_str().len(), &next.idempotency_key), (36, &None), "no job follows from its key");
        assert!(next.job > submission.job && next.successor().job > next.job);
        for other in ["key-0123", "job", "019ab2c3-ffff-4abc-8def-0123456789ab"] {
            let (one, two) = (check_of(other).successor(), check_of(other).successor());
            assert!(one == two && one.job.as_str().starts_with("next-") && one.job != one.successor().job);
        }
    }

    #[test]
    fn budgets_have_bounds() {
        let day = Budget { soft_deadline_seconds: SOFT_DEADLINE_SECONDS_MAX, ..Budget::default() };
        assert_eq!(day.check(), Ok(()));
        assert!(Budget { soft_deadline_seconds: SOFT_DEADLINE_SECONDS_MAX + 1, ..Budget::default() }.check().is_err());
        assert!(Budget { entries: 0, ..Budget::default() }.check().is_err());
        let crumbs = Budget { range_bytes: 1, ..Budget::default() };
        assert_eq!([0, 10_000, 10_001, 1 << 40].map(|size| crumbs.range_bytes_for(size)), [1, 1, 2, 109_951_163]);
        assert_eq!(Budget::default().range_bytes_for(1 << 40), 1 << 30);
    }

    #[test]
    fn requests_may_leave_out_what_has_a_default() {
        let json =
            r#"{"kind":"backup","paths":["/srv"],"hostname":"web-1","username":"","uid":0,"gid":0,"zone":"UTC"}"#;
        let Request::Backup(request) = serde_json::from_str(json).unwrap() else { panic!("another kind") };
        assert_eq!((request.targets.len(), request.pack_size, &*request.compression), (0, 16 << 20, "auto"));
        let check: Request = serde_json::from_str(r#"{"kind":"check"}"#).unwrap();
        assert_eq!(check, Request::Check(CheckRequest::default()));
    }
}
