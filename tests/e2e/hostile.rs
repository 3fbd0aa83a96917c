//! A snapshot that was made to do harm: whatever its names are, nothing outside the target is made or changed.

use std::path::Path;

use tests::cli::Longshore;
use tests::crafted::{Crafted, link};
use tests::process::Outcome;
use tests::restic::Restic;
use tests::scratch::Scratch;

const SECRET: &str = "not to be touched";

/// A repository, a target, and beside it what hostile names lead to.
struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
}

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new("hostile");
        std::fs::write(scratch.folder("outside").join("secret"), SECRET).expect("written");
        std::fs::write(scratch.folder("target").join("kept"), "of the user").expect("written");
        let restic = Restic::quick(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        Self { scratch, restic, longshore }
    }

    /// Everything beside the target but the repository: name, inode, time of its last change, kind and length.
    fn beside(&self) -> Vec<String> {
        let mut find = std::process::Command::new("find");
        find.arg(self.scratch.path()).args(["-mindepth", "1"]);
        for left_out in ["target", "repository", "repository.cache"] {
            find.args(["-path", self.scratch.join(left_out).to_str().expect("plain"), "-prune", "-o"]);
        }
        let text = tests::process::run(find.args(["-printf", "%P %i %C@ %y %s\n"])).expect_code(0).text();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Restores in both ways, in one task and in many, and tells how it ended; nothing outside is touched.
    #[track_caller]
    fn restore(&self, snapshot: &str, words: &[&str], longshore: &Longshore) -> Outcome {
        let before = self.beside();
        let words = [&["restore", snapshot, "--target", "target"], words].concat();
        let outcome = longshore.run_in(self.scratch.path(), words.clone());
        assert_eq!(self.beside(), before, "{words:?} of {snapshot}: {}", outcome.stderr);
        assert_eq!(std::fs::read_to_string(self.scratch.join("outside/secret")).expect("read"), SECRET);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        outcome
    }

    fn content(&self, name: &str) -> String {
        let path = self.scratch.join("target").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// In their order: of themselves, upwards, from the root, downwards.
fn hostile_names(outside: &Path) -> Vec<Vec<u8>> {
    let absolute = outside.to_str().expect("a plain name");
    let names = ["", ".", "..", "../outside", "../outside/secret", "../x", absolute, "/", "a/b", "d/../../x", "nul\0"];
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_and_named() {
    let ground = Ground::new();
    let names = hostile_names(&ground.scratch.join("outside"));
    let mut crafted = Crafted::begin(&ground.restic).await;
    let mut nodes = Vec::new();
    for name in &names {
        nodes.push(crafted.file(name, b"hostile"));
        let below = crafted.file(b"secret", b"hostile");
        nodes.push(crafted.folder(name, &[below]));
        nodes.push(link(name, b"outside"));
    }
    nodes.push(crafted.file(b"zz", b"harmless"));
    let in_folder = crafted.folder(b"zzz", &nodes);
    nodes.push(in_folder);
    let snapshot = crafted.finish(&nodes).await;
    let many_tasks = ground.longshore.clone_with("LONGSHORE_BUDGET_ENTRIES", "2");
    for longshore in [&ground.longshore, &many_tasks] {
        for words in [&[][..], &["--delete"], &["--dry-run"]] {
            let outcome = ground.restore(&snapshot, words, longshore).expect_code(1);
            for name in names.iter().skip(1).filter(|name| !name.contains(&0)) {
                let name = String::from_utf8_lossy(name);
                assert!(outcome.stderr.contains(&*name), "{name} is not in {}", outcome.stderr);
            }
            assert!(outcome.stderr.contains("no plain name"), "{}", outcome.stderr);
        }
        assert_eq!((ground.content("zz"), ground.content("zzz/zz")), ("harmless".to_owned(), "harmless".to_owned()));
        assert_eq!(ground.content("kept"), "of the user", "what such a tree lacks is not removed");
    }
    ground.longshore.run(["ls", &snapshot]).expect_code(0);
}

#[tokio::test]
async fn a_link_is_not_followed_into_a_directory_of_its_name() {
    let ground = Ground::new();
    let outside = ground.scratch.join("outside");
    for target in [outside.to_str().expect("plain"), "../outside"] {
        for between in [false, true] {
            let mut crafted = Crafted::begin(&ground.restic).await;
            let below = [crafted.file(b"new", b"hostile"), crafted.file(b"secret", b"hostile")];
            let mut nodes = vec![link(b"name", target.as_bytes())];
            nodes.extend(between.then(|| crafted.file(b"between", b"harmless")));
            nodes.push(crafted.folder(b"name", &below));
            let snapshot = crafted.finish(&nodes).await;
            let outcome = ground.restore(&snapshot, &[], &ground.longshore);
            if !between {
                assert!(outcome.code == 1 && outcome.stderr.contains("name"), "{}", outcome.stderr);
            }
            ground.restore(&snapshot, &["--delete"], &ground.longshore);
        }
    }
}

#[tokio::test]
async fn a_link_that_is_in_the_target_already_is_replaced() {
    let ground = Ground::new();
    let mut crafted = Crafted::begin(&ground.restic).await;
    let below = [crafted.file(b"new", b"harmless"), crafted.file(b"secret", b"restored")];
    let nodes = [crafted.folder(b"folder", &below), crafted.file(b"link", b"restored")];
    let snapshot = crafted.finish(&nodes).await;
    std::os::unix::fs::symlink("../outside", ground.scratch.join("target/folder")).expect("linked");
    std::os::unix::fs::symlink("../outside/secret", ground.scratch.join("target/link")).expect("linked");
    ground.restore(&snapshot, &[], &ground.longshore).expect_code(0);
    assert_eq!(
        (ground.content("folder/secret"), ground.content("link")),
        ("restored".to_owned(), "restored".to_owned())
    );
    ground.restic.assert_clean();
}
