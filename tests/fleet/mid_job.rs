//! A job between its first and its last report, and what must be true of it at its end, whatever befell it.

use std::process::Command;

use proto::id::JobId;
use proto::names::state::Keys;
use rustix::process::Signal;
use serde_json::Value;
use tests::bytes::Bytes;
use tests::processes::{Fleet, Process};
use tests::restic::Restic;
use tests::services::{free_port, wait_until};

/// Folders of the data set, and files in each.
const FOLDERS: usize = 30;
const FILES: usize = 15;
/// What the longest file has: it is done in ranges.
const LONG_FILE_BYTES: usize = 12 << 20;
/// A job that does not end within so long has failed.
const JOB_LIMIT_SECONDS: u32 = 400;

/// A fleet with a data set that takes it a few dozen tasks.
pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
    /// The folder that is backed up.
    pub(crate) place: String,
}

/// One job of it.
pub(crate) struct Job<'a> {
    ground: &'a Ground,
    pub(crate) id: JobId,
}

/// Where a job stood when it was held.
#[derive(Debug)]
pub(crate) struct Held {
    /// Reports in its stream.
    pub(crate) reports: u64,
    /// Tasks that were begun and have not ended, as `task:round`, with the workers that began them.
    pub(crate) tasks: Vec<(String, String)>,
}

/// A process that serves a page with its figures.
pub(crate) struct Member {
    pub(crate) process: Process,
    port: u16,
}

/// What a job came to.
pub(crate) struct Done {
    pub(crate) summary: Value,
}

impl Ground {
    /// On the broker of this machine.
    pub(crate) fn new(purpose: &str) -> Self {
        Self::of(Fleet::new(purpose), "tree")
    }

    /// With a data set of its own in the folder `name` of a fleet.
    pub(crate) fn of(fleet: Fleet, name: &str) -> Self {
        build(&fleet.scratch.folder(name), 1);
        Self::over(fleet, name)
    }

    /// With a data set that the caller sees to.
    pub(crate) fn over(mut fleet: Fleet, name: &str) -> Self {
        let client = fleet.client.budget(20, 4 << 20, 8 << 20, 4 << 20);
        fleet.client = client.limit_seconds(JOB_LIMIT_SECONDS);
        let place = fleet.path(name);
        Self { fleet, place }
    }

    /// A process of the fleet, as `name`, after the caller changed the command.
    pub(crate) fn start(&self, name: &str, words: &[&str], change: impl FnOnce(&mut Command)) -> Member {
        let mut command = self.fleet.member.command();
        change(&mut command);
        self.start_command(name, words, command)
    }

    /// The same with a command that starts the program in another way.
    pub(crate) fn start_command(&self, name: &str, words: &[&str], mut command: Command) -> Member {
        let port = free_port();
        command.args(words).args(["--listen", &format!("127.0.0.1:{port}")]);
        Member { process: self.fleet.start_logged(name, command), port }
    }

    /// A coordinator.
    pub(crate) fn coordinator(&self, name: &str) -> Member {
        self.start(name, &["coordinator"], |_| {})
    }

    /// A worker with two slots.
    pub(crate) fn worker(&self, name: &str) -> Member {
        self.start(name, &["worker", "--slots", "2", "--root", &self.fleet.path("")], |_| {})
    }

    /// Submits a backup of everything.
    pub(crate) fn submit(&self) -> Job<'_> {
        let submitted = self.fleet.run(&["backup", "--detach", "--force", &self.place]).expect_code(0);
        Job { ground: self, id: JobId::new(submitted.text().trim()).expect("a job id") }
    }

    /// Submits one, and holds it in the middle of its work.
    pub(crate) fn submit_and_hold(&self, workers: &[&Member]) -> (Job<'_>, Held) {
        let job = self.submit();
        let held = job.hold(workers);
        (job, held)
    }

    /// A job that was submitted before.
    pub(crate) fn job(&self, id: JobId) -> Job<'_> {
        Job { ground: self, id }
    }

    /// The one snapshot of a finished job is right: its tree is that of stock restic, nothing is missing or damaged,
    /// nothing was stored twice, and nothing is left locked.
    #[track_caller]
    pub(crate) fn assert_right(&self, done: &Done) {
        self.assert_right_by(done, |folder| self.fleet.restic.backup(folder, &["--force"], [&self.place]));
    }

    /// The same with restic's backup in another way.
    #[track_caller]
    pub(crate) fn assert_right_by(&self, done: &Done, back_up: impl FnOnce(&std::path::Path) -> tests::restic::Backup) {
        let restic = &self.fleet.restic;
        let ours = done.summary["snapshot_id"].as_str().expect("a snapshot").to_owned();
        assert_eq!(restic.ids("locks"), Vec::<String>::new(), "nothing is left locked");
        assert_eq!(restic.snapshots().len(), 1, "one job makes one snapshot");
        // Before restic could add what is missing.
        restic.assert_clean();
        let theirs = back_up(self.fleet.scratch.path());
        assert_eq!(subtree(restic, &theirs.snapshot, &self.place), subtree(restic, &ours, &self.place));
        assert_eq!(theirs.count("data_blobs"), 0, "{}", theirs.summary);
    }

    /// The record of a job, if the repository is a folder.
    pub(crate) fn record(&self, job: &JobId, name: &str) -> bool {
        let path = format!("longshore/jobs/{job}/{name}");
        self.fleet.restic.repository().join(path).exists()
    }
}

