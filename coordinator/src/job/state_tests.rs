//! Exact faults: one event after the other, and what a job makes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proto::handles::UnixTime;
use proto::id::{Id, JobId, Round, WorkerId};
use proto::job::{Budget, TargetNode, TargetPlace};
use proto::name::RawName;
use proto::report::{
    Archived, Counts, Fragment, Item, Missing, OpenDir, OpenNames, Outcome, PackReport, Payload, ResultReport, RootView,
};
use proto::task::{Names, Scope, View, Work};

use super::state::Settings;
use super::{BlobKey, Effect, Event, State};

mod ending;
mod queue;
mod proofs;
mod ranges;
mod scopes;
mod takeover;
mod views;

/// A task as it was published.
#[derive(Clone, Debug)]
struct Published {
    task: Id,
    round: Round,
    work: Work,
    refused_by: Vec<WorkerId>,
}

/// A job whose messages are confirmed and whose facts are stored at once; everything else is left to the test.
struct Job {
    state: State,
    now: Duration,
    published: Vec<Published>,
    /// What the root worker's map of devices says.
    devices: BTreeMap<RawName, u64>,
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).unwrap()
}

fn name(text: &str) -> RawName {
    RawName::from(text.as_bytes())
}

fn target(text: &str) -> TargetNode {
    let path = name(&format!("/{text}"));
    TargetNode { name: name(text), source: path.clone(), place: TargetPlace::Target { path, explicit: true } }
}

fn view(inode: u64) -> View {
    View { inode, file_type: 0o040_000 }
}

/// Finished entries from `first` to `last`.
fn nodes(first: &str, last: &str) -> Item {
    Item::Nodes(fragment(first, last))
}

fn fragment(first: &str, last: &str) -> Fragment {
    Fragment { first: name(first), last: name(last), count: 2, nodes: Payload::Inline(b"{}".to_vec()) }
}

/// Entries that are left open.
fn open(names: &[&str]) -> Item {
    let bounds = (name(names[0]), name(names[names.len() - 1]));
    let names: Vec<RawName> = names.iter().map(|text| name(text)).collect();
    Item::Open(OpenNames { count: names.len() as u64, names: Names::Listed(names), bounds, second_opinion: false })
}

/// A directory that is left open.
fn dir(text: &str, path: &str, items: Vec<Item>) -> Item {
    Item::Dir(OpenDir {
        parent_device: None,
        name: name(text),
        path: name(path),
        node: text.as_bytes().to_vec(),
        view: view(7),
        parents: Vec::new(),
        items,
    })
}

