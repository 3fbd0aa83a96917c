//! What may not be read is named, and the snapshot has the rest: exit 3.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tests::cli::Longshore;
use tests::process::{Outcome, run};
use tests::restic::Restic;
use tests::scratch::Scratch;

/// Names in the tree that even their owner may not read.
const CLOSED: &[&str] = &["below/secret", "closed"];

/// Root that may not pass by permissions, as any other user may not.
fn powerless(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]);
    command.arg(program);
    command
}

fn build(tree: &Path) {
    for folder in ["below", "closed", "last"] {
        std::fs::create_dir_all(tree.join(folder)).expect("created");
        for number in 0..20 {
            std::fs::write(tree.join(folder).join(number.to_string()), format!("{folder} {number}")).expect("written");
        }
    }
    std::fs::write(tree.join("below/secret"), "for nobody").expect("written");
    for closed in CLOSED {
        std::fs::set_permissions(tree.join(closed), PermissionsExt::from_mode(0o000)).expect("closed");
    }
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_is_stored() {
    let scratch = Scratch::new("unreadable");
    build(&scratch.join("tree"));
    let restic = Restic::quick(scratch.path());
    let mut command = powerless(restic.binary());
    restic.dress(&mut command);
    let theirs = run(command.current_dir(scratch.path()).args(["backup", "--json", "--force", "tree"])).expect_code(3);
    let expected = restic.backed_up(&theirs);
    let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
    let small = longshore.clone_with("LONGSHORE_BUDGET_ENTRIES", "7");
    for (longshore, workers) in [(&longshore, "1"), (&small, "3")] {
        let back_up = |words: &[&str]| -> Outcome {
            let mut command = powerless(longshore.binary());
            longshore.dress(&mut command);
            let command = command.current_dir(scratch.path()).args(["backup", "--force", "--workers", workers]);
            run(command.args(words).arg("tree")).expect_code(3)
        };
        let told = back_up(&[]);
        for closed in CLOSED {
            let path = scratch.join("tree").join(closed);
            let line = told.stderr.lines().find(|line| line.contains(path.to_str().expect("plain")));
            assert!(line.is_some_and(|line| line.contains("Permission denied")), "{closed}: {}", told.stderr);
        }
        let backup = Longshore::backed_up(&back_up(&["--json"]));
        assert_eq!(backup.tree, expected.tree, "restic's has the same gaps");
        assert_eq!(
            (backup.count("unreadable"), backup.count("files_new")),
            (CLOSED.len() as u64, 40),
            "{}",
            backup.summary
        );
        assert_eq!(backup.summary["incomplete"], true);
    }
    assert_eq!(restic.snapshots().len(), 5);
    restic.assert_clean();
    // With the rights to read, the next run has what was left out.
    let whole = longshore.backup(scratch.path(), &[], ["tree"]);
    assert_eq!((whole.count("files_new"), whole.count("files_unmodified")), (21, 40), "{}", whole.summary);
}
