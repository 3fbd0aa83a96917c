//! Partitions of the tree: what a report leaves open becomes tasks, what it finished becomes pieces.

use std::collections::BTreeMap;

use proto::id::{Round, WorkerId};
use proto::job::{TargetNode, TargetPlace};
use proto::name::RawName;
use proto::report::{Archived, Fragment, Item, NewDevice, OpenDir, OpenNames};
use proto::task::{ArchiveWork, Names, Scope, Work};

use super::effect::Effect;
use super::state::{Dir, DirKey, FactsStage, OpenTask, Piece, Place, ROOT, ReportKey, State};

/// More bytes of names do not go into one task: a message has room for 256 KiB.
const NAMES_BYTES_MAX: usize = 64 << 10;

/// Where accepted items come from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) worker: &'a WorkerId,
    /// What the report still needs, if anything.
    pub(super) proof: Option<ReportKey>,
    /// The task's.
    pub(super) round: Round,
    pub(super) borrow: bool,
}

/// How a list of names is handed out.
struct Terms {
    round: Round,
    borrow: bool,
    /// One that could not read them, when another shall try.
    not_again: Option<WorkerId>,
    /// Large files are read whole, through one descriptor.
    whole_files: bool,
}

impl State {
    /// Places what an archive task made of its scope.
    pub(super) fn accept_archived(&mut self, task: &OpenTask, archived: Archived, origin: &Origin<'_>) {
        let (dir, bounds) = match &task.place {
            Place::Root => (ROOT, None),
            Place::Names(dir, first) => {
                let piece = self.dirs.get_mut(dir).and_then(|directory| directory.pieces.remove(first));
                let Some(Piece::Open { last }) = piece else {
                    return self.fail(format!("a result came for entries from {first} on that no task had"));
                };
                (*dir, Some((first.clone(), last)))
            }
            Place::Range(..) | Place::Probe => return self.fail("a range was answered as a scope of the tree".into()),
        };
        if let Some(directory) = self.dirs.get_mut(&dir) {
            directory.open -= 1;
        }
        if let Some(root) = archived.root
            && self.facts == FactsStage::Root
        {
            self.facts = FactsStage::Adopting;
            self.perform(Effect::AdoptHost { host: root.host, targets: root.targets });
        }
        self.place_items(dir, bounds.as_ref(), archived.items, origin);
        self.assemble_if_complete(dir);
    }

    /// Adds neighbouring entries to a directory. Their names must ascend and lie within `bounds`.
    fn place_items(&mut self, dir: DirKey, bounds: Option<&(RawName, RawName)>, items: Vec<Item>, origin: &Origin<'_>) {
        let mut before: Option<RawName> = None;
        for item in items {
            let (first, last) = item_bounds(&item);
            let ascends = first <= last && before.as_ref().is_none_or(|before| *before < first);
            let inside = bounds.is_none_or(|(from, to)| *from <= first && last <= *to);
            if !ascends || !inside {
                return self
                    .fail(format!("a report has entries out of order or outside of its scope: {first} .. {last}"));
            }
            before = Some(last);
            self.place_item(dir, item, origin);
        }
    }

    fn place_item(&mut self, dir: DirKey, item: Item, origin: &Origin<'_>) {
        match item {
            Item::Nodes(fragment) => self.place_fragment(dir, fragment, origin.proof),
            Item::Dir(open) => self.place_dir(dir, open, origin),
            Item::File(open) => self.place_file(dir, open, origin),
            Item::Open(open) => self.place_open(dir, open, origin),
            Item::Device(new) => self.place_device(dir, &new, origin),
        }
    }

    fn place_fragment(&mut self, dir: DirKey, fragment: Fragment, proof: Option<ReportKey>) {
        let first = fragment.first.clone();
        let piece = match proof.and_then(|key| self.proofs.get_mut(&key)) {
            Some(proof) => {
                proof.pieces.push((dir, first.clone()));
                Piece::Unproven { fragment }
            }
            None => Piece::Done { fragment },
        };
        if let Some(directory) = self.dirs.get_mut(&dir) {
            directory.open += usize::from(matches!(piece, Piece::Unproven { .. }));
            directory.pieces.insert(first, piece);
        }
    }

    fn place_dir(&mut self, above: DirKey, open: OpenDir, origin: &Origin<'_>) {
        let key = self.new_key();
        let dir = Dir {
            above: Some((above, open.name.clone())),
            path: open.path,
            node: open.node,
            view: Some(open.view),
            parents: open.parents,
            parent_device: open.parent_device,
            pieces: BTreeMap::new(),
            open: 0,
        };
        self.dirs.insert(key, dir);
        self.counts.entries += 1; // it stays open whatever becomes of the report
        self.insert_open_piece(above, open.name, Piece::Dir);
        self.place_items(key, None, open.items, origin);
        self.assemble_if_complete(key);
    }

