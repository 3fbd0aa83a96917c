//! What an accepted report still needs before it counts: its packs in storage, and what it borrowed in an index.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::id::{Id, Round, WorkerId};
use proto::name::RawName;
use proto::report::{Counts, Missing, Outcome, PackReport, Problem, ResultReport};
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::event::BlobKey;
use super::progress::PROBLEMS_KEPT_MAX;
use super::state::{DirKey, FileKey, Piece, ReportKey, State};

/// An index file is written when so many blobs wait for one (FORMAT 5).
const INDEX_BLOBS: u64 = 50_000;
/// Or when one waited so long (DESIGN 3.7).
const INDEX_EVERY: Duration = Duration::from_secs(60);

/// The packs of a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Packs {
    stages: BTreeMap<Id, PackStage>,
    /// Who waits for a pack to be confirmed.
    waiting: BTreeMap<Id, BTreeSet<ReportKey>>,
    /// Packs of trees that the coordinator wrote: no report could be done again for these.
    own: BTreeSet<Id>,
    /// Confirmed, and in no index file that is written or being written.
    unindexed: Vec<Id>,
    unindexed_blobs: u64,
    unindexed_since: Option<Duration>,
    /// In index files that are being written.
    being_indexed: usize,
    /// How often each worker closed packs that were not full.
    #[serde(default)]
    group_commits: BTreeMap<WorkerId, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PackStage {
    /// A worker says so.
    Reported,
    /// Seen in storage.
    Confirmed,
    /// Reported, and not in storage.
    Missing,
    /// In a durable index file.
    Indexed,
}

impl Packs {
    pub(super) fn any_missing(&self, packs: &[Id]) -> bool {
        packs.iter().any(|pack| self.stages.get(pack) == Some(&PackStage::Missing))
    }

    fn is_confirmed(&self, pack: &Id) -> bool {
        matches!(self.stages.get(pack), Some(PackStage::Confirmed | PackStage::Indexed))
    }

    pub(super) fn all_indexed(&self) -> bool {
        self.unindexed.is_empty() && self.being_indexed == 0
    }

    /// How often workers closed packs that were not full.
    pub(super) fn group_commits(&self) -> u64 {
        self.group_commits.values().copied().map(u64::from).sum()
    }

    /// Packs written, as confirmed.
    pub(super) fn written(&self) -> u64 {
        self.stages.values().filter(|stage| matches!(stage, PackStage::Confirmed | PackStage::Indexed)).count() as u64
    }
}

/// What one report still needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Proof {
    packs: BTreeSet<Id>,
    blobs: BTreeSet<BlobKey>,
    /// The borrowed list is being looked up.
    checking: bool,
    round: Round,
    counts: Counts,
    missing: Missing,
    problems: Vec<Problem>,
    /// Pieces that this report finished.
    pub(super) pieces: Vec<(DirKey, RawName)>,
    /// Ranges that this report finished.
    pub(super) ranges: Vec<(FileKey, u64)>,
}

impl Serialize for BlobKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.tree, self.id).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BlobKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (tree, id) = Deserialize::deserialize(deserializer)?;
        Ok(Self { tree, id })
    }
}

impl State {
    /// Packs that were confirmed so far.
    pub fn packs_written(&self) -> u64 {
        self.packs.written()
    }

    /// Packs that were seen in storage, and whether a durable index file names them.
    pub fn confirmed_packs(&self) -> impl Iterator<Item = (Id, bool)> {
        let seen = self.packs.stages.iter().filter(|(pack, _)| self.packs.is_confirmed(pack));
        seen.map(|(pack, stage)| (*pack, *stage == PackStage::Indexed))
    }

    /// How often workers closed packs that were not full (DESIGN 7).
    pub fn group_commits(&self) -> u64 {
        self.packs.group_commits()
    }

