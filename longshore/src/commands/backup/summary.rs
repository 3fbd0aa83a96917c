//! What a backup says when it begins and when it is done.

use std::time::Duration;

use coordinator::backup::BackupDone;
use proto::report::{Problem, ProblemKind};
use repository::repository::Repository;
use serde_json::{Value, json};

use crate::commands::{Ended, init};
use crate::exit::{CommandError, ExitStatus};
use crate::output::{bytes_text, counted, duration_text, printable};
use crate::session::Session;

/// Says where the default repository and its password are.
pub(super) fn print_places(session: &Session, repository: &Repository, is_new: bool) -> Result<(), CommandError> {
    if is_new {
        init::announce(session, repository)?;
    } else if session.configuration.is_default_repository() {
        session.output.note(format_args!("repository {}", repository.location()));
        if let Some(path) = session.made_password_file() {
            session.output.note(format_args!("its password is in {}", path.display()));
        }
    }
    Ok(())
}

/// Says what was done. `problems` are those that were known before the job began.
pub(super) fn print(session: &Session, done: &BackupDone, mut problems: Vec<Problem>) -> Ended {
    let known = problems.len();
    problems.extend_from_slice(&done.problems);
    let is_incomplete = done.counts.unreadable > 0 || problems.iter().any(|problem| is_loss(problem.kind));
    if session.output.is_json() {
        session.output.message(&json(done, &problems))?;
    } else {
        for problem in &problems[known..] {
            session.output.warn(problem_text(problem));
        }
        if !session.output.is_quiet() {
            session.output.line(lines(done, &problems).join("\n"))?;
        }
    }
    Ok(if is_incomplete { ExitStatus::Incomplete } else { ExitStatus::Done })
}

/// A problem in one line.
pub(super) fn problem_text(problem: &Problem) -> String {
    format!("{}: {}", printable(&problem.path.0), problem.message)
}

/// Whether the snapshot lacks something because of it.
fn is_loss(kind: ProblemKind) -> bool {
    match kind {
        ProblemKind::Unreadable | ProblemKind::Incomplete | ProblemKind::Other => true,
        ProblemKind::NotRestored | ProblemKind::Damaged => true,
        ProblemKind::ChangedWhileRead | ProblemKind::ParentBlobMissing => false,
    }
}

fn duration(done: &BackupDone) -> Duration {
    done.ended_at.since(done.started_at)
}

fn json(done: &BackupDone, problems: &[Problem]) -> Value {
    let (counts, progress) = (&done.counts, &done.progress);
    json!({
        "message_type": "summary",
        "job": done.job,
        "snapshot_id": done.snapshot,
        "tree": done.tree,
        "parent": done.parent,
        "resumed": done.resumed,
        "files_new": counts.files_new,
        "files_changed": counts.files_changed,
        "files_unmodified": counts.files_unmodified,
        "dirs_new": counts.dirs_new,
        "dirs_changed": counts.dirs_changed,
        "dirs_unmodified": counts.dirs_unmodified,
        "data_blobs": counts.data_blobs,
        "tree_blobs": counts.tree_blobs,
        "data_added": counts.bytes_added,
        "data_added_packed": counts.bytes_packed,
        "total_files_processed": files(done),
        "total_bytes_processed": counts.bytes_processed,
        "bytes_read": counts.bytes_read,
        "total_duration": duration(done).as_secs_f64(),
        "packs": done.packs,
        "group_commits": done.group_commits,
        "index_files": done.index_files,
        "partitions": {
            "subtree": progress.subtree_partitions,
            "name_range": progress.name_range_partitions,
            "byte_range": progress.byte_range_partitions,
            "by_worker": progress.partitions_by_worker,
        },
        "seams": {
            "matched": progress.seams_matched,
            "redone": progress.seams_redone,
            "surplus_blobs": progress.seam_chunks_dropped,
            "files_read_whole": progress.files_read_whole,
        },
        "unreadable": counts.unreadable,
        "changed_while_read": counts.changed_while_read,
        "vanished": counts.vanished,
        "problems": problems,
    })
}

fn files(done: &BackupDone) -> u64 {
    done.counts.files_new + done.counts.files_changed + done.counts.files_unmodified
}

fn lines(done: &BackupDone, problems: &[Problem]) -> Vec<String> {
    let (counts, progress) = (&done.counts, &done.progress);
    let compared = match (done.parent, &done.resumed) {
        (Some(parent), None) => format!("compared with snapshot {}", parent.short()),
        (Some(parent), Some(job)) => format!("compared with snapshot {} and unfinished job {job}", parent.short()),
        (None, Some(job)) => format!("compared with unfinished job {job}"),
        (None, None) => "compared with no snapshot: every file was read".to_owned(),
    };
    let three = |what: &str, new, changed, unmodified| {
        format!("{what:<13}{new} new, {changed} changed, {unmodified} unmodified")
    };
    let mut lines = vec![
        compared,
        three("files:", counts.files_new, counts.files_changed, counts.files_unmodified),
        three("directories:", counts.dirs_new, counts.dirs_changed, counts.dirs_unmodified),
        format!(
            "added:       {} ({} stored) in {}",
            bytes_text(counts.bytes_added),
            bytes_text(counts.bytes_packed),
            counted(done.packs, "pack"),
        ),
        format!(
            "processed:   {}, {} in {}",
            counted(files(done), "file"),
            bytes_text(counts.bytes_processed),
            duration_text(duration(done)),
        ),
    ];
    let parts = [
        (progress.subtree_partitions, "subtree"),
        (progress.name_range_partitions, "name range"),
        (progress.byte_range_partitions, "byte range"),
    ];
    if parts.iter().map(|(count, _)| count).sum::<u64>() > 0 {
        let parts: Vec<String> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(count, noun)).collect();
        lines.push(format!("partitions:  {}", parts.join(", ")));
    }
    if progress.seams_matched + progress.seams_redone > 0 {
        lines.push(format!("seams:       {} matched, {} done again", progress.seams_matched, progress.seams_redone));
    }
    if !problems.is_empty() {
        lines.push(format!("problems:    {}", problems.len()));
    }
    lines.push(format!("snapshot {} saved", done.snapshot.short()));
    lines
}