impl Job<'_> {
    /// The number of reports that came, of which the coordinator may have dropped some.
    pub(crate) fn reports(&self) -> u64 {
        self.of_stream("entries-added").parse().unwrap_or(0)
    }

    /// The last report that was ever in its stream.
    pub(crate) fn last_report(&self) -> String {
        self.of_stream("last-generated-id")
    }

    /// A figure of its stream; nothing if there is none.
    fn of_stream(&self, figure: &str) -> String {
        let text = self.ground.fleet.redis.cli(&["XINFO", "STREAM", &Keys::default().reports(&self.id)]);
        text.lines().skip_while(|line| *line != figure).nth(1).unwrap_or_default().to_owned()
    }

    /// Tasks that were begun and have not ended.
    pub(crate) fn begun(&self) -> Vec<(String, String)> {
        let text = self.ground.fleet.redis.cli(&["HGETALL", &Keys::default().starts(&self.id)]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
    }

    /// Stops all `workers` between the first and the last report, some with a task in their hands. They work a moment at
    /// a time until then: a whole job may take no longer than it takes to look at it.
    #[track_caller]
    pub(crate) fn hold(&self, workers: &[&Member]) -> Held {
        let mut held = Held { reports: 0, tasks: Vec::new() };
        wait_until("the job was not met in its middle", || {
            workers.iter().for_each(|worker| worker.process.signal(Signal::STOP));
            held.reports = self.reports();
            held.tasks = if held.reports < 3 { Vec::new() } else { self.begun() };
            let is_held = !held.tasks.is_empty();
            if !is_held {
                go_on(workers);
            }
            is_held
        });
        held
    }

    /// Of a held job: stops its coordinator, and its worker once that has reported something.
    #[track_caller]
    pub(crate) fn leave_a_report_unread(&self, coordinator: &Member, worker: &Member) {
        coordinator.process.signal(Signal::STOP);
        let last_read = self.last_report();
        go_on(&[worker]);
        wait_until("no report came", || self.last_report() != last_read);
        worker.process.signal(Signal::STOP);
    }

    /// Waits for its end, which must be a good one: after more tasks than had ended when it was held.
    #[track_caller]
    pub(crate) fn end(&self, held: &Held) -> Done {
        let summary = self.follow().expect_code(0).message("summary");
        let partitions = &summary["partitions"];
        let done =
            ["subtree", "name_range", "byte_range"].iter().filter_map(|kind| partitions[kind].as_u64()).sum::<u64>();
        assert!(done > held.reports, "the fault came too late: {held:?}, {summary}");
        println!("held at {} reports with {:?} of {done} partitions: {summary}", held.reports, held.tasks.len());
        Done { summary }
    }

    /// Waits for its end.
    pub(crate) fn follow(&self) -> tests::process::Outcome {
        self.ground.fleet.run(&["job", "follow", self.id.as_str(), "--json"])
    }
}

impl Member {
    /// One of its figures: the sum over labels that contain `label`.
    pub(crate) fn figure(&self, name: &str, label: &str) -> f64 {
        let page = tests::services::prometheus::get(self.port, "/metrics").unwrap_or_default();
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

/// Lets stopped processes go on.
pub(crate) fn go_on(members: &[&Member]) {
    members.iter().for_each(|member| member.process.signal(Signal::CONT));
}

/// Does several things at once: each of them waits for most of its time. Panics with the names of those that failed.
#[track_caller]
pub(crate) fn at_once(scenarios: &[(&'static str, fn())]) {
    let start = |(name, scenario): &(&'static str, fn())| {
        let thread = std::thread::Builder::new().name((*name).to_owned()).spawn(*scenario).expect("a thread");
        (*name, thread)
    };
    let running: Vec<_> = scenarios.iter().map(start).collect();
    let failed: Vec<_> = running.into_iter().filter_map(|(name, thread)| thread.join().err().map(|_| name)).collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// Writes a data set that chunks, trees and packs of several tasks come of.
pub(crate) fn build(folder: &std::path::Path, seed: u64) {
    let mut bytes = Bytes::new(seed);
    for number in 0..FOLDERS {
        let folder = folder.join(format!("folder-{number:02}"));
        std::fs::create_dir_all(&folder).expect("created");
        for file in 0..FILES {
            std::fs::write(folder.join(format!("file-{file:02}")), bytes.vec(500 + 700 * file)).expect("written");
        }
    }
    std::fs::write(folder.join("long"), bytes.vec(LONG_FILE_BYTES)).expect("written");
}

/// The tree of `place` in a snapshot. Those above are not compared: other tests write into the same temporary folder.
fn subtree(restic: &Restic, snapshot: &str, place: &str) -> String {
    let (above, name) = place.rsplit_once('/').expect("an absolute path");
    let tree = restic.tree(&format!("{snapshot}:{above}"));
    let nodes = tree["nodes"].as_array().expect("a tree has nodes");
    let node = nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no {place} in {snapshot}"));
    node["subtree"].as_str().expect("a directory").to_owned()
}
