//! The flags of `backup` mean what they mean to stock restic: both run with the same words on one tree, in one mount
//! namespace, and tree and snapshot are compared.

use std::path::Path;

use serde_json::Value;
use tests::cli::Longshore;
use tests::mounts::MountPlan;
use tests::restic::Restic;
use tests::scratch::Scratch;

/// What a case leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Nothing,
    Some,
}

/// Flags, and whether they leave out files.
type Case = (&'static [&'static str], Leaves);

/// `FIRST` stands for the id of the first snapshot.
const CASES: &[Case] = &[
    (&[], Leaves::Nothing),
    (&["--exclude", "*.o", "--exclude", "!keep.o", "--exclude", "tree/sub/**/deep"], Leaves::Some),
    (&["--exclude", "/nowhere/*.o", "--exclude", "tree/nothing"], Leaves::Nothing),
    (&["--iexclude", "*.o", "--iexclude", "SUB/keep.*"], Leaves::Some),
    (&["--exclude-file", "patterns", "--exclude", "large"], Leaves::Some),
    (&["--iexclude-file", "patterns"], Leaves::Some),
    (&["--exclude-caches"], Leaves::Some),
    (&["--exclude-if-present", ".nobackup"], Leaves::Some),
    (&["--exclude-if-present", "marker:leave", "--exclude-if-present", "marker:not this"], Leaves::Some),
    (&["--exclude-larger-than", "100k"], Leaves::Some),
    (&["--exclude-larger-than", "204800"], Leaves::Nothing),
    (&["--one-file-system"], Leaves::Some),
    (&["--host", "web-1", "--tag", "nightly,full", "--tag", "third"], Leaves::Nothing),
    (&["--time", "2001-02-03 04:05:06"], Leaves::Nothing),
    (&["--parent", "FIRST"], Leaves::Nothing),
    (&["--force"], Leaves::Nothing),
];

/// Fields of a snapshot that both must write alike.
const FIELDS: &[&str] = &["hostname", "tags", "paths", "excludes", "username", "uid", "gid"];
/// Counts that tell what was compared with the parent.
const COUNTS: &[&str] =
    &["files_new", "files_changed", "files_unmodified", "dirs_new", "dirs_changed", "dirs_unmodified"];

/// Files of the tree, and what is in them.
const FILES: &[(&str, &str)] = &[
    ("plain", "plain"),
    ("a.o", "object"),
    ("B.O", "object"),
    ("keep.o", "object"),
    ("sub/c.o", "object"),
    ("sub/keep.o", "object"),
    ("sub/below/deep/file", "deep"),
    ("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# a cache"),
    ("cache/inner", "cached"),
    ("no-cache/CACHEDIR.TAG", "Signature: of somebody else"),
    ("no-cache/inner", "not cached"),
    ("secret/.nobackup", ""),
    ("secret/inner/file", "secret"),
    ("marked/marker", "leave me out"),
    ("marked/inner", "marked"),
    ("unmarked/marker", "other words"),
    ("unmarked/inner", "unmarked"),
];

struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
    plan: MountPlan,
}

/// The summaries of both for one case.
struct Pair {
    theirs: Value,
    ours: Value,
}

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new("flags");
        for (name, content) in FILES {
            write(&scratch.join("tree").join(name), content.as_bytes());
        }
        write(&scratch.join("tree/large"), &tests::bytes::Bytes::new(1).vec(200 << 10));
        write(&scratch.join("lower/elsewhere/file"), b"on another file system");
        scratch.file("patterns", "# objects\n\n  *.o  \n!sub/keep.o\n$LONGSHORE_TEST_PATTERN\n");
        let plan = MountPlan::new();
        let plan = plan.overlay(&scratch.join("lower"), &scratch.folder("state"), &scratch.folder("tree/mounted"));
        let restic = Restic::quick(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        let longshore = longshore.variable("LONGSHORE_TEST_PATTERN", "no-cache");
        Self { scratch, restic, longshore, plan }
    }

    /// Runs both with the same words.
    fn back_up(&self, flags: &[&str]) -> Pair {
        const SCRIPT: &str = "restic=$1; longshore=$2; shift 2
            \"$restic\" backup --json \"$@\" tree && \"$longshore\" backup --json \"$@\" tree";
        let mut command = self.plan.command("sh");
        command.args(["-ec", SCRIPT, "sh"]).arg(self.restic.binary()).arg(self.longshore.binary()).args(flags);
        self.longshore.dress(&mut command);
        command.env("RESTIC_REPOSITORY", self.restic.repository());
        command.env("RESTIC_PASSWORD_FILE", self.restic.password_file()).current_dir(self.scratch.path());
        let outcome = tests::process::run(&mut command).expect_code(0);
        let summaries: Vec<Value> =
            outcome.json_lines().into_iter().filter(|line| line["message_type"] == "summary").collect();
        let [theirs, ours] = summaries.as_slice() else { panic!("two summaries in {}", outcome.text()) };
        Pair { theirs: theirs.clone(), ours: ours.clone() }
    }
}

impl Pair {
    /// What is not alike. `snapshots` are all of the repository.
    fn judge(&self, flags: &[&str], snapshots: &[Value]) -> Vec<String> {
        let snapshot = |summary: &Value| {
            let found = snapshots.iter().find(|snapshot| snapshot["id"] == summary["snapshot_id"]);
            found.unwrap_or_else(|| panic!("no snapshot of {summary}"))
        };
        let (theirs, ours) = (snapshot(&self.theirs), snapshot(&self.ours));
        let mut broken = Vec::new();
        let mut compare = |what: &str, expected: &Value, found: &Value| {
            if expected != found {
                broken.push(format!("{flags:?}: {what} is {found}, restic's is {expected}"));
            }
        };
        compare("the tree", &theirs["tree"], &ours["tree"]);
        FIELDS.iter().for_each(|field| compare(field, &theirs[*field], &ours[*field]));
        if flags.contains(&"--time") {
            compare("the time", &theirs["time"], &ours["time"]);
        }
        if flags.iter().any(|flag| ["--parent", "--force"].contains(flag)) {
            compare("the parent", &theirs["parent"], &ours["parent"]);
            COUNTS.iter().for_each(|name| compare(name, &self.theirs[*name], &self.ours[*name]));
        } else {
            // The newest snapshot of the same host and paths is the one that restic has just made.
            compare("the parent", &theirs["id"], &ours["parent"]);
        }
        broken
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
    std::fs::write(path, content).expect("written");
}

#[test]
fn every_flag_does_what_restics_does() {
    let ground = Ground::new();
    let first = ground.back_up(&[]).theirs;
    write(&ground.scratch.join("tree/plain"), b"changed since the first snapshot");
    let id = first["snapshot_id"].as_str().expect("a snapshot");
    let mut pairs = Vec::new();
    for (flags, leaves) in CASES {
        let flags: Vec<&str> = flags.iter().map(|flag| if *flag == "FIRST" { id } else { *flag }).collect();
        let pair = ground.back_up(&flags);
        let files = |summary: &Value| summary["total_files_processed"].as_u64().expect("a count");
        let (some, all) = (files(&pair.theirs), files(&first));
        assert_eq!(some < all, *leaves == Leaves::Some, "{flags:?}: restic has {some} of {all} files");
        pairs.push((flags, pair));
    }
    let snapshots = ground.restic.snapshots();
    let broken: Vec<String> = pairs.iter().flat_map(|(flags, pair)| pair.judge(flags, &snapshots)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    ground.restic.assert_clean();
}
