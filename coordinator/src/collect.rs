//! The report stream to events: verified, each once, in order.

use std::time::Duration;

use bytes::Bytes;
use fleet::metrics::count_dropped_report;
use fleet::state::{Position, StateError};
use proto::auth::MessageKey;
use proto::envelope::Envelope;
use proto::id::{Id, JobId};
use proto::report::Report;

use crate::Doors;
use crate::job::Event;

/// Reports that are read in one go.
const REPORTS_AT_ONCE: usize = 256;
/// How long one read waits for the first.
const WAIT: Duration = Duration::from_secs(1);
/// How long to wait before a job state that failed is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Reads the reports of one job.
pub(crate) struct Collector {
    doors: Doors,
    job: JobId,
    key: MessageKey,
    repository: Id,
    position: Position,
    trimmed: Position,
}

impl Collector {
    /// Reads the reports behind `position`.
    pub(crate) fn new(doors: Doors, job: JobId, key: MessageKey, position: Position) -> Self {
        let repository = doors.repository.id();
        Self { doors, job, key, repository, position, trimmed: Position::default() }
    }

    /// Up to where the reports were read.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// The stream was lost: it is read from its start.
    pub(crate) fn rewind(&mut self) {
        (self.position, self.trimmed) = (Position::default(), Position::default());
    }

    /// Drops what was read, where whoever begins the job anew does not need it.
    pub(crate) async fn trim(&mut self) {
        if self.position == self.trimmed {
            return;
        }
        match self.doors.state.trim_reports(&self.job, &self.position).await {
            Ok(()) => self.trimmed = self.position.clone(),
            Err(error) => tracing::debug!(%error, "the report stream was not trimmed"),
        }
    }

    /// The next reports as events; none after a while without one. Safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, StateError> {
        let read = self.doors.state.read_reports(&self.job, &self.position, REPORTS_AT_ONCE, WAIT).await;
        let reports = match read {
            Ok(reports) => reports,
            Err(error @ StateError::Denied { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "no reports can be read");
                self.doors.clock.sleep(ASK_AGAIN_AFTER).await;
                return Ok(Vec::new());
            }
        };
        let events = reports.iter().filter_map(|(_, report)| self.event(report)).collect();
        if let Some((last, _)) = reports.into_iter().next_back() {
            self.position = last;
        }
        Ok(events)
    }

    /// What does not verify is dropped: anybody may write into a job state.
    fn event(&self, report: &Bytes) -> Option<Event> {
        let now = self.doors.clock.now();
        match Envelope::<Report>::open(report, &self.key, &self.repository, now) {
            Ok(envelope) if envelope.job == self.job => match envelope.body {
                Report::Pack(pack) => Some(Event::PackReported(pack)),
                Report::Result(result) => Some(Event::Result(result)),
                Report::Long(payload) => Some(Event::LongReport(payload)),
                Report::Dead(dead) => Some(Event::Dead(dead)),
                Report::Unknown => None,
            },
            Ok(envelope) => {
                count_dropped_report("job");
                tracing::warn!(job = %envelope.job, "a report of another job was dropped");
                None
            }
            Err(error) => {
                count_dropped_report(error.reason());
                tracing::warn!(%error, "a report was dropped");
                None
            }
        }
    }
}