    /// Notes what a report needs; none if it needs nothing: then its figures count at once.
    pub(super) fn begin_proof(&mut self, report: &ResultReport, round: Round) -> Option<ReportKey> {
        let waiting = report.packs.iter().filter(|pack| !self.packs.is_confirmed(pack));
        let packs: BTreeSet<Id> = waiting.copied().collect();
        if packs.is_empty() && report.borrowed.is_empty() {
            self.counts.add(&report.counts);
            self.note_problems(report.problems.clone());
            return None;
        }
        let key = self.new_key();
        let checking = !report.borrowed.is_empty();
        for pack in &packs {
            self.packs.waiting.entry(*pack).or_default().insert(key);
        }
        let missing = match &report.outcome {
            Outcome::Archived(archived) => archived.missing,
            _ => Missing::default(),
        };
        let (counts, problems) = (report.counts, report.problems.clone());
        let proof = Proof { packs, checking, round, counts, missing, problems, ..Proof::default() };
        self.proofs.insert(key, proof);
        if checking {
            self.listed_for_wanted = false;
            self.perform(Effect::CheckBorrowed { report: key, blobs: report.borrowed.clone() });
        }
        Some(key)
    }

    pub(super) fn take_pack(&mut self, report: PackReport) {
        if !matches!(self.packs.stages.get(&report.pack), None | Some(PackStage::Missing)) {
            return;
        }
        self.packs.stages.insert(report.pack, PackStage::Reported);
        if report.group_commit > 0 {
            let known = self.packs.group_commits.entry(report.worker.clone()).or_default();
            *known = report.group_commit.max(*known);
        }
        if report.worker.as_str() == self.settings.job.as_str() {
            self.packs.own.insert(report.pack);
        }
        self.perform(Effect::ConfirmPack(report));
    }

    /// Nothing else is left to do, and results wait for packs whose reports were lost with the job state: whether these
    /// are in storage can be seen.
    pub(super) fn find_unreported_packs(&mut self) -> bool {
        let stages = &self.packs.stages;
        let unreported = self.packs.waiting.keys().filter(|pack| !stages.contains_key(pack));
        let unreported: Vec<Id> = unreported.copied().collect();
        for pack in &unreported {
            self.packs.stages.insert(*pack, PackStage::Reported);
            self.perform(Effect::FindPack(*pack));
        }
        !unreported.is_empty()
    }

    pub(super) fn confirm_pack(&mut self, pack: Id, blobs: &[BlobKey]) {
        self.answered();
        if self.packs.is_confirmed(&pack) {
            return;
        }
        self.packs.stages.insert(pack, PackStage::Confirmed);
        self.packs.unindexed.push(pack);
        self.packs.unindexed_blobs += blobs.len() as u64;
        self.packs.unindexed_since.get_or_insert(self.now);
        for key in self.packs.waiting.remove(&pack).unwrap_or_default() {
            if let Some(proof) = self.proofs.get_mut(&key) {
                proof.packs.remove(&pack);
            }
            self.close_proof_if_complete(key);
        }
        if !self.wanted.is_empty() {
            self.found_blobs(blobs);
        }
    }

    pub(super) fn miss_pack(&mut self, pack: Id) {
        self.answered();
        self.packs.stages.insert(pack, PackStage::Missing);
        if self.packs.own.contains(&pack) {
            return self.fail(format!("pack {} with trees of this job is not in storage any more", pack.short()));
        }
        for key in self.packs.waiting.remove(&pack).unwrap_or_default() {
            self.reject(key);
        }
    }

    pub(super) fn check_borrowed(&mut self, key: ReportKey, missing: Vec<BlobKey>) {
        self.answered();
        let Some(proof) = self.proofs.get_mut(&key) else { return };
        proof.checking = false;
        proof.blobs = missing.iter().copied().collect();
        for blob in missing {
            self.wanted.entry(blob).or_default().insert(key);
        }
        self.close_proof_if_complete(key);
    }

    fn found_blobs(&mut self, blobs: &[BlobKey]) {
        let mut touched = BTreeSet::new();
        for blob in blobs {
            for key in self.wanted.remove(blob).unwrap_or_default() {
                if let Some(proof) = self.proofs.get_mut(&key) {
                    proof.blobs.remove(blob);
                    touched.insert(key);
                }
            }
        }
        for key in touched {
            self.close_proof_if_complete(key);
        }
    }

