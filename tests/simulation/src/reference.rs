//! The same data set backed up without any fault, by one worker, in one task: what every run must come to.

use proto::report::Counts;

use crate::data::{ROOT, boundless, request};
use crate::oracle::{Audit, Flat};
use crate::site::Site;

/// What a run must come to.
pub struct Reference {
    /// The snapshot as a list.
    pub flat: Flat,
    /// Its tree.
    pub tree: proto::id::Id,
    /// Its figures.
    pub counts: Counts,
}

impl Reference {
    /// Backs up what `site` has to back up now.
    ///
    /// # Errors
    /// A fault-free backup failed.
    pub async fn of(site: &Site) -> Result<Self, String> {
        let twin = site.calm_twin();
        twin.renew_fleet().await;
        let worker = twin.hire("twin", &[ROOT], 1, 0, None).await;
        let started = twin.submit("twin", &request("twin", boundless(), 16 << 20)).await;
        let ended = started.ended.await.map_err(|error| format!("the fault-free backup: {error}"))?;
        worker.actor.kill();
        let done = match ended {
            Some(Ok(done)) => done,
            Some(Err(error)) => return Err(format!("the fault-free backup failed: {}", error.chain())),
            None => return Err("the fault-free backup was killed".to_owned()),
        };
        let mut audit = Audit::of(&twin).await?;
        let flat = audit.flatten(&done.snapshot).await?;
        let source = sources::generated::GeneratedSource::new(site.tree.clone());
        audit.compare_with_source(&flat, &source).await?;
        Ok(Self { flat, tree: done.tree, counts: done.counts })
    }
}
