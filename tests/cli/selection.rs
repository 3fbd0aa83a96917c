//! What of a repository is meant: filters of snapshots and patterns of a restore choose as stock restic's do, and `ls`
//! shows the same.

use std::path::Path;

use serde_json::Value;
use tests::cli::Longshore;
use tests::restic::Restic;
use tests::scratch::Scratch;
use tests::trees::Torture;

/// Host, tags and target of the snapshots, the oldest first.
const SNAPSHOTS: &[[&str; 3]] = &[
    ["web-1", "nightly,full", "tree"],
    ["web-1", "nightly", "tree/sub"],
    ["web-2", "full", "tree"],
    ["web-2", "", "tree/sub"],
    ["web-1", "other", "tree"],
];

const FILTERS: &[&[&str]] = &[
    &[],
    &["--host", "web-1"],
    &["--host", "web-2", "--host", "web-1"],
    &["--tag", "nightly"],
    &["--tag", "nightly,full"],
    &["--tag", "nightly,full", "--tag", "other"],
    &["--tag", ""],
    &["--path", "SCRATCH/tree/sub"],
    &["--path", "SCRATCH/tree/sub", "--host", "web-1"],
    &["--path", "SCRATCH/tree", "--path", "SCRATCH/tree/sub"],
    &["--host", "nobody"],
];

const PATTERNS: &[&[&str]] = &[
    &["--include", "*.conf"],
    &["--include", "/tree/sub"],
    &["--include", "tree/sub/b.conf", "--include", "plain"],
    &["--iinclude", "*.CONF"],
    &["--include-file", "patterns"],
    &["--exclude", "*.conf"],
    &["--exclude", "/tree/sub"],
    &["--exclude", "sub/*", "--exclude", "!*.conf"],
    &["--iexclude", "PLAIN", "--exclude", "/tree/sub/below"],
    &["--exclude-file", "patterns"],
    &["--include", "nothing/of/this"],
];

struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
}

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new("selection");
        scratch.folder("tree/sub/below");
        for name in ["plain", "a.conf", "C.Conf", "sub/b.conf", "sub/file", "sub/below/d.conf", "sub/below/deep"] {
            std::fs::write(scratch.join("tree").join(name), name).expect("written");
        }
        scratch.file("patterns", "# configuration\nsub/*.conf\n  plain\n");
        let restic = Restic::quick(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        Self { scratch, restic, longshore }
    }

    /// Ids of the snapshots that a program lists.
    fn ids(outcome: &tests::process::Outcome) -> Vec<String> {
        let list: Value = serde_json::from_slice(&outcome.stdout).expect("a list");
        let snapshots = list.as_array().cloned().unwrap_or_default();
        snapshots.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Names and contents of what is below a folder.
    fn files(&self, folder: &Path) -> String {
        let mut find = std::process::Command::new("sh");
        find.args(["-c", "cd \"$1\" 2>/dev/null && find . -type f | sort | xargs -r grep -H ''", "sh"]).arg(folder);
        tests::process::run(&mut find).text()
    }
}

#[test]
fn filters_choose_the_snapshots_that_restic_chooses() {
    let ground = Ground::new();
    for [host, tags, target] in SNAPSHOTS {
        let tags: &[&str] = if tags.is_empty() { &[] } else { &["--tag", tags] };
        ground.restic.backup(ground.scratch.path(), &[&["--host", host], tags].concat(), [target]);
    }
    for filter in FILTERS {
        let filter: Vec<String> =
            filter.iter().map(|word| word.replace("SCRATCH", &ground.scratch.path().display().to_string())).collect();
        let words = |start: &[&str]| -> Vec<String> {
            start.iter().map(|word| (*word).to_owned()).chain(filter.iter().cloned()).collect()
        };
        let expected = Ground::ids(&ground.restic.run(words(&["snapshots", "--json"])).expect_code(0));
        let found = Ground::ids(&ground.longshore.run(words(&["snapshots", "--json"])).expect_code(0));
        assert_eq!(found, expected, "{filter:?}");
        let latest = ground.longshore.run(words(&["ls", "--json", "latest"]));
        let target = ground.scratch.join(format!("restored-{}", filter.join("-").replace('/', "_")));
        let restore = ["restore", "--json", "latest", "--target", target.to_str().expect("a plain name")];
        let restored = ground.longshore.run(words(&restore));
        match expected.last() {
            Some(newest) => {
                assert_eq!(latest.expect_code(0).json_lines()[0]["id"], newest.as_str(), "{filter:?}");
                assert_eq!(restored.expect_code(0).message("summary")["snapshot_id"], newest.as_str(), "{filter:?}");
            }
            None => {
                latest.expect_code(1);
                restored.expect_code(1);
                assert!(!target.exists(), "{filter:?}");
            }
        }
    }
}

#[test]
fn patterns_restore_what_restic_restores() {
    let ground = Ground::new();
    ground.restic.backup(ground.scratch.path(), &[], ["tree"]);
    for (number, patterns) in PATTERNS.iter().enumerate() {
        let (theirs, ours) = (format!("theirs-{number}"), format!("ours-{number}"));
        let words = |target| [&["restore", "latest", "--target", target], *patterns].concat();
        let mut restic = ground.restic.command();
        restic.current_dir(ground.scratch.path()).args(words(&theirs));
        tests::process::run(&mut restic).expect_code(0);
        ground.longshore.run_in(ground.scratch.path(), words(&ours)).expect_code(0);
        let (expected, found) =
            (ground.files(&ground.scratch.join(&theirs)), ground.files(&ground.scratch.join(&ours)));
        assert_eq!(found, expected, "{patterns:?}");
    }
}

/// What both say of a node.
const FIELDS: &[&str] = &[
    "name",
    "type",
    "path",
    "uid",
    "gid",
    "size",
    "mode",
    "permissions",
    "mtime",
    "atime",
    "ctime",
    "inode",
    "message_type",
    "struct_type",
];

#[test]
fn ls_shows_what_restic_shows() {
    let ground = Ground::new();
    Torture::small().build(&ground.scratch.join("torture"));
    ground.restic.backup(ground.scratch.path(), &[], ["torture"]);
    let fields = |lines: &[Value]| -> Vec<Vec<Value>> {
        let nodes = lines.iter().filter(|line| line["struct_type"] == "node");
        // restic leaves a mode of 0 out.
        let field = |node: &Value, field: &str| match &node[field] {
            Value::Null if field == "mode" => 0.into(),
            value => value.clone(),
        };
        nodes.map(|node| FIELDS.iter().map(|name| field(node, name)).collect()).collect()
    };
    let theirs = fields(&ground.restic.run(["ls", "--json", "latest"]).expect_code(0).json_lines());
    let ours = fields(&ground.longshore.run(["ls", "--json", "latest"]).expect_code(0).json_lines());
    let odd = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    assert!(odd.is_none() && ours.len() == theirs.len(), "{} and {} nodes, {odd:?}", ours.len(), theirs.len());
    // Without --json the bytes of the names, one a line.
    let listed = |outcome: tests::process::Outcome| {
        let mut lines: Vec<Vec<u8>> = outcome.stdout.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.retain(|line| !line.is_empty() && !line.starts_with(b"snapshot "));
        lines
    };
    let part = ["ls", "latest:torture/links"];
    let (ours, mut theirs) = (listed(ground.longshore.run(part).expect_code(0)), Vec::new());
    for line in listed(ground.restic.run(["ls", "latest:torture/links"]).expect_code(0)) {
        theirs.push(line);
    }
    assert_eq!(ours, theirs);
}
