//! What a backup says when it begins and when it is done.

use std::time::Duration;

use coordinator::summary::BackupSummary;
use proto::report::Problem;
use repository::repository::Repository;

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

/// Says what was done. Of the problems so many were told before the job began.
pub(crate) fn print(session: &Session, summary: &BackupSummary, told: usize) -> Ended {
    if session.output.is_json() {
        session.output.message(summary)?;
    } else {
        for problem in summary.problems.iter().skip(told) {
            session.output.warn(problem_text(problem));
        }
        if summary.problems_left_out > 0 {
            session.output.warn(format_args!("and {} more problems", summary.problems_left_out));
        }
        if !session.output.is_quiet() {
            session.output.line(lines(summary).join("\n"))?;
        }
    }
    if !summary.incomplete {
        return Ok(ExitStatus::Done);
    }
    session.output.hint("the snapshot lacks what could not be read; once it can be, run the same command again");
    Ok(ExitStatus::Incomplete)
}

/// A problem in one line.
pub(crate) fn problem_text(problem: &Problem) -> String {
    format!("{}: {}", printable(&problem.path.0), problem.message)
}

fn lines(summary: &BackupSummary) -> Vec<String> {
    let compared = match (summary.parent, &summary.resumed) {
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
        three("files:", summary.files_new, summary.files_changed, summary.files_unmodified),
        three("directories:", summary.dirs_new, summary.dirs_changed, summary.dirs_unmodified),
        format!(
            "added:       {} ({} stored) in {}",
            bytes_text(summary.data_added),
            bytes_text(summary.data_added_packed),
            counted(summary.packs, "pack"),
        ),
        format!(
            "processed:   {}, {} in {}",
            counted(summary.total_files_processed, "file"),
            bytes_text(summary.total_bytes_processed),
            duration_text(Duration::from_secs_f64(summary.total_duration.max(0.0))),
        ),
    ];
    let (partitions, seams) = (&summary.partitions, &summary.seams);
    let parts =
        [(partitions.subtree, "subtree"), (partitions.name_range, "name range"), (partitions.byte_range, "byte range")];
    if parts.iter().map(|(count, _)| count).sum::<u64>() > 0 {
        let parts: Vec<String> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(count, noun)).collect();
        lines.push(format!("partitions:  {}", parts.join(", ")));
    }
    if seams.matched + seams.redone > 0 {
        lines.push(format!("seams:       {} matched, {} done again", seams.matched, seams.redone));
    }
    let problems = summary.problems.len() as u64 + summary.problems_left_out;
    if problems > 0 {
        lines.push(format!("problems:    {problems}"));
    }
    lines.push(format!("snapshot {} saved", summary.snapshot_id.short()));
    lines
}
