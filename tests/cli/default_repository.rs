//! Without a repository `backup` makes one for the user, says where it and its password are, and keeps both out of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::cli::Longshore;
use tests::process::{Outcome, run};
use tests::restic::Restic;
use tests::scratch::Scratch;

/// What a first backup prints on stdout.
struct Printed {
    repository: PathBuf,
    password_file: PathBuf,
    /// The beginning of its id.
    snapshot: String,
}

impl Printed {
    #[track_caller]
    fn read(outcome: &Outcome) -> Self {
        let text = outcome.text();
        let between = |start: &str, end: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(start)?.strip_suffix(end));
            found.unwrap_or_else(|| panic!("no line `{start} ... {end}` in\n{text}")).to_owned()
        };
        let (_, repository) = text.split_once(" in ").unwrap_or_else(|| panic!("no place in\n{text}"));
        Self {
            repository: repository.lines().next().expect("a line").into(),
            password_file: between("its password is in ", ": keep a copy elsewhere").into(),
            snapshot: between("snapshot ", " saved"),
        }
    }
}

/// A user who has a home and nothing else; `has_folders`: the variables that name the folders in it are set, too.
fn back_up(longshore: &Longshore, has_folders: bool, folder: &Path, target: &Path) -> Outcome {
    let mut command: Command = longshore.command();
    if !has_folders {
        for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
            command.env_remove(format!("XDG_{name}_HOME"));
        }
    }
    run(command.current_dir(folder).arg("backup").arg(target))
}

#[test]
fn a_first_backup_makes_a_repository_that_restic_can_use() {
    for has_folders in [true, false] {
        let (scratch, longshore) = (Scratch::new("default"), Longshore::new());
        std::fs::write(scratch.folder("tree").join("file"), "content").expect("written");
        let outcome = back_up(&longshore, has_folders, scratch.path(), Path::new("tree")).expect_code(0);
        let printed = Printed::read(&outcome);
        assert!(
            printed.repository.starts_with(longshore.home()) && printed.password_file.starts_with(longshore.home())
        );
        let mode = printed.password_file.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let restic = Restic::at(&printed.repository, &printed.password_file);
        restic.assert_clean();
        let snapshots = restic.snapshots();
        assert_eq!(snapshots.len(), 1);
        let id = snapshots[0]["id"].as_str().expect("an id");
        assert!(printed.snapshot.len() >= 8 && id.starts_with(&printed.snapshot), "{} of {id}", printed.snapshot);
        restic.restore("latest", &scratch.join("restored"));
        assert_eq!(std::fs::read(scratch.join("restored/tree/file")).expect("restored"), b"content");
    }
}

#[test]
fn a_backup_of_the_home_leaves_repository_and_password_out() {
    for has_folders in [true, false] {
        let longshore = Longshore::new();
        let home = longshore.home();
        std::fs::write(home.join("letter"), "dear reader").expect("written");
        let printed = Printed::read(&back_up(&longshore, has_folders, home, &home.join("letter")).expect_code(0));
        let beside = printed.password_file.with_file_name("settings");
        std::fs::write(&beside, "of the user").expect("written");
        back_up(&longshore, has_folders, home, home).expect_code(0);
        let restic = Restic::at(&printed.repository, &printed.password_file);
        let nodes = restic.list("latest");
        let paths: Vec<&Path> = nodes.iter().filter_map(|node| Some(Path::new(node["path"].as_str()?))).collect();
        assert!(paths.contains(&home.join("letter").as_path()) && paths.contains(&beside.as_path()), "{paths:?}");
        for own in [&printed.repository, &printed.password_file] {
            assert!(paths.iter().all(|path| !path.starts_with(own)), "{} is in {paths:?}", own.display());
        }
        assert_eq!(restic.snapshots().len(), 2);
        restic.assert_clean();
    }
}

#[test]
fn a_repository_that_was_named_is_not_made() {
    let (scratch, longshore) = (Scratch::new("default"), Longshore::new());
    let repository = scratch.join("repository");
    let longshore = longshore.variable("LONGSHORE_REPOSITORY", repository.to_str().expect("a plain name"));
    let longshore = longshore.variable("LONGSHORE_PASSWORD", "words");
    std::fs::write(scratch.folder("tree").join("file"), "content").expect("written");
    longshore.run_in(scratch.path(), ["backup", "tree"]).expect_code(10);
    assert!(!repository.exists());
    assert_eq!(longshore.home().read_dir().expect("listed").count(), 0, "nothing is made at home");
}
