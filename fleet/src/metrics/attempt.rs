//! How a delivery ended, in the words of `longshore_task_attempts_total`.

use super::refusal::known;

/// Why a fresh copy comes back later.
const LATER: &[&str] = &["refused", "root", "schema", "storage", "transient", "other"];
/// Why a task was dead-lettered.
const DEAD: &[&str] = &[
    "size",
    "malformed",
    "schema",
    "auth",
    "repository",
    "expired",
    "starts",
    "attempts",
    "failed",
    "record",
    "root",
    "other",
];

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd<'a> {
    /// Its result was reported.
    Done,
    /// It was left to workers that have the data set.
    NotMyView,
    /// It cannot be done; the job was told why.
    Failed,
    /// Its job is cancelled.
    Cancelled,
    /// Its job has ended.
    JobEnded,
    /// A fresh copy went to other workers at once: this one leaves.
    HandedBack,
    /// A fresh copy comes back after a delay, for this reason.
    Later(&'a str),
    /// It was dead-lettered, for this reason.
    Dead(&'a str),
}

impl AttemptEnd<'_> {
    /// The labels `outcome` and `reason`.
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Done => ("done", "none"),
            Self::NotMyView => ("not_my_view", "none"),
            Self::Failed => ("failed", "none"),
            Self::Cancelled => ("dropped", "cancelled"),
            Self::JobEnded => ("dropped", "ended"),
            Self::HandedBack => ("handed_back", "none"),
            Self::Later(reason) => ("later", known(LATER, reason)),
            Self::Dead(reason) => ("dead", known(DEAD, reason)),
        }
    }

    /// Every pair of labels.
    pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        let plain = [Self::Done, Self::NotMyView, Self::Failed, Self::Cancelled, Self::JobEnded, Self::HandedBack];
        let later = LATER.iter().map(|reason| ("later", *reason));
        plain.into_iter().map(|end| end.labels()).chain(later).chain(DEAD.iter().map(|reason| ("dead", *reason)))
    }
}
