//! A repository of version 1 is read and never written: what stands in the way of a backup is said with the way out.

use tests::cli::Longshore;
use tests::compare::assert_same_but_sockets;
use tests::restic::{PASSWORD, Restic};
use tests::scratch::Scratch;
use tests::trees::Torture;

#[test]
fn a_repository_of_version_one_is_read_and_not_written() {
    let scratch = Scratch::new("version-one");
    Torture::small().build(&scratch.join("tree"));
    let password_file = scratch.file("password", PASSWORD);
    let restic = Restic::at(&scratch.join("repository"), &password_file);
    restic.run(["init", "--repository-version", "1"]).expect_code(0);
    let snapshot = restic.backup(scratch.path(), &[], ["tree"]).snapshot;
    let longshore = Longshore::with_repository(restic.repository(), &password_file);

    let before = tests::process::run(std::process::Command::new("find").arg(restic.repository())).text();
    let refused = longshore.run_in(scratch.path(), ["backup", "tree"]).expect_code(1);
    assert!(refused.stderr.contains("restic migrate upgrade_repo_v2"), "{}", refused.stderr);
    assert!(refused.stdout.is_empty() && !refused.stderr.contains("panicked"), "{}", refused.stderr);
    let after = tests::process::run(std::process::Command::new("find").arg(restic.repository())).text();
    assert_eq!(before, after, "nothing was written");

    let listed = longshore.run(["snapshots", "--json"]).expect_code(0).json_lines();
    assert_eq!(listed[0][0]["id"], snapshot.as_str());
    let nodes = longshore.run(["ls", "--json", "latest"]).expect_code(0).json_lines();
    let paths = |lines: &[serde_json::Value]| -> Vec<String> {
        lines.iter().filter(|line| line["struct_type"] == "node").map(|line| line["path"].to_string()).collect()
    };
    assert_eq!(paths(&nodes), paths(&restic.list("latest")));
    let target = scratch.join("restored");
    longshore.run(["restore", "latest", "--target", target.to_str().expect("a plain name")]).expect_code(0);
    assert_same_but_sockets(&scratch.join("tree"), &target.join("tree"));
    longshore.run(["check", "--read-data"]).expect_code(0);

    restic.run(["migrate", "upgrade_repo_v2"]).expect_code(0);
    let backup = longshore.backup(scratch.path(), &["--force"], ["tree"]);
    assert_eq!(backup.tree, restic.tree_of(&snapshot), "the way out leads out");
    restic.assert_clean();
}