impl Job {
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            job: JobId::new("job").unwrap(),
            targets: vec![target("data")],
            budget: Budget::default(),
            parents: Vec::new(),
            expected_targets: Vec::new(),
            parent_has_content: false,
            registry_complete: false,
            one_view: false,
            allow_empty: false,
        };
        change(&mut settings);
        Self { state: State::new(settings), now: Duration::ZERO, published: Vec::new(), devices: BTreeMap::new() }
    }

    /// A job with one worker, whose root task is published.
    fn started() -> Self {
        let mut job = Self::with(|_| {});
        job.see(&["w1"]);
        assert!(job.apply(Event::Started).is_empty());
        job
    }

    /// A job of which the root task left these entries of `/data` open.
    fn split(items: Vec<Item>) -> Self {
        let mut job = Self::started();
        let root = job.last();
        assert!(job.finish(&root, vec![dir("data", "/data", items)]).is_empty());
        job
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut left = Vec::new();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = self.state.apply(event, self.now);
            let in_flight = self.state.tasks.values().filter(|task| task.published.is_some()).count();
            assert_eq!(self.state.in_flight, in_flight);
            for effect in effects {
                match effect {
                    Effect::Publish { task, round, work, refused_by } => {
                        self.published.push(Published { task, round, work, refused_by });
                        events.push_back(Event::Published { task });
                    }
                    Effect::AdoptHost { .. } => {
                        events.push_back(Event::FactsReady { devices: self.devices.clone() });
                    }
                    other => left.push(other),
                }
            }
        }
        left
    }

    fn see(&mut self, live: &[&str]) -> Vec<Effect> {
        self.see_holding(live, BTreeSet::new())
    }

    fn see_holding(&mut self, live: &[&str], holds: BTreeSet<(Id, Round)>) -> Vec<Effect> {
        let live: BTreeSet<WorkerId> = live.iter().map(|name| worker(name)).collect();
        let slots = 2 * live.len() as u32;
        self.apply(Event::Workers { live, holds, slots })
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn last(&self) -> Published {
        self.published.last().unwrap().clone()
    }

    /// The task that was published last for a scope whose first name is `first`.
    fn task_of(&self, first: &str) -> Published {
        let begins = |published: &&Published| names_of(&published.work).first() == Some(&name(first));
        self.published.iter().rev().find(begins).unwrap().clone()
    }

    fn report(task: &Published, by: &str, outcome: Outcome) -> ResultReport {
        ResultReport {
            task: task.task,
            round: task.round,
            worker: worker(by),
            outcome,
            packs: Vec::new(),
            borrowed: Payload::default(),
            counts: Counts::default(),
            problems: Vec::new(),
            ended_at: UnixTime::default(),
        }
    }

    /// The report of an archive task: `root` facts come with that of the root.
    fn archived(task: &Published, items: Vec<Item>) -> ResultReport {
        let is_root = matches!(&task.work, Work::Archive(work) if matches!(work.scope, Scope::Root { .. }));
        let root = is_root.then(|| RootView { host: Payload::default(), targets: Vec::new() });
        Self::report(task, "w1", Outcome::Archived(Archived { items, root, missing: Missing::default() }))
    }

    fn finish(&mut self, task: &Published, items: Vec<Item>) -> Vec<Effect> {
        self.take(Self::archived(task, items))
    }

    fn take(&mut self, report: ResultReport) -> Vec<Effect> {
        self.apply(Event::Result(Box::new(report)))
    }

    /// Answers the effects that store things, until there is something else.
    fn store(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut left = Vec::new();
        let mut open = VecDeque::from(effects);
        while let Some(effect) = open.pop_front() {
            let event = match effect {
                Effect::AssembleDir { dir, node, .. } => {
                    let text = String::from_utf8(node).unwrap();
                    Event::DirAssembled { dir, node: fragment(&text, &text) }
                }
                Effect::AssembleRoot { .. } => Event::RootAssembled { tree: Id::of(b"tree") },
                Effect::FlushPacks => Event::PacksFlushed,
                Effect::WriteIndex { packs } => Event::IndexWritten { packs },
                other => {
                    left.push(other);
                    continue;
                }
            };
            open.extend(self.apply(event));
        }
        left
    }

    /// The same when nothing but the snapshot shall be left.
    #[track_caller]
    fn store_all(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        assert!(!effects.is_empty(), "the job waits for something");
        self.store(effects)
    }
}

/// The names of a scope, or of the targets of the root.
fn names_of(work: &Work) -> Vec<RawName> {
    match work {
        Work::Archive(archive) => match &archive.scope {
            Scope::Root { targets } => targets.iter().map(|target| target.name.clone()).collect(),
            Scope::Names { names: Names::Listed(names), .. } => names.clone(),
            Scope::Names { .. } => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn pack(text: &str) -> Id {
    Id::of(text.as_bytes())
}

fn pack_report(text: &str) -> PackReport {
    PackReport { pack: pack(text), size: 1, header_bytes: 1, worker: worker("w1"), group_commit: 0 }
}

fn blob(text: &str) -> BlobKey {
    BlobKey { tree: false, id: Id::of(text.as_bytes()) }
}

/// Why the job failed, if that is all that it wants.
#[track_caller]
fn reason(effects: &[Effect]) -> &str {
    match effects {
        [Effect::Fail { reason }] => reason,
        other => panic!("no failure: {other:?}"),
    }
}

#[track_caller]
fn assert_commits(effects: &[Effect]) {
    assert!(matches!(effects, [Effect::Commit { tree }] if *tree == Id::of(b"tree")), "{effects:?}");
}

/// Entries that are left open, as a part of a stored listing: they are not cut into several tasks.
fn slice(first: &str, last: &str) -> Item {
    let names = Names::Slice { listing: Id::of(first.as_bytes()), from: 0, to: 9 };
    Item::Open(OpenNames { names, count: 9, bounds: (name(first), name(last)), second_opinion: false })
}

/// An entry that its worker could not read.
fn second_opinion(text: &str) -> Item {
    let names = Names::Listed(vec![name(text)]);
    Item::Open(OpenNames { names, count: 1, bounds: (name(text), name(text)), second_opinion: true })
}
