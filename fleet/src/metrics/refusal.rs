//! What came from elsewhere and was not believed, by why.

use super::table::{JOBS_REFUSED, REPORTS_DROPPED};

/// Why a submission was dead-lettered.
const SUBMISSION: &[&str] = &["size", "malformed", "repository", "pool", "record", "other"];
/// Why a report was dropped.
const REPORT: &[&str] = &["size", "malformed", "schema", "auth", "repository", "expired", "job", "other"];

/// Counts a submission that nobody carries out.
pub fn count_refused_submission(reason: &str) {
    JOBS_REFUSED.add(&[known(SUBMISSION, reason)], 1);
}

/// Counts a report that nobody believes.
pub fn count_dropped_report(reason: &str) {
    REPORTS_DROPPED.add(&[known(REPORT, reason)], 1);
}

/// Makes all of it known before it happens.
pub(super) fn begin() {
    SUBMISSION.iter().for_each(|reason| JOBS_REFUSED.begin(&[reason]));
    REPORT.iter().for_each(|reason| REPORTS_DROPPED.begin(&[reason]));
}

/// A label of a closed set.
pub(super) fn known(set: &[&'static str], word: &str) -> &'static str {
    set.iter().find(|known| **known == word).copied().unwrap_or("other")
}
