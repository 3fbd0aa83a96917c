//! The end of a job: root, own packs, index, snapshot, in this order (DESIGN 2.2).

use proto::id::Id;

use super::effect::Effect;
use super::partitions::finished_fragments;
use super::state::{Phase, ROOT, State};
use proto::job::{TargetNode, TargetPlace};

impl State {
    /// Goes on to the next phase once nothing of the present one is left.
    pub(super) fn finish_if_possible(&mut self) {
        match self.phase {
            Phase::Archiving => self.finish_archiving(),
            Phase::Indexing(tree) if self.unanswered == 0 => {
                self.write_index(); // nothing is written when nothing waits
                if self.packs.all_indexed() {
                    self.phase = Phase::Committing;
                    self.perform(Effect::Commit { tree });
                }
            }
            _ => {}
        }
    }

    fn finish_archiving(&mut self) {
        if !self.tasks.is_empty() || self.unanswered > 0 {
            return;
        }
        if self.find_unreported_packs() {
            return;
        }
        if !self.wanted.is_empty() && !self.listed_for_wanted {
            let wanted = self.wanted.keys().copied().collect();
            return self.perform(Effect::ListIndex { wanted });
        }
        let Some(root) = self.dirs.get(&ROOT) else { return };
        if root.open > 0 {
            let left = root.open;
            return self.fail(format!("nothing is left to do, but {left} entries of the root are not finished"));
        }
        let fragments = finished_fragments(&root.pieces);
        if fragments.is_empty() && !self.settings.allow_empty {
            return self.fail("nothing was found to back up: the snapshot would be empty".into());
        }
        let below_targets = self.counts.entries.saturating_sub(count_nodes(&self.settings.targets));
        if below_targets == 0 && self.settings.parent_has_content && !self.settings.allow_empty {
            return self.fail(
                "the data set is empty, and was not in the parent snapshot: is it mounted? --allow-empty takes it as it is"
                    .into(),
            );
        }
        self.phase = Phase::AssemblingRoot;
        self.perform(Effect::AssembleRoot { fragments });
    }

    pub(super) fn root_assembled(&mut self, tree: Id) {
        self.answered();
        self.tree = Some(tree);
        self.phase = Phase::Flushing(tree);
        self.perform(Effect::FlushPacks);
    }

    pub(super) fn packs_flushed(&mut self) {
        self.answered();
        if let Phase::Flushing(tree) = self.phase {
            self.phase = Phase::Indexing(tree);
        }
    }
}

fn count_nodes(nodes: &[TargetNode]) -> u64 {
    let below = |node: &TargetNode| match &node.place {
        TargetPlace::Above(children) => count_nodes(children),
        TargetPlace::Target { .. } => 0,
    };
    nodes.iter().map(|node| 1 + below(node)).sum()
}
