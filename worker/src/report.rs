//! Reports: sealed in an envelope, appended to the job's stream, confirmed; only then is a task acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet::objects::{Objects, ObjectsExt};
use fleet::state::JobState;
use futures::future::join;
use proto::auth::MessageKey;
use proto::envelope::{Envelope, EnvelopeError, SCHEMA_MINOR};
use proto::handles::Clock;
use proto::id::{Id, JobId};
use proto::report::{Item, Outcome, Payload, Report, ResultReport};

use crate::error::WorkerError;
use crate::upload::append;

/// A report that nobody has read by then is of no use.
const EXPIRES_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Inline payloads stay inline while all of them together are not longer.
const INLINE_TOTAL_MAX: u64 = 128 << 10;
/// Shorter payloads are never worth an object.
const SPILLED_FROM_BYTES: u64 = 512;

/// Sends the reports of one job.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) job: JobId,
    pub(crate) repository: Id,
    pub(crate) key: MessageKey,
    pub(crate) state: Arc<dyn JobState>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Reporter {
    /// Sends a report.
    ///
    /// # Errors
    /// `State` when the job state is away for long.
    pub(crate) async fn send(&self, report: &Report) -> Result<(), WorkerError> {
        let sealed = self.seal(report).map_err(|error| unsendable(&error))?;
        append(&*self.state, &*self.clock, &self.job, Bytes::from(sealed)).await
    }

    fn seal(&self, report: &Report) -> Result<Vec<u8>, EnvelopeError> {
        let envelope = Envelope {
            minor: SCHEMA_MINOR,
            repository: self.repository,
            job: self.job.clone(),
            expires_at: self.clock.now().plus(EXPIRES_AFTER),
            body: report,
        };
        envelope.seal(&self.key)
    }

    /// Sends a task's result; what is too long for a message goes into objects first. `beside` is done in one go with the
    /// sending.
    pub(crate) async fn send_result(
        &self,
        mut result: ResultReport,
        beside: impl Future<Output = ()>,
    ) -> Result<(), WorkerError> {
        let mut payloads = Vec::new();
        collect(&mut result, &mut payloads);
        let mut total: u64 = payloads.iter().map(|payload| inline_bytes(payload)).sum();
        payloads.sort_by_key(|payload| std::cmp::Reverse(inline_bytes(payload)));
        for payload in payloads {
            let bytes = inline_bytes(payload);
            if total <= INLINE_TOTAL_MAX || bytes < SPILLED_FROM_BYTES {
                break;
            }
            if let Payload::Inline(plain) = payload {
                *payload = self.objects.store(&self.job, std::mem::take(plain)).await?;
                total -= bytes;
            }
        }
        let report = Report::Result(Box::new(result));
        let sealed = match self.seal(&report) {
            // Many names, problems or nodes: all of it becomes an object.
            Err(EnvelopeError::TooLong { .. }) => {
                let encoded = rmp_serde::to_vec_named(&report).map_err(|error| unsendable(&error))?;
                self.seal(&Report::Long(self.objects.store(&self.job, encoded).await?))
            }
            sealed => sealed,
        };
        let sealed = Bytes::from(sealed.map_err(|error| unsendable(&error))?);
        let (sent, ()) = join(append(&*self.state, &*self.clock, &self.job, sealed), beside).await;
        sent
    }
}

fn unsendable(error: &dyn std::error::Error) -> WorkerError {
    WorkerError::Malformed { what: format!("its report cannot be sent: {error}") }
}

fn inline_bytes(payload: &Payload) -> u64 {
    match payload {
        Payload::Inline(bytes) => bytes.len() as u64,
        Payload::Object { .. } => 0,
    }
}

fn collect<'a>(result: &'a mut ResultReport, payloads: &mut Vec<&'a mut Payload>) {
    payloads.push(&mut result.borrowed);
    match &mut result.outcome {
        Outcome::Archived(archived) => {
            if let Some(root) = &mut archived.root {
                payloads.push(&mut root.host);
            }
            collect_items(&mut archived.items, payloads);
        }
        Outcome::Range(range) => payloads.push(&mut range.chunks),
        Outcome::Restored(restored) => {
            payloads.push(&mut restored.directories);
            payloads.push(&mut restored.linked);
            payloads.extend(restored.large_files.iter_mut().map(|file| &mut file.content));
        }
        Outcome::Checked(checked) => payloads.push(&mut checked.findings),
        Outcome::NotMyView(_) | Outcome::Probed | Outcome::Failed { .. } | Outcome::Unknown => {}
    }
}

fn collect_items<'a>(items: &'a mut [Item], payloads: &mut Vec<&'a mut Payload>) {
    for item in items {
        match item {
            Item::Nodes(fragment) => payloads.push(&mut fragment.nodes),
            Item::Dir(dir) => collect_items(&mut dir.items, payloads),
            Item::File(file) => payloads.push(&mut file.done),
            Item::Open(_) | Item::Device(_) => {}
        }
    }
}
