//! The harness proves itself: stock restic brings the torture tree back, and rsync agrees. A tree that restic could not
//! carry would blame longshore for it later.

use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tests::compare::assert_same_but_sockets;
use tests::mounts::MountPlan;
use tests::process::send;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::Torture;

#[test]
fn restic_restores_the_torture_tree() {
    let scratch = Scratch::new("harness");
    let tree = scratch.join("tree");
    Torture::small().build(&tree);
    let restic = Restic::quick(scratch.path());
    println!("{}", restic.version());
    let backup = restic.backup(scratch.path(), &[], ["tree"]);
    restic.assert_clean();
    let target = scratch.join("restored");
    restic.restore(&backup.snapshot, &target);
    assert_same_but_sockets(&tree, &target.join("tree"));
}

#[test]
fn restic_writes_one_tree_per_source_and_zone() {
    let scratch = Scratch::new("harness");
    Torture::small().build(&scratch.join("tree"));
    let restic = Restic::quick(scratch.path());
    let first = restic.backup(scratch.path(), &[], ["tree"]);
    let again = restic.backup(scratch.path(), &["--force"], ["tree"]);
    assert_eq!(first.tree, again.tree);
    assert_eq!((again.count("data_blobs"), again.count("tree_blobs")), (0, 0));
    let elsewhere = restic.backup_in("America/New_York", scratch.path(), &["--force"], ["tree"]);
    assert_ne!(first.tree, elsewhere.tree, "times are written in the local zone");
    assert_eq!(restic.snapshots().len(), 3);
}

#[test]
fn a_mutated_tree_adds_blobs_for_what_changed_only() {
    let scratch = Scratch::new("harness");
    let tree = scratch.join("tree");
    Torture::small().build(&tree);
    let restic = Restic::quick(scratch.path());
    let first = restic.backup(scratch.path(), &[], ["tree"]);
    let mutation = tests::mutate::mutate(&tree, 1, 5);
    let second = restic.backup(scratch.path(), &[], ["tree"]);
    let touched = (mutation.changed.len() + mutation.added.len()) as u64;
    assert!(touched > 0 && second.count("data_blobs") >= touched, "{mutation:?} {}", second.summary);
    assert!(second.count("data_blobs") < first.count("data_blobs") / 4, "{}", second.summary);
}

#[test]
fn mounts_of_their_own_change_the_tree_id() {
    let scratch = Scratch::new("harness");
    let lower = scratch.folder("lower");
    Torture::small().build(&lower.join("tree"));
    let (at, state) = (scratch.folder("at"), scratch.folder("state"));
    let restic = Restic::quick(scratch.path());
    let through = |plan: &MountPlan| {
        let mut command = plan.command(restic.binary());
        restic.dress(&mut command);
        let outcome =
            tests::process::run(command.current_dir(&at).args(["backup", "--json", "--force"]).arg(at.join("tree")));
        let backup = restic.backed_up(&outcome.expect_code(0));
        let path = at.join("tree/links");
        restic.tree(&format!("{}:{}", backup.snapshot, path.display()))
    };
    let bound = through(&MountPlan::new().bind(&lower, &at));
    let overlaid = through(&MountPlan::new().overlay(&lower, &state, &at));
    let links = |tree: &serde_json::Value, key: &str| tree["nodes"][0][key].clone();
    assert_eq!(links(&bound, "inode"), links(&overlaid, "inode"));
    assert_ne!(links(&bound, "device_id"), links(&overlaid, "device_id"));
}

#[test]
fn who_was_told_to_stop_has_stopped() {
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh starts");
    let pid = Pid::from_child(&busy);
    let seen = [(); 50].map(|()| {
        tests::services::pause(Duration::from_millis(5));
        send(pid, Signal::STOP);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", busy.id())).unwrap_or_default();
        send(pid, Signal::CONT);
        stat.contains(") T ")
    });
    busy.kill().expect("killed");
    busy.wait().expect("ended");
    assert_eq!(seen, [true; 50]);
}
