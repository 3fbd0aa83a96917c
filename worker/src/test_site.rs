//! A worker's job without fleet: tasks are done one after the other, and put together as a coordinator does.

use std::collections::VecDeque;
use std::sync::Arc;

use fleet::clock::SystemClock;
use fleet::cpu::Cpu;
use fleet::objects::{EmbeddedObjects, Objects, ObjectsExt};
use fleet::queue::{LocalQueue, TaskQueue};
use fleet::rand::SystemRandom;
use fleet::state::LocalState;
use proto::facts::{Facts, HostFacts};
use proto::handles::{BoxFuture, Clock};
use proto::id::{Id, JobId, WorkerId};
use proto::job::{Budget, TargetNode, TargetPlace};
use proto::name::RawName;
use proto::report::{Fragment, Item, NewDevice, OpenFile, Payload, Problem, RootView};
use proto::task::{ArchiveWork, Names, RangeWork, Scope, View};
use repository::chunker::{FileRange, RangeCuts, RangeEnd, SeamLimits, Stitch, WINDOW, stitch};

use repository::format::key::{KeyOwner, ScryptParameters};
use repository::format::node::Node;
use repository::format::tree::TreeReader;
use repository::repository::Repository;
use repository::storage::Memory;
use sources::generated::{GeneratedSource, GeneratedTree};
use sources::source::Source;

use crate::error::WorkerError;
use crate::job::{Doors, JobContext, Jobs};
use crate::meter::Meter;
use crate::pipeline::{ArchiveDone, archive};
use crate::range::store_range;
use crate::stop::{Drain, Stop};

/// Where workers of one repository find each other.
pub(crate) struct Site {
    pub(crate) repository: Repository,
    pub(crate) objects: Arc<EmbeddedObjects>,
    pub(crate) state: Arc<LocalState>,
    pub(crate) clock: Arc<dyn Clock>,
    cpu: Cpu,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let cheap = ScryptParameters { n: 2, r: 1, p: 1 };
        let random = Arc::new(SystemRandom);
        let storage = Arc::new(Memory::new());
        let repository =
            Repository::init_with_cost(storage, b"password", KeyOwner::default(), cheap, random).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let objects = Arc::new(EmbeddedObjects::new(repository.clone()));
        let state = Arc::new(LocalState::new(clock.clone()));
        Self { repository, objects, state, clock, cpu: Cpu::threads(2) }
    }

    /// Doors of a worker that reads an empty tree.
    pub(crate) fn doors(&self, queue: Arc<dyn TaskQueue>, clock: Arc<dyn Clock>) -> Doors {
        self.doors_to(queue, clock, Arc::new(GeneratedSource::new(Arc::new(GeneratedTree::default()))))
    }

    fn doors_to(&self, queue: Arc<dyn TaskQueue>, clock: Arc<dyn Clock>, source: Arc<dyn Source>) -> Doors {
        Doors {
            queue,
            state: self.state.clone(),
            objects: self.objects.clone(),
            source,
            repository: self.repository.clone(),
            clock,
            cpu: self.cpu.clone(),
            cache: None,
        }
    }

    fn jobs(&self, source: Arc<dyn Source>) -> Jobs {
        let clock = self.clock.clone();
        let doors = self.doors_to(Arc::new(LocalQueue::new(clock.clone())), clock, source);
        Jobs::new(doors, WorkerId::new("w1").unwrap(), Arc::new(Meter::default()))
    }

    /// A backup of `/data`, as one host sees `tree`.
    pub(crate) fn backup(&self, job: &str, tree: &Arc<GeneratedTree>) -> Backup<'_> {
        let source = Arc::new(GeneratedSource::new(tree.clone()));
        let place = TargetPlace::Target { path: name("/data"), explicit: true };
        let targets = vec![TargetNode { name: name("data"), source: name("/data"), place }];
        let facts = Facts {
            index_files: Vec::new(),
            zone: "UTC".to_owned(),
            zone_rules: Vec::new(),
            host: None,
            source_options: serde_json::Value::Null,
            compression: "auto".to_owned(),
            pack_size: 16 << 20,
            with_atime: false,
            ignore_ctime: false,
            ignore_inode: false,
            targets: vec![(name("/data"), name("/data"))],
            target_views: Vec::new(),
        };
        let budget = Budget { soft_deadline_seconds: 3600, ..Budget::default() };
        let jobs = self.jobs(source.clone());
        let job = JobId::new(job).unwrap();
        Backup {
            site: self,
            jobs,
            source,
            job,
            facts,
            targets,
            budget,
            last_word: true,
            tasks: 0,
            problems: Vec::new(),
        }
    }
}

