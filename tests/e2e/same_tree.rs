//! The promise that everything else stands on: the tree id is the one that stock restic writes for the same source, for
//! every number of workers, budget, zone and way to name the source.

use std::path::{Path, PathBuf};

use tests::cli::{Backup, Longshore};
use tests::mounts::MountPlan;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::{Large, Torture};

const MIB: u64 = 1 << 20;

/// A scratch folder with a tree in `tree`, a repository, and both programs on it.
struct Pair {
    scratch: Scratch,
    restic: Restic,
}

impl Pair {
    fn new(torture: Torture) -> Self {
        let pair = Self::bare();
        torture.build(&pair.scratch.join("tree"));
        pair
    }

    /// Without a tree.
    fn bare() -> Self {
        let scratch = Scratch::new("same-tree");
        let restic = Restic::quick(scratch.path());
        println!("{}", restic.version());
        Self { scratch, restic }
    }

    fn longshore(&self) -> Longshore {
        Longshore::with_repository(self.restic.repository(), self.restic.password_file())
    }

    /// Backs the targets up with both, restic first, and compares.
    #[track_caller]
    fn assert_same(&self, folder: &Path, longshore: &Longshore, arguments: &[&str], targets: &[&str]) -> Backup {
        let expected = self.restic.backup(folder, &["--force"], targets);
        let found = longshore.backup(folder, &[&["--force"], arguments].concat(), targets);
        self.assert_equal(&expected.tree, &found.tree, targets);
        found
    }

    /// Compares ids; when they differ, says which node is the first that does.
    #[track_caller]
    fn assert_equal(&self, expected: &str, found: &str, targets: &[&str]) {
        if expected != found {
            let difference = self.first_difference(expected, found, PathBuf::new());
            panic!("{targets:?}: tree {found}, restic's is {expected}: {difference}");
        }
    }

    fn first_difference(&self, expected: &str, found: &str, path: PathBuf) -> String {
        let (left, right) = (self.restic.tree(expected), self.restic.tree(found));
        let nodes = |tree: &serde_json::Value| tree["nodes"].as_array().cloned().unwrap_or_default();
        let (left, right) = (nodes(&left), nodes(&right));
        let Some((ours, theirs)) = right.iter().zip(&left).find(|(ours, theirs)| ours != theirs) else {
            return format!("{}: {} nodes, restic has {}", path.display(), right.len(), left.len());
        };
        let path = path.join(theirs["name"].as_str().unwrap_or("?"));
        let without_subtree = |node: &serde_json::Value| {
            let mut node = node.clone();
            node["subtree"] = serde_json::Value::Null;
            node
        };
        match (theirs["subtree"].as_str(), ours["subtree"].as_str()) {
            (Some(expected), Some(found)) if without_subtree(ours) == without_subtree(theirs) => {
                self.first_difference(expected, found, path)
            }
            _ => format!("{}:\nrestic    {theirs}\nlongshore {ours}", path.display()),
        }
    }
}

/// Entries, bytes, threshold and range of a run's partitions, and its workers.
const BUDGETS: &[(&str, [u64; 4], &str)] = &[
    ("tiny, one worker", [7, 64 << 10, 2 * MIB, MIB], "1"),
    ("tiny, five workers", [7, 64 << 10, 2 * MIB, MIB], "5"),
    ("small, five workers", [500, 4 * MIB, 8 * MIB, 4 * MIB], "5"),
    ("huge, one worker", [1 << 40, 1 << 50, 1 << 50, 1 << 50], "1"),
    ("huge, five workers", [1 << 40, 1 << 50, 1 << 50, 1 << 50], "5"),
];

