//! What a check tells: while it runs, and in the end.

use std::collections::HashMap;

use tokio::sync::mpsc::Sender;

use super::finding::{Finding, FindingKind, Severity};

/// Findings of one kind are kept up to here; all are counted, and told while the check runs.
pub const KEPT_MAX_PER_KIND: usize = 1_000;

/// What a check is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Keys, locks and snapshots.
    Files,
    /// Index files.
    Index,
    /// Names and lengths of packs.
    Packs,
    /// Directories of all snapshots.
    Trees,
    /// Content of packs.
    Data,
}

/// Something that happened during a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckEvent {
    /// A stage began.
    Began {
        /// Which.
        stage: Stage,
        /// Files, packs or bytes to do, if that is known. Bytes in the stage `Data`.
        total: Option<u64>,
    },
    /// A stage went on.
    Advanced {
        /// Which.
        stage: Stage,
        /// How much was done since the last such event: files, trees, or bytes in the stage `Data`.
        done: u64,
    },
    /// Something was found.
    Found(Finding),
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Damage, at most [`KEPT_MAX_PER_KIND`] of each kind.
    pub errors: Vec<Finding>,
    /// Oddities, at most [`KEPT_MAX_PER_KIND`] of each kind.
    pub hints: Vec<Finding>,
    /// How many errors there were.
    pub error_count: u64,
    /// How many hints there were.
    pub hint_count: u64,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Index files that could be read.
    pub index_files: u64,
    /// Packs that the index names.
    pub packs: u64,
    /// Copies of blobs that the index names.
    pub blobs: u64,
    /// Different trees that were read and found whole.
    pub trees: u64,
    /// Entries of these trees.
    pub nodes: u64,
    /// Packs whose content was read.
    pub packs_read: u64,
    /// Bytes of these packs.
    pub bytes_read: u64,
    /// Index files were damaged, so that trees could not be judged.
    pub trees_skipped: bool,
}

impl CheckReport {
    /// Whether no damage was found.
    pub fn is_clean(&self) -> bool {
        self.error_count == 0
    }
}

/// Fills the report and tells who listens.
pub(super) struct Recorder {
    pub(super) report: CheckReport,
    events: Option<Sender<CheckEvent>>,
    kept: HashMap<FindingKind, usize>,
}

impl Recorder {
    pub(super) fn new(events: Option<Sender<CheckEvent>>) -> Self {
        Self { report: CheckReport::default(), events, kept: HashMap::new() }
    }

    pub(super) async fn began(&mut self, stage: Stage, total: Option<u64>) {
        self.tell(CheckEvent::Began { stage, total }).await;
    }

    pub(super) async fn advanced(&mut self, stage: Stage, done: u64) {
        self.tell(CheckEvent::Advanced { stage, done }).await;
    }

    pub(super) async fn found(&mut self, findings: impl IntoIterator<Item = Finding, IntoIter: Send>) {
        for finding in findings {
            if self.events.is_some() {
                self.tell(CheckEvent::Found(finding.clone())).await;
            }
            self.keep(finding);
        }
    }

    fn keep(&mut self, finding: Finding) {
        let report = &mut self.report;
        let (list, count) = match finding.severity() {
            Severity::Error => (&mut report.errors, &mut report.error_count),
            Severity::Hint => (&mut report.hints, &mut report.hint_count),
        };
        *count += 1;
        let kept = self.kept.entry(finding.kind).or_default();
        if *kept < KEPT_MAX_PER_KIND {
            *kept += 1;
            list.push(finding);
        }
    }

    async fn tell(&mut self, event: CheckEvent) {
        let Some(events) = &self.events else { return };
        if events.send(event).await.is_err() {
            // Nobody listens any more; the report says it all.
            self.events = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_findings_are_counted_and_told_but_not_all_kept() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(KEPT_MAX_PER_KIND + 10);
        let mut recorder = Recorder::new(Some(sender));
        let count = KEPT_MAX_PER_KIND + 5;
        recorder.found((0..count).map(|_| Finding::new(FindingKind::DataMissing, "data/x", ""))).await;
        recorder.found([Finding::new(FindingKind::PackMixed, "data/y", "")]).await;
        let report = &recorder.report;
        assert_eq!((report.error_count, report.errors.len()), (count as u64, KEPT_MAX_PER_KIND));
        assert_eq!((report.hint_count, report.hints.len()), (1, 1));
        assert!(!report.is_clean());
        receiver.close();
        let mut told = 0;
        while receiver.recv().await.is_some() {
            told += 1;
        }
        assert_eq!(told, count + 1);
        recorder.began(Stage::Data, None).await;
        assert!(recorder.events.is_none());
    }
}
