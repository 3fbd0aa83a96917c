//! Workers that have one data set at different mounts, in one job; and one of them loses its mount.

use std::path::{Path, PathBuf};

use tests::mounts::MountPlan;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::{Large, Torture};
use tests::views::{Loss, PLACE, Viewed, Views};

const MIB: u64 = 1 << 20;
/// Two seams; the zeros that lie over the second one reach further than its chains may be followed.
const LARGE: Large = Large { size: 184 * MIB, range: 48 * MIB };
/// Pairs of names of one inode, in two directories.
const LINKED_PAIRS: u32 = 60;
/// Files with one name.
const FILES: u32 = 200;

/// One data set, and the mounts where the workers have it. The device numbers of all mounts differ.
struct Ground {
    scratch: Scratch,
    restic: Restic,
    plan: MountPlan,
    mounts: Vec<PathBuf>,
}

/// What came of a job, and what restic says of each view.
struct Judged {
    code: i32,
    stderr: String,
    viewed: Option<Viewed>,
    /// restic's tree of each view.
    expected: Vec<String>,
}

impl Ground {
    /// An overlay of the data set for each worker; the layers of all lie on one file system.
    fn new(workers: usize, build: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new("views");
        let lower = scratch.folder("lower");
        build(&lower.join("tree"));
        let mut ground =
            Self { restic: Restic::quick(scratch.path()), plan: MountPlan::new(), mounts: vec![], scratch };
        for number in 0..workers {
            let mount = ground.scratch.folder(format!("view-{number}{PLACE}"));
            let state = ground.scratch.folder(format!("state-{number}"));
            ground.plan = ground.plan.overlay(&lower, &state, &mount);
            ground.mounts.push(mount);
        }
        ground
    }

    /// A file system of its own within the data set, for every worker: `tree/nested`.
    fn with_nested(mut self) -> Self {
        let nested = self.scratch.folder("nested");
        for number in 0..200 {
            let folder = nested.join(format!("{:02}", number % 10));
            std::fs::create_dir_all(&folder).expect("created");
            std::fs::write(folder.join(number.to_string()), format!("nested {number}")).expect("written");
        }
        std::fs::create_dir(self.scratch.join("lower/tree/nested")).expect("created");
        for mount in &self.mounts {
            self.plan = self.plan.bind(&nested, &mount.join("tree/nested"));
        }
        self
    }

    /// Small tasks of every worker on its mount.
    fn views(&self, target: &str) -> Views {
        Views {
            repository: self.restic.repository().to_owned(),
            password_file: self.restic.password_file().to_owned(),
            mounts: self.mounts.clone(),
            target: target.into(),
            budget: [10, 1 << 40, 1 << 40, 1 << 40],
            meet: None,
            loss: None,
        }
    }

    /// restic backs up every view, then the fleet makes one snapshot of them; all in one mount namespace.
    fn run(&self, views: &Views) -> Judged {
        let script = r#"
            restic=$1 fleet=$2 views=$3 name=$4; shift 4
            for folder; do (cd "$folder" && "$restic" backup --json --force "$name"); done
            "$fleet" "$views""#;
        let mut command = self.plan.command("sh");
        self.restic.dress(&mut command);
        command.args(["-ec", script, "sh"]).arg(self.restic.binary()).arg(env!("CARGO_BIN_EXE_several-views"));
        command.arg(serde_json::to_string(views).expect("JSON"));
        let name = views.target.file_name().expect("a name");
        command.arg(name).args(self.mounts.iter().map(|mount| folder_of(&views.target, mount)));
        let outcome = tests::process::run(&mut command);
        let lines = outcome.json_lines();
        let summaries = lines.iter().filter(|line| line["message_type"] == "summary");
        let expected: Vec<String> =
            summaries.map(|line| self.restic.tree_of(line["snapshot_id"].as_str().expect("a snapshot"))).collect();
        assert_eq!(expected.len(), self.mounts.len(), "{}", outcome.stderr);
        let viewed = (outcome.code == 0).then(|| serde_json::from_value(lines.last().expect("a line").clone()));
        Judged {
            code: outcome.code,
            stderr: outcome.stderr,
            viewed: viewed.map(|viewed| viewed.expect("what the fleet says")),
            expected,
        }
    }
}

/// Where restic must be for the target to be the only entry of its snapshot's root.
fn folder_of(target: &Path, mount: &Path) -> PathBuf {
    if target == Path::new(PLACE) { mount.parent().expect("not the root").to_owned() } else { mount.to_owned() }
}

impl Judged {
    /// There is a snapshot, with the tree that restic writes for the view of the root task's worker.
    #[track_caller]
    fn assert_right(&self) -> &Viewed {
        let viewed = self.viewed.as_ref().unwrap_or_else(|| panic!("no snapshot: {}", self.stderr));
        println!("{viewed:?}");
        assert_eq!(viewed.tree, self.expected[viewed.root_worker], "restic's trees: {:?}", self.expected);
        assert_eq!((viewed.vanished, viewed.problems.as_slice()), (0, &[][..]));
        viewed
    }

    /// There is none but restic's, and it is told what went away.
    #[track_caller]
    fn assert_failed(&self, ground: &Ground, what: &str) {
        println!("{}", self.stderr);
        assert_eq!(self.code, 1, "{:?}", self.viewed);
        assert!(self.stderr.contains(what), "{}", self.stderr);
        assert_eq!(ground.restic.snapshots().len(), ground.mounts.len(), "no snapshot with missing files");
        ground.restic.assert_clean();
    }
}