pub(crate) fn name(text: &str) -> RawName {
    RawName::from(text.as_bytes())
}

/// One backup, step by step.
pub(crate) struct Backup<'a> {
    site: &'a Site,
    jobs: Jobs,
    pub(crate) source: Arc<GeneratedSource>,
    pub(crate) job: JobId,
    pub(crate) facts: Facts,
    pub(crate) targets: Vec<TargetNode>,
    pub(crate) budget: Budget,
    pub(crate) last_word: bool,
    /// Tasks that were done.
    pub(crate) tasks: usize,
    pub(crate) problems: Vec<Problem>,
}

/// A directory whose entries are put together.
#[derive(Clone)]
struct Dir {
    path: RawName,
    view: Option<View>,
    parents: Vec<Id>,
    /// Above the targets: what is in it.
    targets: Option<Vec<TargetNode>>,
}

/// An entry of a tree as it stands there.
type Entry = (Vec<u8>, Vec<u8>);

impl Backup<'_> {
    pub(crate) async fn context(&self) -> Arc<JobContext> {
        let facts = self.site.objects.put(&self.job, serde_json::to_vec(&self.facts).unwrap().into()).await.unwrap();
        self.jobs.context(&self.job, &facts).await.unwrap()
    }

    /// `/NAME` is backed up, too.
    pub(crate) fn add_target(&mut self, target: &str) {
        let path = name(&format!("/{target}"));
        let place = TargetPlace::Target { path: path.clone(), explicit: true };
        self.targets.push(TargetNode { name: name(target), source: path.clone(), place });
        self.facts.targets.push((path.clone(), path));
    }

    pub(crate) fn work(&self, scope: Scope, view: Option<View>, parents: Vec<Id>) -> ArchiveWork {
        let (budget, last_word) = (self.budget.clone(), self.last_word);
        ArchiveWork {
            scope,
            parents,
            parent_device: None,
            view,
            expected_targets: Vec::new(),
            budget,
            borrow: true,
            last_word,
        }
    }

    pub(crate) async fn archive(&mut self, work: ArchiveWork) -> Result<ArchiveDone, WorkerError> {
        self.tasks += 1;
        let deadline = std::time::Duration::from_secs(work.budget.soft_deadline_seconds);
        let stop = Stop::new(Drain::default(), self.site.clock.clone(), deadline);
        let mut done = archive(&self.context().await, &work, &stop).await?;
        self.problems.append(&mut done.problems);
        Ok(done)
    }

    /// Does the root task; its facts are in force from then on.
    pub(crate) async fn begin(&mut self) -> Result<Vec<Item>, WorkerError> {
        let work = self.work(Scope::Root { targets: self.targets.clone() }, None, Vec::new());
        let done = self.archive(work).await?;
        let root = done.archived.root.unwrap();
        let host = self.site.objects.load(&self.job, &root.host).await.unwrap();
        self.facts.host = Some(RootView::decode_host(&host).unwrap());
        self.facts.target_views = root.targets;
        Ok(done.archived.items)
    }

    /// The snapshot's tree.
    pub(crate) async fn tree(&mut self) -> Result<Id, WorkerError> {
        let items = self.begin().await?;
        let targets = Some(self.targets.clone());
        let root = Dir { path: RawName::default(), view: None, parents: Vec::new(), targets };
        let entries = self.assemble(root, items).await?;
        Ok(Id::of(&encode(&entries)))
    }

    fn assemble<'s>(&'s mut self, dir: Dir, items: Vec<Item>) -> BoxFuture<'s, Result<Vec<Entry>, WorkerError>> {
        Box::pin(async move {
            let mut entries = Vec::new();
            let mut open = VecDeque::from(items);
            while let Some(item) = open.pop_front() {
                match item {
                    Item::Nodes(fragment) => entries.extend(self.entries(&fragment).await),
                    Item::File(file) => entries.push(self.file(file).await?),
                    Item::Dir(below) => {
                        let above = dir.targets.iter().flatten().find(|target| target.name == below.name);
                        let targets = above.and_then(|target| match &target.place {
                            TargetPlace::Above(children) => Some(children.clone()),
                            TargetPlace::Target { .. } => None,
                        });
                        let (view, parents) = (Some(below.view), below.parents);
                        let inside = Dir { path: below.path, view, parents, targets };
                        let children = self.assemble(inside, below.items).await?;
                        let mut node = Node::decode(&below.node).unwrap();
                        node.subtree = Some(Id::of(&encode(&children)));
                        entries.push(entry(&node));
                    }
                    Item::Open(names) => {
                        let done = self.open(&dir, names.names).await?;
                        done.archived.items.into_iter().rev().for_each(|item| open.push_front(item));
                    }
                    Item::Device(new) => {
                        self.number(&new);
                        let done = self.open(&dir, Names::Listed(vec![new.name])).await?;
                        done.archived.items.into_iter().rev().for_each(|item| open.push_front(item));
                    }
                }
            }
            assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "names ascend");
            Ok(entries)
        })
    }

    async fn open(&mut self, dir: &Dir, names: Names) -> Result<ArchiveDone, WorkerError> {
        let scope = match (&dir.targets, names) {
            (Some(targets), Names::Listed(names)) => {
                let named = targets.iter().filter(|target| names.contains(&target.name));
                Scope::Root { targets: named.cloned().collect() }
            }
            (_, names) => Scope::Names { dir: dir.path.clone(), names },
        };
        let work = self.work(scope, dir.view.filter(|_| dir.targets.is_none()), dir.parents.clone());
        self.archive(work).await
    }

    /// Device numbers of generated trees are the hosts' own.
    fn number(&mut self, new: &NewDevice) {
        let host = self.facts.host.get_or_insert_with(HostFacts::default);
        assert!(host.devices.insert(new.path.clone(), new.device).is_none(), "{} was known", new.path);
    }

    async fn entries(&self, fragment: &Fragment) -> Vec<Entry> {
        let nodes = self.site.objects.load(&self.job, &fragment.nodes).await.unwrap();
        let tree = [b"{\"nodes\":[", &nodes[..], b"]}\n"].concat();
        let mut reader = TreeReader::new(&tree[..]);
        let mut entries = Vec::new();
        while let Some(node) = reader.next_raw().unwrap() {
            entries.push((node.name_and_kind().unwrap().0.to_vec(), node.json().to_vec()));
        }
        assert_eq!(entries.len() as u64, fragment.count);
        assert_eq!(entries.first().map(|entry| &entry.0), Some(&fragment.first.0));
        assert_eq!(entries.last().map(|entry| &entry.0), Some(&fragment.last.0));
        entries
    }

    async fn file(&mut self, file: OpenFile) -> Result<Entry, WorkerError> {
        let size = file.identity.size;
        let mut parts = Vec::new();
        if file.done_to > 0 {
            let range = FileRange { start: 0, end: file.done_to, size, exact: true };
            parts.push(self.part(range, 0, &file.done, RangeEnd::Proven { cut: file.done_to }).await);
        }
        let mut start = file.done_to;
        while start < size {
            let end = if size - start < 2 * self.budget.range_bytes { size } else { start + self.budget.range_bytes };
            let exact = start == file.done_to;
            let (path, identity) = (file.path.clone(), file.identity);
            let work = RangeWork { path, start, end, exact, identity, borrow: true };
            self.tasks += 1;
            let result = store_range(&self.context().await, &work).await?.result;
            assert!(result.proven);
            let reach = SeamLimits::default().look_back + WINDOW as u64;
            let range = FileRange { start, end, size, exact: exact || start <= reach };
            parts.push(self.part(range, result.first_cut, &result.chunks, RangeEnd::Proven { cut: result.end }).await);
            start = end;
        }
        let (cuts, ids): (Vec<RangeCuts>, Vec<Vec<Id>>) = parts.into_iter().unzip();
        let Stitch::Complete(pieces) = stitch(&cuts).unwrap() else { panic!("{}: no whole", file.path) };
        let content = pieces.iter().flat_map(|piece| ids[piece.range][piece.chunks.clone()].iter().copied());
        let mut node = Node::decode(&file.node).unwrap();
        (node.size, node.content) = (size, Some(content.collect()));
        Ok(entry(&node))
    }

    async fn part(&self, range: FileRange, first: u64, chunks: &Payload, ended: RangeEnd) -> (RangeCuts, Vec<Id>) {
        let chunks = self.site.objects.load(&self.job, chunks).await.unwrap();
        let decode = |record: &[u8]| {
            let end = u64::from_le_bytes(record[..8].try_into().unwrap());
            (end, Id::from_bytes(record[8..].try_into().unwrap()))
        };
        let (ends, ids): (Vec<u64>, Vec<Id>) = chunks.chunks_exact(40).map(decode).unzip();
        let cuts = std::iter::once(first).chain(ends).collect();
        (RangeCuts { range, cuts, ended, exact: range.exact }, ids)
    }
}

fn entry(node: &Node) -> Entry {
    let mut json = Vec::new();
    node.encode(&mut json);
    (node.name.clone(), json)
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let nodes: Vec<&[u8]> = entries.iter().map(|(_, json)| json.as_slice()).collect();
    [b"{\"nodes\":[", &nodes.join(&b","[..])[..], b"]}\n"].concat()
}