    /// The index was listed once more: what borrowed blobs are still missing is done again without borrowing.
    pub(super) fn take_index_listing(&mut self, found: &[BlobKey]) {
        self.answered();
        self.listed_for_wanted = true;
        self.found_blobs(found);
        let lost: BTreeSet<ReportKey> = self.wanted.values().flatten().copied().collect();
        self.progress.borrowed_rejected += lost.len() as u64;
        for key in lost {
            self.reject(key);
        }
    }

    pub(super) fn close_proof_if_complete(&mut self, key: ReportKey) {
        let Some(proof) = self.proofs.get(&key) else { return };
        if proof.checking || !proof.packs.is_empty() || !proof.blobs.is_empty() {
            return;
        }
        let Some(proof) = self.proofs.remove(&key) else { return };
        self.counts.add(&proof.counts);
        self.note_problems(proof.problems);
        for (dir, first) in proof.pieces {
            self.prove_piece(dir, &first);
        }
        for (file, start) in proof.ranges {
            self.prove_range(file, start);
        }
    }

    fn prove_piece(&mut self, dir: DirKey, first: &RawName) {
        let Some(directory) = self.dirs.get_mut(&dir) else { return };
        let Some(piece) = directory.pieces.get_mut(first) else { return };
        if let Piece::Unproven { fragment } = piece {
            *piece = Piece::Done { fragment: fragment.clone() };
            directory.open -= 1;
            self.assemble_if_complete(dir);
        }
    }

    /// What a report finished is done again, without borrowing; what it left open goes on.
    fn reject(&mut self, key: ReportKey) {
        let Some(proof) = self.proofs.remove(&key) else { return };
        for blob in &proof.blobs {
            forget(&mut self.wanted, blob, key);
        }
        for pack in &proof.packs {
            forget(&mut self.packs.waiting, pack, key);
        }
        // What could not be read, or was gone, is not among the names that are done again: it stays known.
        self.counts.unreadable += proof.missing.unreadable;
        self.counts.vanished += proof.missing.vanished;
        self.note_problems(proof.problems);
        let Some(round) = self.next_round(proof.round) else { return };
        for (dir, first) in proof.pieces {
            self.reopen_piece(dir, &first, round, false);
        }
        for (file, start) in proof.ranges {
            self.reopen_range(file, start, round, false);
        }
    }

    /// Lists problems, as long as they are not too many.
    pub(super) fn note_problems(&mut self, problems: Vec<Problem>) {
        self.problems.extend(problems);
        self.problems.truncate(PROBLEMS_KEPT_MAX);
    }

    /// Writes an index file when enough waits for one.
    pub(super) fn write_index_if_due(&mut self) {
        let due = self.packs.unindexed_since.is_some_and(|since| self.now.saturating_sub(since) >= INDEX_EVERY);
        if self.packs.unindexed_blobs >= INDEX_BLOBS || due {
            self.write_index();
        }
    }

    pub(super) fn write_index(&mut self) {
        let packs = std::mem::take(&mut self.packs.unindexed);
        self.packs.unindexed_blobs = 0;
        self.packs.unindexed_since = None;
        if !packs.is_empty() {
            self.packs.being_indexed += packs.len();
            self.perform(Effect::WriteIndex { packs });
        }
    }

    pub(super) fn index_written(&mut self, packs: &[Id]) {
        self.answered();
        self.packs.being_indexed -= packs.len().min(self.packs.being_indexed);
        for pack in packs {
            self.packs.stages.insert(*pack, PackStage::Indexed);
        }
    }
}

/// Takes one waiting report off a list; an empty list goes.
fn forget<K: Ord>(lists: &mut BTreeMap<K, BTreeSet<ReportKey>>, of: &K, key: ReportKey) {
    if let Some(keys) = lists.get_mut(of) {
        keys.remove(&key);
        if keys.is_empty() {
            lists.remove(of);
        }
    }
}
