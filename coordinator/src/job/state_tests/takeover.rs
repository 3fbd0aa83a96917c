//! A checkpoint at any point, written and read again by another coordinator, leads to the same end.

use fleet::state::Position;

use super::*;
use crate::assemble::Figures;
use crate::checkpoint::Checkpoint;

/// When another coordinator goes on, and whether the messages in the queue are lost with the first one.
#[derive(Clone, Copy)]
struct HandOver {
    at: usize,
    messages_are_lost: bool,
}

/// What a job came to.
#[derive(Debug, PartialEq)]
struct End {
    root: Vec<Fragment>,
    counts: Counts,
    packs: u64,
    /// Steps that it took.
    steps: usize,
}

/// A job with its effects, answered one by one.
struct Drive {
    job: Job,
    open: VecDeque<Effect>,
    reported: BTreeSet<(Id, Round)>,
    root: Vec<Fragment>,
}

impl Drive {
    fn begin() -> Self {
        let mut job = Job::with(|_| {});
        job.see(&["w1"]);
        let open = job.apply(Event::Started).into();
        Self { job, open, reported: BTreeSet::new(), root: Vec::new() }
    }

    fn apply(&mut self, event: Event) {
        let effects = self.job.apply(event);
        self.open.extend(effects);
    }

    /// Another coordinator reads what this one wrote.
    fn hand_over(&mut self, messages_are_lost: bool) {
        let under_way: Vec<Effect> = self.open.drain(..).collect();
        assert_eq!(self.job.state.unanswered() as usize, under_way.len());
        let written = Checkpoint {
            state: self.job.state.clone(),
            under_way,
            generation: 1,
            position: Position(7, 0),
            facts: Id::of(b"facts"),
            figures: Figures::default(),
            index_files: 2,
            lock: Id::of(b"lock"),
        };
        let read = Checkpoint::decode(&written.encode().unwrap()).unwrap();
        assert_eq!((read.position, read.index_files, read.lock), (written.position, 2, written.lock));
        self.job.state = read.state;
        self.open = read.under_way.into();
        if messages_are_lost {
            self.job.published.clear();
        }
        self.apply(Event::TakenOver);
    }

    /// Does one thing that is left; says whether the snapshot is to be put.
    fn step(&mut self) -> bool {
        let unreported = |task: &&Published| !self.reported.contains(&(task.task, task.round));
        if let Some(task) = self.job.published.iter().find(unreported).cloned() {
            self.reported.insert((task.task, task.round));
            self.report(&task);
            return false;
        }
        match self.open.pop_front() {
            Some(Effect::Commit { .. }) => return true,
            Some(effect) => self.answer(effect),
            None => {
                self.job.later(13);
                let effects = self.job.see(&["w1"]);
                self.open.extend(effects);
            }
        }
        false
    }

    fn report(&mut self, task: &Published) {
        let names = names_of(&task.work);
        let mut report = match &task.work {
            Work::Probe(_) => Job::report(task, "w1", Outcome::Probed),
            Work::Archive(work) if matches!(work.scope, Scope::Root { .. }) => {
                Job::archived(task, vec![dir("data", "/data", vec![open(&["a"]), open(&["b"]), open(&["c"])])])
            }
            _ => Job::archived(task, vec![Item::Nodes(fragment(&names[0].to_string(), &names[0].to_string()))]),
        };
        if let Some(name) = names.first().filter(|name| **name != RawName::from(&b"data"[..])) {
            report.packs = vec![pack(&name.to_string())];
            report.borrowed = Payload::Inline(vec![1]);
            report.counts.entries = 1;
            self.apply(Event::PackReported(pack_report(&name.to_string())));
        }
        self.apply(Event::Result(Box::new(report)));
    }

    fn answer(&mut self, effect: Effect) {
        let event = match effect {
            Effect::ConfirmPack(PackReport { pack, .. }) | Effect::FindPack(pack) => {
                Event::PackConfirmed { pack, blobs: vec![BlobKey { tree: false, id: pack }] }
            }
            Effect::CheckBorrowed { report, .. } => Event::BorrowedChecked { report, missing: vec![blob("elsewhere")] },
            Effect::ListIndex { wanted } => Event::IndexListed { found: wanted },
            Effect::AssembleDir { dir, node, .. } => {
                let own = PackReport { worker: worker("job"), ..pack_report("own") };
                self.apply(Event::PackReported(own));
                let text = String::from_utf8(node).unwrap();
                Event::DirAssembled { dir, node: fragment(&text, &text) }
            }
            Effect::AssembleRoot { fragments } => {
                self.root = fragments;
                Event::RootAssembled { tree: Id::of(b"tree") }
            }
            Effect::FlushPacks => Event::PacksFlushed,
            Effect::WriteIndex { packs } => Event::IndexWritten { packs },
            other => panic!("{other:?}"),
        };
        self.apply(event);
    }
}

fn run(hand_over: Option<HandOver>) -> End {
    let mut drive = Drive::begin();
    for steps in 0..200 {
        if let Some(HandOver { at, messages_are_lost }) = hand_over
            && at == steps
        {
            drive.hand_over(messages_are_lost);
        }
        if drive.step() {
            let state = &drive.job.state;
            return End { root: drive.root, counts: *state.counts(), packs: state.packs_written(), steps };
        }
    }
    panic!("the job does not end");
}

#[test]
fn whoever_goes_on_comes_to_the_same_end() {
    let expected = run(None);
    assert_eq!((expected.counts.entries, expected.packs), (4, 4), "three entries and their directory");
    for at in 0..=expected.steps {
        for messages_are_lost in [false, true] {
            let found = run(Some(HandOver { at, messages_are_lost }));
            assert_eq!(End { steps: expected.steps, ..found }, expected, "after {at} steps");
        }
    }
}

#[test]
fn what_was_under_way_is_not_forgotten() {
    let mut drive = Drive::begin();
    while !drive.open.iter().any(|effect| matches!(effect, Effect::CheckBorrowed { .. })) {
        drive.step();
    }
    drive.hand_over(true);
    assert!(drive.open.iter().any(|effect| matches!(effect, Effect::CheckBorrowed { .. })), "{:?}", drive.open);
}

#[test]
fn the_registry_of_workers_is_not_believed_at_once() {
    let mut job = Job::started();
    job.later(100);
    job.see(&["w1"]);
    job.apply(Event::TakenOver);
    assert_eq!(job.state.workers.first_seen, None);
}
