//! What a task leaves to others: the entries that it did not look at, cut into parts.

use proto::report::ProblemKind;
use proto::restore::{NamedNode, TreePart};
use sources::names::NamesBuilder;

use super::super::tools::{Halt, named_node};
use super::frame::Frame;
use super::{Clear, Leave, Walker};

/// So many parts are made of what is left in one directory, if it has enough entries.
const PARTS_PER_DIRECTORY: usize = 16;

/// What a task leaves to others.
#[derive(Debug, Default)]
pub(in super::super) struct Rest {
    /// Parts that nobody has looked at.
    pub(in super::super) parts: Vec<TreePart>,
    /// What ends here of directories that others go on with.
    pub(in super::super) leaves: Vec<Leave>,
}

impl Walker {
    /// Stops between two entries. Steps that were begun must have been taken.
    pub(in super::super) async fn rest(mut self) -> Result<Rest, Halt> {
        let mut rest = Rest::default();
        let mut unmade: Vec<NamedNode> = Vec::new();
        for mut frame in std::mem::take(&mut self.frames) {
            if !frame.is_made
                && let Some(node) = &frame.node
            {
                unmade.push(named_node(&frame.directory.path, node));
            }
            let (names, damage) = frame.names_left(&self.tools.site.cpu).await?;
            if let Some(message) = damage {
                self.tools.problem(ProblemKind::NotRestored, &frame.directory.path, message);
            }
            cut(&frame, &names, &unmade, &mut rest.parts);
            if frame.is_made {
                rest.leaves.push(leave_unfinished(frame, !names.is_empty()));
            }
        }
        rest.leaves.reverse(); // the innermost first, as a walk leaves them
        Ok(rest)
    }
}

/// Cuts the names that are left in a directory into parts of about the same number.
fn cut(frame: &Frame, names: &[Vec<u8>], unmade: &[NamedNode], parts: &mut Vec<TreePart>) {
    let Some(tree) = frame.tree else { return };
    let size = names.len().div_ceil(PARTS_PER_DIRECTORY).max(1);
    let mut after = frame.last_name.clone().or_else(|| frame.after.clone());
    let chunks: Vec<&[Vec<u8>]> = names.chunks(size).collect();
    for (number, chunk) in chunks.iter().enumerate() {
        let is_last = number + 1 == chunks.len();
        let until = if is_last { frame.until.clone() } else { chunk.last().cloned() };
        parts.push(TreePart {
            path: frame.directory.path.clone().into(),
            tree,
            after: after.take().map(Into::into),
            until: until.clone().map(Into::into),
            selected: frame.is_selected,
            unmade: unmade.to_vec(),
        });
        after = until;
    }
}

/// What this task still does for a directory that others go on with: its metadata comes late, and what the snapshot
/// has not is removed among the names that were visited.
fn leave_unfinished(frame: Frame, is_split: bool) -> Leave {
    let until = if is_split { frame.last_name.clone() } else { frame.until.clone() };
    let is_cleared = frame.is_orderly && (!is_split || frame.last_name.is_some());
    let clear = frame.names.filter(|_| is_cleared && (frame.has_restored || frame.is_selected));
    let clear = clear.map(NamesBuilder::finish).map(|names| Clear { names, after: frame.after, until });
    Leave { directory: frame.directory, node: frame.node, is_late: true, clear }
}