    pub(super) fn insert_open_piece(&mut self, dir: DirKey, first: RawName, piece: Piece) {
        if let Some(directory) = self.dirs.get_mut(&dir) {
            directory.open += 1;
            directory.pieces.insert(first, piece);
        }
    }

    fn place_open(&mut self, dir: DirKey, open: OpenNames, origin: &Origin<'_>) {
        let (first, last) = &open.bounds;
        if let Names::Listed(names) = &open.names
            && !(names.is_sorted_by(|a, b| a < b) && names.first() == Some(first) && names.last() == Some(last))
        {
            return self.fail(format!("a report leaves names open that are not those from {first} to {last}"));
        }
        let not_again = open.second_opinion.then(|| origin.worker.clone());
        // The scope may be the task's own: only the round makes it another task then.
        let round = origin.round + Round::from(open.second_opinion);
        let terms = Terms { round, borrow: origin.borrow, not_again, whole_files: false };
        self.hand_out(dir, open.names, open.bounds, &terms);
    }

    /// Makes tasks of names; a list is cut into as many as can be worked on.
    fn hand_out(&mut self, dir: DirKey, names: Names, bounds: (RawName, RawName), terms: &Terms) {
        let Names::Listed(names) = names else {
            return self.hand_out_one(dir, names, bounds, terms);
        };
        let per_task = self.names_per_task(names.len());
        let mut rest = names.as_slice();
        while let (Some(first), part) = (rest.first(), take_names(&mut rest, per_task))
            && let Some(last) = part.last()
        {
            let bounds = (first.clone(), last.clone());
            self.hand_out_one(dir, Names::Listed(part.to_vec()), bounds, terms);
        }
    }

    /// The entries of a directory above the targets; none of one at or below a target.
    fn targets_in(&self, dir: DirKey) -> Option<&[TargetNode]> {
        match &self.dirs.get(&dir)?.above {
            None => Some(&self.settings.targets),
            Some((above, name)) => {
                let node = self.targets_in(*above)?.iter().find(|node| node.name == *name)?;
                match &node.place {
                    TargetPlace::Above(children) => Some(children),
                    TargetPlace::Target { .. } => None,
                }
            }
        }
    }

    /// As few as keep the workers busy, at most what one budget covers.
    fn names_per_task(&self, names: usize) -> usize {
        let wanted = (2 * self.workers.slots.max(1) as usize).saturating_sub(self.tasks.len()).clamp(1, 16);
        let budget = usize::try_from(self.settings.budget.changed_entries).unwrap_or(usize::MAX).max(1);
        names.div_ceil(wanted).clamp(1, budget)
    }

    fn hand_out_one(&mut self, dir: DirKey, names: Names, (first, last): (RawName, RawName), terms: &Terms) {
        let Some(directory) = self.dirs.get(&dir) else { return };
        let mut budget = self.settings.budget.clone();
        if terms.whole_files {
            budget.range_threshold_bytes = u64::MAX;
        }
        let (scope, view) = match self.targets_in(dir) {
            // Above the targets the tree's names need not be the source's: a worker looks for the targets instead.
            Some(targets) => {
                let named = |target: &&TargetNode| match &names {
                    Names::Listed(names) => names.binary_search(&target.name).is_ok(),
                    Names::Slice { .. } => true,
                };
                (Scope::Root { targets: targets.iter().filter(named).cloned().collect() }, None)
            }
            None => (Scope::Names { dir: directory.path.clone(), names }, directory.view),
        };
        let work = Work::Archive(ArchiveWork {
            scope,
            parents: directory.parents.clone(),
            parent_device: directory.parent_device,
            view,
            expected_targets: Vec::new(),
            budget,
            borrow: terms.borrow,
            last_word: terms.not_again.is_some() || self.is_one_view(),
        });
        self.insert_open_piece(dir, first.clone(), Piece::Open { last });
        let task = self.open_task(work, terms.round, Place::Names(dir, first));
        if let (Some(worker), Some(task)) = (&terms.not_again, self.tasks.get_mut(&task)) {
            task.refusals.avoid(worker.clone());
        }
    }

    /// Numbers a file system that the map lacks, and opens the directory again.
    fn place_device(&mut self, dir: DirKey, new: &NewDevice, origin: &Origin<'_>) {
        if !self.devices.contains_key(&new.path) {
            let taken = |number: &u64| self.devices.values().any(|other| other == number);
            let wishes = new.parent_device.into_iter().chain([new.device]);
            let number = wishes.into_iter().find(|number| !taken(number)).unwrap_or_else(|| {
                (1..).find(|number| !taken(number)).unwrap_or(u64::MAX) // there are fewer devices than numbers
            });
            self.devices.insert(new.path.clone(), number);
            // Who sees no other file system there does not see the data set.
            self.mounted.insert(new.path.clone());
            self.change_facts();
        }
        let terms = Terms { round: origin.round + 1, borrow: origin.borrow, not_again: None, whole_files: false };
        let names = Names::Listed(vec![new.name.clone()]);
        self.hand_out(dir, names, (new.name.clone(), new.name.clone()), &terms);
    }

