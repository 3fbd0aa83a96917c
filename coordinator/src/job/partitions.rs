//! Partitions of the tree: what a report leaves open becomes tasks, what it finished becomes pieces.

use std::collections::BTreeMap;

use proto::id::{Round, WorkerId};
use proto::name::RawName;
use proto::report::{Archived, Fragment, Item, NewDevice, OpenDir, OpenNames};
use proto::task::{ArchiveWork, Names, Scope, Work};

use super::effect::Effect;
use super::state::{Dir, DirKey, FactsStage, OpenTask, Piece, Place, ROOT, ReportKey, State};

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
    pub(super) fn accept_archived(
        &mut self,
        task: &OpenTask,
        archived: Archived,
        worker: &WorkerId,
        proof: Option<ReportKey>,
    ) {
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
        if let Some(root) = archived.root {
            self.facts = FactsStage::Pending;
            self.perform(Effect::AdoptHost { host: root.host, targets: root.targets });
        }
        self.place_items(dir, bounds.as_ref(), archived.items, worker, proof);
        self.assemble_if_complete(dir);
    }

    /// Adds neighbouring entries to a directory. Their names must ascend and lie within `bounds`.
    fn place_items(
        &mut self,
        dir: DirKey,
        bounds: Option<&(RawName, RawName)>,
        items: Vec<Item>,
        worker: &WorkerId,
        proof: Option<ReportKey>,
    ) {
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
            self.place_item(dir, item, worker, proof);
        }
    }

    fn place_item(&mut self, dir: DirKey, item: Item, worker: &WorkerId, proof: Option<ReportKey>) {
        match item {
            Item::Nodes(fragment) => self.place_fragment(dir, fragment, proof),
            Item::Dir(open) => self.place_dir(dir, open, worker, proof),
            Item::File(open) => self.place_file(dir, open, proof),
            Item::Open(open) => self.place_open(dir, open, worker),
            Item::Device(new) => self.place_device(dir, &new),
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

    fn place_dir(&mut self, above: DirKey, open: OpenDir, worker: &WorkerId, proof: Option<ReportKey>) {
        let key = self.new_key();
        let dir = Dir {
            above: Some((above, open.name.clone())),
            path: open.path,
            node: open.node,
            view: Some(open.view),
            parents: open.parents,
            pieces: BTreeMap::new(),
            open: 0,
        };
        self.dirs.insert(key, dir);
        self.insert_open_piece(above, open.name, Piece::Dir);
        self.place_items(key, None, open.items, worker, proof);
        self.assemble_if_complete(key);
    }

    pub(super) fn insert_open_piece(&mut self, dir: DirKey, first: RawName, piece: Piece) {
        if let Some(directory) = self.dirs.get_mut(&dir) {
            directory.open += 1;
            directory.pieces.insert(first, piece);
        }
    }

    fn place_open(&mut self, dir: DirKey, open: OpenNames, worker: &WorkerId) {
        let not_again = open.second_opinion.then(|| worker.clone());
        let terms = Terms { round: 0, borrow: true, not_again, whole_files: false };
        self.hand_out(dir, open.names, open.bounds, &terms);
    }

    /// Makes tasks of names; a list is cut into as many as can be worked on.
    fn hand_out(&mut self, dir: DirKey, names: Names, bounds: (RawName, RawName), terms: &Terms) {
        let Names::Listed(names) = names else {
            return self.hand_out_one(dir, names, bounds, terms);
        };
        let per_task = self.names_per_task(names.len());
        for part in names.chunks(per_task) {
            if let (Some(first), Some(last)) = (part.first(), part.last()) {
                let bounds = (first.clone(), last.clone());
                self.hand_out_one(dir, Names::Listed(part.to_vec()), bounds, terms);
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
        let work = Work::Archive(ArchiveWork {
            scope: Scope::Names { dir: directory.path.clone(), names },
            parents: directory.parents.clone(),
            view: directory.view,
            expected_targets: Vec::new(),
            budget,
            borrow: terms.borrow,
            last_word: terms.not_again.is_some() || self.workers.live.len() < 2,
        });
        self.insert_open_piece(dir, first.clone(), Piece::Open { last });
        let task = self.open_task(work, terms.round, Place::Names(dir, first));
        if let (Some(worker), Some(task)) = (&terms.not_again, self.tasks.get_mut(&task)) {
            task.refusals.avoid(worker.clone());
        }
    }

    /// Numbers a file system that the map lacks, and opens the directory again.
    fn place_device(&mut self, dir: DirKey, new: &NewDevice) {
        if !self.devices.contains_key(&new.path) {
            let taken = |number: &u64| self.devices.values().any(|other| other == number);
            let wishes = new.parent_device.into_iter().chain([new.device]);
            let number = wishes.into_iter().find(|number| !taken(number)).unwrap_or_else(|| {
                (1..).find(|number| !taken(number)).unwrap_or(u64::MAX) // there are fewer devices than numbers
            });
            self.devices.insert(new.path.clone(), number);
            self.facts = FactsStage::Pending;
            self.perform(Effect::SetDevices { devices: self.devices.clone() });
        }
        let terms = Terms { round: 0, borrow: true, not_again: None, whole_files: false };
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
        let fragments = take_fragments(&mut directory.pieces);
        let (node, parents) = (std::mem::take(&mut directory.node), directory.parents.clone());
        self.perform(Effect::AssembleDir { dir, node, parents, fragments });
    }
}

/// The finished entries of a directory, in order.
pub(super) fn take_fragments(pieces: &mut BTreeMap<RawName, Piece>) -> Vec<Fragment> {
    let pieces = std::mem::take(pieces).into_values();
    pieces.filter_map(|piece| if let Piece::Done { fragment } = piece { Some(fragment) } else { None }).collect()
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
