//! Finds the snapshot that a submitter means who has no access to the repository.

use proto::id::Id;
use proto::job::SnapshotChoice;
use repository::format::snapshot::Snapshot;
use repository::repository::Repository;

use crate::error::JobError;

/// Whether a snapshot is one of those that `choice` allows.
pub fn accepts(choice: &SnapshotChoice, snapshot: &Snapshot) -> bool {
    let has_tag = |tag: &str| snapshot.tags.iter().any(|present| present == tag);
    let has_tags = |list: &String| match list.as_str() {
        "" => snapshot.tags.is_empty(),
        list => list.split(',').all(has_tag),
    };
    (choice.hosts.is_empty() || choice.hosts.contains(&snapshot.hostname))
        && (choice.tags.is_empty() || choice.tags.iter().any(has_tags))
        && choice.paths.iter().all(|path| snapshot.paths.contains(path))
}

/// The snapshot that is meant.
///
/// # Errors
/// There is none, or several have ids that begin so; the repository cannot be read.
pub(crate) async fn snapshot(repository: &Repository, choice: &SnapshotChoice) -> Result<Id, JobError> {
    let text = choice.snapshot.to_ascii_lowercase();
    if text != "latest" {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason = format!("{text:?} is neither `latest` nor the beginning of a snapshot's id");
            return Err(JobError::Failed { reason });
        }
        return Ok(repository.find_snapshot(&text).await?);
    }
    let loaded = repository.load_snapshots().await?;
    for (id, error) in &loaded.broken {
        tracing::warn!(snapshot = %id, %error, "a snapshot cannot be read; it is left out");
    }
    let fitting = loaded.snapshots.iter().filter(|(_, snapshot)| accepts(choice, snapshot));
    let newest = fitting.max_by_key(|(id, snapshot)| (snapshot.time.instant(), *id));
    newest.map(|(id, _)| *id).ok_or_else(|| JobError::Failed { reason: "there is no snapshot that fits".to_owned() })
}
