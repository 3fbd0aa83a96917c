//! Documents that must stay true: the reading path of README, the invariant table of ARCHITECTURE, links to files,
//! and no path of somebody's machine anywhere.

use std::collections::BTreeSet;

use super::Finding;
use crate::workspace::{TextFile, Workspace};

const PATH_FILES_MAX: usize = 8;
const PATH_LINES_MAX: usize = 2_500;
/// Where people and build machines keep their checkouts.
const MACHINE_FOLDERS: &[&str] = &[concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// All findings of the documents.
pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings: Vec<Finding> = workspace.files.iter().flat_map(machine_paths).collect();
    if let Some(readme) = workspace.text("README.md") {
        findings.extend(reading_path(readme, &workspace.files));
    }
    if let Some(architecture) = workspace.text("ARCHITECTURE.md") {
        findings.extend(invariant_tests(architecture, &workspace.files));
    }
    for document in workspace.files.iter().filter(|file| is_root_document(&file.path)) {
        findings.extend(dead_references(document, workspace));
    }
    findings
}

fn is_root_document(path: &str) -> bool {
    path.ends_with(".md") && !path.contains('/') && path != "CHANGELOG.md"
}

fn machine_paths(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            // A folder of that name below another one is no path of a machine.
            let starts =
                |at: usize| !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || "}_-.*".contains(letter));
            if line.match_indices(folder).any(|(at, _)| starts(at)) {
                findings.push(Finding::new(&file.path, index + 1, format!("`{folder}` is a path of one machine")));
            }
        }
    }
    findings
}

/// The lines of the section whose heading contains `title`, up to the next heading.
fn section<'a>(document: &'a str, title: &str) -> Vec<&'a str> {
    let is_title = |line: &&str| line.starts_with('#') && line.to_lowercase().contains(title);
    document.lines().skip_while(|line| !is_title(line)).skip(1).take_while(|line| !line.starts_with('#')).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn reading_path(readme: &str, files: &[TextFile]) -> Vec<Finding> {
    let lines = section(readme, "reading path");
    let names: BTreeSet<&str> = lines.iter().flat_map(|line| quoted(line)).filter(|name| name.contains('/')).collect();
    let mut findings = Vec::new();
    if names.is_empty() {
        findings.push(Finding::new("README.md", 0, "reading path: there is none".to_owned()));
    }
    let mut total = 0;
    for name in &names {
        match files.iter().find(|file| file.path == *name) {
            Some(file) => total += file.text.lines().count(),
            None => findings.push(Finding::new("README.md", 0, format!("reading path: `{name}` does not exist"))),
        }
    }
    if names.len() > PATH_FILES_MAX {
        let reason = format!("reading path: {} files; at most {PATH_FILES_MAX}", names.len());
        findings.push(Finding::new("README.md", 0, reason));
    }
    if total > PATH_LINES_MAX {
        findings.push(Finding::new("README.md", 0, format!("reading path: {total} lines; at most {PATH_LINES_MAX}")));
    }
    findings
}

/// Every name in backticks in the last column of the invariant table is a test; its last segment is the function.
fn invariant_tests(architecture: &str, files: &[TextFile]) -> Vec<Finding> {
    let tests = test_names(files);
    let mut findings = Vec::new();
    for line in section(architecture, "invariant").into_iter().filter(|line| line.starts_with('|')) {
        let column = line.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        for name in quoted(column) {
            let function = name.rsplit("::").next().unwrap_or(name);
            if !tests.contains(function) {
                let reason = format!("invariant table: there is no test `{name}`");
                findings.push(Finding::new("ARCHITECTURE.md", 0, reason));
            }
        }
    }
    findings
}

/// Functions that stand below an attribute which ends in `test`, and scenarios of the simulation.
fn test_names(files: &[TextFile]) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let mut is_test = false;
        for line in file.text.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line.trim_end_matches(']').split(['(', '[', ':']).any(|word| word == "test");
            } else if let Some((_, rest)) = line.split_once("fn ") {
                if is_test || file.path.starts_with("tests/simulation/src/scenarios") {
                    names.insert(rest.split(['(', '<']).next().unwrap_or_default());
                }
                is_test = false;
            }
        }
    }
    names
}

/// Files named in backticks that do not exist: `crate/src/x.rs` and the like.
fn dead_references(document: &TextFile, workspace: &Workspace) -> Vec<Finding> {
    let exists = |name: &str| {
        workspace.files.iter().any(|file| file.path == name) || workspace.folders.iter().any(|folder| folder == name)
    };
    let mut findings = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        for name in
            quoted(line).filter(|name| name.contains('/') && name.ends_with(".rs") && !name.contains(['*', ' ']))
        {
            if !exists(name) {
                findings.push(Finding::new(&document.path, index + 1, format!("`{name}` does not exist")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn planted_machine_paths_are_found() {
        let text = format!("cd {}me/x\n$HOME{}x\na{}y\n", MACHINE_FOLDERS[0], MACHINE_FOLDERS[1], MACHINE_FOLDERS[1]);
        let findings = machine_paths(&file("a.sh", &text));
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_reading_path_is_counted() {
        let files = [file("a/x.rs", &"\n".repeat(2_000)), file("a/y.rs", &"\n".repeat(600))];
        let readme = "# x\n## Reading path\n1. `a/x.rs`\n2. `a/y.rs`, then `a/z.rs`\n## Next\n`a/w.rs`\n";
        let reasons: Vec<String> = reading_path(readme, &files).into_iter().map(|finding| finding.reason).collect();
        assert_eq!(reasons, ["reading path: `a/z.rs` does not exist", "reading path: 2600 lines; at most 2500"]);
    }

    #[test]
    fn a_reading_path_that_is_too_long_or_gone_is_found() {
        let files: Vec<TextFile> = (0..9).map(|number| file(&format!("a/{number}.rs"), "")).collect();
        let nine: String = files.iter().map(|file| format!("`{}`\n", file.path)).collect();
        let found = |readme: &str| reading_path(readme, &files).into_iter().map(|finding| finding.reason).collect();
        let reasons: Vec<String> = found(&format!("## Reading path\n{nine}"));
        assert_eq!(reasons, ["reading path: 9 files; at most 8"]);
        let reasons: Vec<String> = found("# x\n## Next\n`a/0.rs`\n");
        assert_eq!(reasons, ["reading path: there is none"]);
    }

    #[test]
    fn a_planted_missing_test_is_found() {
        let files = [file(
            "a/x.rs",
            "#[test]\nfn holds() {}\nfn no_test() {}\n#[tokio::test(flavor = \"x\")]\nasync fn waits() {}\n",
        )];
        let table = "## Invariants\n| what | enforced by | test |\n|---|---|---|\n| 1 | `f` | `a::x::holds`, `waits`, `gone` |\n| 2 | | `no_test` |\n";
        let reasons: Vec<String> = invariant_tests(table, &files).into_iter().map(|finding| finding.reason).collect();
        assert_eq!(
            reasons,
            ["invariant table: there is no test `gone`", "invariant table: there is no test `no_test`"]
        );
    }
}
