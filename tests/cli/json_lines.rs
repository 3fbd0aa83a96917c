//! `--json`: what is on stdout is JSON line by line, whatever the command and however it ends; a failure is JSON too.

use serde_json::Value;
use tests::cli::Longshore;
use tests::restic::Restic;
use tests::scratch::Scratch;

/// Arguments, exit code, and the `message_type` of the last line; none: a list.
type Case = (&'static [&'static str], i32, Option<&'static str>);

const CASES: &[Case] = &[
    (&["version"], 0, Some("version")),
    (&["--repo", "made", "init"], 0, Some("initialized")),
    (&["backup", "tree"], 0, Some("summary")),
    (&["backup", "tree", "gone"], 3, Some("summary")),
    (&["snapshots"], 0, None),
    (&["snapshots", "--host", "nobody"], 0, None),
    (&["ls", "latest"], 0, Some("node")),
    (&["restore", "latest", "--target", "out"], 0, Some("summary")),
    (&["restore", "latest", "--target", "out", "--verify", "--delete"], 0, Some("summary")),
    (&["restore", "latest", "--target", "dry", "--dry-run"], 0, Some("summary")),
    (&["check"], 0, Some("summary")),
    (&["check", "--read-data"], 0, Some("summary")),
    (&["check", "--read-data-subset", "1/2"], 0, Some("summary")),
    (&["unlock"], 0, Some("summary")),
];

/// Commands that fail before they have anything to say.
const FAILURES: &[(&[&str], i32)] = &[
    (&["--repo", "made", "init"], 5),
    (&["--repo", "nowhere", "snapshots"], 10),
    (&["--password-file", "wrong", "ls", "latest"], 12),
    (&["backup", "gone"], 1),
    (&["backup", "--no-such-flag"], 2),
    (&["restore", "0123abcd", "--target", "out"], 1),
    (&["check", "--read-data-subset", "3/2"], 2),
    (&["job", "list"], 2),
];

#[test]
fn stdout_is_json_line_by_line() {
    let scratch = Scratch::new("json-lines");
    std::fs::write(scratch.folder("tree").join("a \"file\"\n"), "content").expect("written");
    scratch.file("wrong", "not this one");
    let restic = Restic::quick(scratch.path());
    let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
    for (words, code, kind) in CASES {
        let outcome = longshore.run_in(scratch.path(), [*words, &["--json"]].concat()).expect_code(*code);
        let lines = outcome.json_lines();
        let last = lines.last().unwrap_or_else(|| panic!("{words:?} said nothing"));
        match kind {
            Some(kind) => assert_eq!(last["message_type"], **kind, "{words:?}: {last}"),
            None => assert!(lines.len() == 1 && last.is_array(), "{words:?}: {last}"),
        }
    }
    for (words, code) in FAILURES {
        let outcome = longshore.run_in(scratch.path(), [*words, &["--json"]].concat()).expect_code(*code);
        assert!(outcome.stdout.is_empty(), "{words:?}: {}", outcome.text());
        let last = outcome.stderr.lines().last().unwrap_or_default();
        let failure: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{words:?}: {error}: {last}"));
        assert_eq!((&failure["message_type"], &failure["code"]), (&"exit_error".into(), &(*code).into()), "{failure}");
        assert!(failure["message"].as_str().is_some_and(|message| !message.is_empty()), "{words:?}: {failure}");
    }
}