#[test]
fn heavy_budgets_and_workers_change_nothing() {
    let pair = Pair::new(Torture { linked_specials: true, ..Torture::wide() });
    let expected = pair.restic.backup(pair.scratch.path(), &[], ["tree"]);
    let mut seen = [0; 4];
    for (name, [entries, bytes, threshold, range], workers) in BUDGETS {
        let longshore = pair.longshore().budget(*entries, *bytes, *threshold, *range);
        let found = longshore.backup(pair.scratch.path(), &["--force", "--workers", workers], ["tree"]);
        pair.assert_equal(&expected.tree, &found.tree, &[name]);
        let parts = ["subtree", "name_range", "byte_range"].map(|kind| found.partitions(kind));
        println!("{name}: {parts:?} partitions, {} seams matched", found.seams("matched"));
        if !name.starts_with("huge") {
            assert_eq!(found.workers_that_finished(), workers.parse::<usize>().ok(), "{}", found.summary);
        }
        for (sum, count) in seen.iter_mut().zip(parts.into_iter().chain([found.seams("matched")])) {
            *sum += count;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "subtrees, name ranges, byte ranges, matched seams: {seen:?}");
    pair.restic.assert_clean();
}

#[test]
fn heavy_ranges_of_a_large_file_meet_or_are_done_again() {
    let torture = Torture { linked_specials: true, ..Torture::of_this_run() };
    let large = torture.large.unwrap_or(Large::GATE);
    let pair = Pair::new(torture);
    let longshore = pair.longshore().budget(2_000, large.range, 2 * large.range, large.range);
    let expected = pair.restic.backup(pair.scratch.path(), &[], ["tree"]);
    for workers in ["5", "1"] {
        let found = longshore.backup(pair.scratch.path(), &["--force", "--workers", workers], ["tree"]);
        pair.assert_equal(&expected.tree, &found.tree, &[workers]);
        let (matched, redone) = (found.seams("matched"), found.seams("redone"));
        let ranges = found.partitions("byte_range");
        println!("{workers} workers: {ranges} byte ranges, seams: {matched} matched, {redone} done again");
        assert!(ranges > 0 && matched > 0 && redone > 0, "{}", found.summary);
        assert_eq!(found.workers_that_finished(), workers.parse::<usize>().ok(), "{}", found.summary);
    }
}

#[test]
fn zones_are_those_of_the_submitter() {
    let pair = Pair::new(Torture::small());
    for zone in ["Europe/Berlin", "America/New_York", "Africa/Monrovia", "Asia/Kathmandu"] {
        let expected = pair.restic.backup_in(zone, pair.scratch.path(), &["--force"], ["tree"]);
        let longshore = pair.longshore().variable("TZ", zone).budget(50, MIB, MIB, MIB);
        let found = longshore.backup(pair.scratch.path(), &["--force", "--workers", "5"], ["tree"]);
        pair.assert_equal(&expected.tree, &found.tree, &[zone]);
    }
}

#[test]
fn targets_may_be_relative_linked_or_several() {
    let pair = Pair::new(Torture::small());
    let folder = pair.scratch.path();
    std::os::unix::fs::symlink("tree/shapes", folder.join("link")).expect("linked");
    let inside = folder.join("tree/shapes/siblings");
    let longshore = pair.longshore().budget(50, MIB, MIB, MIB);
    let same = |folder: &Path, targets: &[&str]| pair.assert_same(folder, &longshore, &["--workers", "2"], targets);
    same(folder, &["tree"]);
    same(folder, &["./tree/../tree/names/"]);
    same(folder, &["link"]);
    same(folder, &["link/siblings"]);
    same(folder, &["tree/names", "tree/links", "link/deep"]);
    same(folder, &["tree/contents/text", "tree/specials/fifo"]);
    same(&inside, &["."]);
    same(&inside, &["00", "11"]);
    same(&inside, &["../../names", "00"]);
}

#[test]
fn absolute_targets_hold_the_nodes_of_their_parents() {
    let pair = Pair::new(Torture::small());
    // Mounted at a place of its own, so that no other test changes a parent between the two runs.
    let plan = MountPlan::new().bind(pair.scratch.path(), Path::new("/mnt"));
    assert_same_behind(&pair, &plan, "/mnt/tree");
}

#[test]
fn an_overlay_is_read_as_restic_reads_it() {
    let pair = Pair::bare();
    let lower = pair.scratch.folder("lower");
    Torture::small().build(&lower.join("tree"));
    let plan = MountPlan::new().overlay(&lower, &pair.scratch.folder("state"), Path::new("/mnt"));
    assert_same_behind(&pair, &plan, "/mnt/tree");
}

/// Both programs in one namespace: an overlay mounted twice has two device numbers.
#[track_caller]
fn assert_same_behind(pair: &Pair, plan: &MountPlan, target: &str) {
    let longshore = pair.longshore().budget(50, MIB, MIB, MIB);
    let script = "\"$1\" backup --json --force \"$3\" && \"$2\" backup --json --force --workers 2 \"$3\"";
    let mut command = plan.command("sh");
    command.args(["-ec", script, "sh"]).arg(pair.restic.binary()).arg(longshore.binary()).arg(target);
    longshore.dress(&mut command);
    command.env("RESTIC_REPOSITORY", pair.restic.repository()).env("RESTIC_PASSWORD_FILE", pair.restic.password_file());
    let outcome = tests::process::run(&mut command).expect_code(0);
    let summaries = outcome.json_lines().into_iter().filter(|line| line["message_type"] == "summary");
    let snapshots: Vec<String> =
        summaries.map(|line| line["snapshot_id"].as_str().expect("a snapshot").to_owned()).collect();
    let [expected, found] = snapshots.as_slice() else { panic!("two summaries in {}", outcome.text()) };
    pair.assert_equal(&pair.restic.tree_of(expected), &pair.restic.tree_of(found), &[target]);
}

#[test]
fn heavy_folders_of_the_system() {
    let pair = Pair::bare();
    let full = std::env::var_os("LONGSHORE_TEST_FULL").is_some();
    let longshore = pair.longshore().budget(3_000, 64 * MIB, 1 << 40, 1 << 40);
    for folder in ["/etc", "/usr/share"].into_iter().chain(full.then_some("/usr/lib")) {
        pair.assert_same(pair.scratch.path(), &longshore, &["--workers", "5"], &[folder]);
    }
    let expected = pair.restic.backup(pair.scratch.path(), &["--force"], ["/etc"]);
    for (name, [entries, bytes, threshold, range], workers) in BUDGETS {
        let longshore = pair.longshore().budget(*entries, *bytes, *threshold, *range);
        let found = longshore.backup(pair.scratch.path(), &["--force", "--workers", workers], ["/etc"]);
        pair.assert_equal(&expected.tree, &found.tree, &["/etc", name]);
    }
}
