//! Reads packs to their end, and compares them with what the index says (DESIGN 3.10).

use std::sync::Arc;

use fleet::cpu::Cpu;
use fleet::objects::ObjectsExt;
use futures::{StreamExt, TryStreamExt};
use proto::handles::BoxFuture;
use proto::report::{Checked, Payload};
use proto::task::{CheckWork, Task};
use repository::format::index::{IndexedPack, decode_index};
use repository::format::pack::pack_length;
use repository::maintenance::check::{Finding, verify_pack};
use repository::maintenance::executor::{Executor, Resources};

use crate::error::WorkerError;
use crate::meter::Meter;
use crate::worker::Shared;

/// Packs that one task reads at once.
const PACKS_AT_ONCE: usize = 2;

/// What the checks of one worker may use, all tasks together.
pub(crate) struct Checks(Resources);

impl Checks {
    pub(crate) fn new(cpu: &Cpu) -> Self {
        Self(Resources::new(Arc::new(OnCpu(cpu.clone())), Resources::MEMORY_BYTES_DEFAULT))
    }

    /// Does a task.
    ///
    /// # Errors
    /// The packs cannot be read now. Damage is no error.
    pub(crate) async fn perform(&self, shared: &Shared, task: &Task, work: &CheckWork) -> Result<Checked, WorkerError> {
        let doors = &shared.doors;
        let json = doors.objects.load(&task.job, &work.packs).await?;
        let mut packs = Vec::new();
        decode_index(&json, |pack| packs.push(pack))
            .map_err(|error| WorkerError::Malformed { what: format!("its packs: {error}") })?;
        let verify = |pack: IndexedPack| async move {
            let findings = verify_pack(&doors.repository, &self.0, &pack.id, &pack.blobs).await?;
            Ok::<_, WorkerError>((pack_length(&pack.blobs), findings))
        };
        let mut verified = futures::stream::iter(packs).map(verify).buffered(PACKS_AT_ONCE);
        let mut checked = Checked::default();
        let mut found: Vec<Finding> = Vec::new();
        while let Some((bytes, findings)) = verified.try_next().await? {
            checked.packs += 1;
            checked.bytes += bytes;
            found.extend(findings);
            Meter::add(&shared.meter.entries, 1);
            Meter::add(&shared.meter.bytes_done, bytes);
            Meter::add(&shared.meter.bytes_read, bytes);
            Meter::add(&shared.meter.bytes_verified, bytes);
        }
        if !found.is_empty() {
            let json = serde_json::to_vec(&found)
                .map_err(|error| WorkerError::Malformed { what: format!("its findings cannot be sent: {error}") })?;
            checked.findings = Payload::Inline(json);
        }
        Ok(checked)
    }
}

/// Computes where the worker computes.
struct OnCpu(Cpu);

impl Executor for OnCpu {
    fn execute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.0.compute(work).await {
                tracing::error!(%error, "a check cannot compute");
            }
        })
    }
}