    /// A piece whose result was rejected: its names are read from it, to be done again.
    pub(super) fn reopen_piece(&mut self, dir: DirKey, first: &RawName, round: Round, borrow: bool) {
        let Some(directory) = self.dirs.get_mut(&dir) else { return };
        let Some(piece) = directory.pieces.get_mut(first) else { return };
        if let Piece::Unproven { fragment } = piece {
            let fragment = fragment.clone();
            *piece = Piece::Reopening { last: fragment.last.clone(), round, borrow };
            self.perform(Effect::ReadNames { dir, fragment });
        }
    }

    pub(super) fn reopen_names(&mut self, dir: DirKey, first: &RawName, names: Vec<RawName>) {
        self.answered();
        let Some(directory) = self.dirs.get_mut(&dir) else { return };
        if let Some(Piece::Reopening { last, round, borrow }) = directory.pieces.remove(first) {
            directory.open -= 1;
            let terms = Terms { round, borrow, not_again: None, whole_files: false };
            self.hand_out(dir, Names::Listed(names), (first.clone(), last), &terms);
            self.assemble_if_complete(dir);
        }
    }

    /// A large file that cannot be put together from ranges: one worker reads all of it.
    pub(super) fn reopen_whole_file(&mut self, dir: DirKey, name: RawName, round: Round) {
        if let Some(directory) = self.dirs.get_mut(&dir) {
            directory.pieces.remove(&name);
            directory.open -= 1;
        }
        let terms = Terms { round, borrow: true, not_again: None, whole_files: true };
        self.hand_out(dir, Names::Listed(vec![name.clone()]), (name.clone(), name), &terms);
    }

    /// Puts the finished node of a directory or file in place.
    pub(super) fn place_done(&mut self, dir: DirKey, fragment: Fragment) {
        if let Some(directory) = self.dirs.get_mut(&dir) {
            directory.open -= 1;
            directory.pieces.insert(fragment.first.clone(), Piece::Done { fragment });
            self.assemble_if_complete(dir);
        }
    }

    pub(super) fn place_assembled(&mut self, dir: DirKey, node: Fragment) {
        self.answered();
        if let Some(Dir { above: Some((above, _)), .. }) = self.dirs.remove(&dir) {
            self.place_done(above, node);
        }
    }

    /// All pieces of a directory below the root are proven: its tree can be stored.
    pub(super) fn assemble_if_complete(&mut self, dir: DirKey) {
        if dir == ROOT {
            return; // when nothing else is left, see finish.rs
        }
        let Some(directory) = self.dirs.get_mut(&dir) else { return };
        if directory.open > 0 {
            return;
        }
        directory.open = usize::MAX; // being assembled: complete no second time
        // All of it stays: a checkpoint may come before the answer.
        let fragments = finished_fragments(&directory.pieces);
        let (node, parents) = (directory.node.clone(), directory.parents.clone());
        self.perform(Effect::AssembleDir { dir, node, parents, fragments });
    }
}

/// The finished entries of a directory, in order.
pub(super) fn finished_fragments(pieces: &BTreeMap<RawName, Piece>) -> Vec<Fragment> {
    let finished = |piece: &Piece| if let Piece::Done { fragment } = piece { Some(fragment.clone()) } else { None };
    pieces.values().filter_map(finished).collect()
}

/// Takes the next names: at most `count`, and no more than a message has room for.
fn take_names<'a>(rest: &mut &'a [RawName], count: usize) -> &'a [RawName] {
    let mut bytes = 0;
    let fits = |name: &&RawName| {
        bytes += name.0.len() + 8;
        bytes <= NAMES_BYTES_MAX
    };
    let length = rest.iter().take(count).take_while(fits).count().max(1).min(rest.len());
    let (part, left) = rest.split_at(length);
    *rest = left;
    part
}

fn item_bounds(item: &Item) -> (RawName, RawName) {
    match item {
        Item::Nodes(fragment) => (fragment.first.clone(), fragment.last.clone()),
        Item::Dir(open) => (open.name.clone(), open.name.clone()),
        Item::File(open) => (open.name.clone(), open.name.clone()),
        Item::Open(open) => open.bounds.clone(),
        Item::Device(new) => (new.name.clone(), new.name.clone()),
    }
}