/// Folders of a few files, and pairs of names of one inode in two directories.
fn many_files(tree: &Path) {
    for number in 0..FILES {
        let folder = tree.join(format!("folder-{:02}", number % 20));
        std::fs::create_dir_all(&folder).expect("created");
        std::fs::write(folder.join(number.to_string()), format!("content {number}")).expect("written");
    }
    let folders = ["linked-1", "linked-2"].map(|name| tree.join(name));
    folders.iter().for_each(|folder| std::fs::create_dir(folder).expect("created"));
    for number in 0..LINKED_PAIRS {
        let [first, second] = folders.each_ref().map(|folder| folder.join(format!("{number:03}")));
        std::fs::write(&first, format!("content of the pair {number}")).expect("written");
        std::fs::hard_link(first, second).expect("linked");
    }
}

/// What is awkward, what is large, and what is linked.
fn everything(tree: &Path) {
    Torture { linked_specials: true, large: Some(LARGE), ..Torture::small() }.build(tree);
    for name in ["char-zero", "second-char-zero"] {
        std::fs::remove_file(tree.join("specials").join(name)).expect("an overlay takes it for a removed entry");
    }
    many_files(tree);
}

#[test]
fn heavy_two_views_with_other_devices_give_the_tree_of_one() {
    let ground = Ground::new(2, everything);
    // More names before it than one task takes: those of the other directory are for the other worker.
    let meet = Some("/data/tree/linked-1/050".into());
    let views = Views { budget: [20, 4 * MIB, 64 * MIB, LARGE.range], meet, ..ground.views("/data/tree") };
    let judged = ground.run(&views);
    assert_ne!(judged.expected[0], judged.expected[1], "the device numbers of the views show in the tree");
    let viewed = judged.assert_right();
    assert!(viewed.partitions.iter().all(|count| *count > 0), "subtrees, name ranges, byte ranges: {viewed:?}");
    assert!(viewed.seams.iter().all(|count| *count > 0), "matched, done again: {viewed:?}");
    assert!(viewed.by_worker.iter().all(|count| *count > 0), "every worker finished something: {viewed:?}");
    assert!(viewed.links_across > 0, "hard links span what the two archived: {viewed:?}");
    ground.restic.assert_clean();
}

#[test]
fn a_view_that_goes_away_in_mid_job_is_left_to_the_other_worker() {
    for at_file in [1, 60] {
        let ground = Ground::new(2, many_files);
        let loss = Some(Loss { worker: Some(1), within: PathBuf::new(), below: PLACE.into(), at_file });
        let judged = ground.run(&Views { loss, ..ground.views("/data/tree") });
        let viewed = judged.assert_right();
        assert!(viewed.lost && viewed.by_worker[0] > 0, "{viewed:?}");
        assert!(at_file == 1 || viewed.by_worker[1] > 0, "it did something before: {viewed:?}");
        ground.restic.assert_clean();
    }
}

#[test]
fn a_file_system_within_the_data_set_that_goes_away_is_left_to_the_other_worker() {
    for (entries, below) in [(10, "/data/tree/nested"), (1 << 40, "/data/tree/linked-2")] {
        let ground = Ground::new(2, many_files).with_nested();
        let loss = Some(Loss { worker: None, within: "tree/nested".into(), below: below.into(), at_file: 1 });
        let judged = ground.run(&Views { loss, ..ground.views("/data/tree").of(entries) });
        let viewed = judged.assert_right();
        assert!(viewed.lost, "{viewed:?}");
    }
}

/// The root of an overlay has an inode of its own: to the workers these are two directories.
#[test]
fn views_of_different_directories_give_no_snapshot() {
    let ground = Ground::new(2, many_files);
    let judged = ground.run(&ground.views(PLACE));
    judged.assert_failed(&ground, "the workers see different data");
}

#[test]
fn the_only_view_that_goes_away_in_mid_job_gives_no_snapshot() {
    for (target, entries) in [("/data/tree", 10), ("/data/tree", 1 << 40), (PLACE, 10), (PLACE, 1 << 40)] {
        let ground = Ground::new(1, many_files);
        let loss = Some(Loss { worker: None, within: PathBuf::new(), below: PLACE.into(), at_file: 30 });
        let judged = ground.run(&Views { loss, ..ground.views(target).of(entries) });
        judged.assert_failed(&ground, target);
    }
}

#[test]
fn the_only_view_of_a_file_system_within_the_data_set_that_goes_away_is_told() {
    for (entries, below) in [(10, "/data/tree/nested"), (1 << 40, "/data/tree/linked-2")] {
        let ground = Ground::new(1, many_files).with_nested();
        let loss = Some(Loss { worker: None, within: "tree/nested".into(), below: below.into(), at_file: 1 });
        let judged = ground.run(&Views { loss, ..ground.views("/data/tree").of(entries) });
        match &judged.viewed {
            Some(viewed) => {
                println!("{viewed:?}");
                assert!(viewed.problems.iter().any(|problem| problem.contains("/data/tree/nested: ")), "{viewed:?}");
            }
            None => judged.assert_failed(&ground, "/data/tree/nested"),
        }
    }
}
