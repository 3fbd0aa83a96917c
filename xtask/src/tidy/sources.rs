//! Rules for one Rust file: module documentation, length, unfinished code, silent skips, queue names.

use super::lexemes::{Kind, behind_group};
use super::{Finding, SourceFile};

const FILE_LINES_MAX: usize = 600;
const INLINE_TEST_LINES_MAX: usize = 200;
const PLACEHOLDERS: &[&str] = &["todo", "dbg", "unimplemented"];
/// Exchanges, queues and routing keys start like this.
const WIRE_NAMES: &[&str] = &[
    "\"longshore.jobs",
    "\"longshore.tasks",
    "\"longshore.retry",
    "\"longshore.delay",
    "\"longshore-delay",
    "\"longshore.dead",
];

/// All findings of one file.
pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(module_documentation(file));
    findings.extend(file_length(file));
    findings.extend(placeholders(file));
    findings.extend(attributes(file));
    findings.extend(wire_names(file));
    findings
}

fn module_documentation(file: &SourceFile) -> Option<Finding> {
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let says_something = first.strip_prefix("//!").is_some_and(|words| !["", "placeholder"].contains(&words.trim()));
    (!says_something).then(|| Finding::new(file.path, 1, "the file must start with `//!` and what it is for"))
}

fn file_length(file: &SourceFile) -> Option<Finding> {
    let count = file.text.lines().count();
    let reason = || format!("{count} lines; at most {FILE_LINES_MAX}: split it by what its parts do");
    (count > FILE_LINES_MAX).then(|| Finding::new(file.path, 0, reason()))
}

fn placeholders(file: &SourceFile) -> Vec<Finding> {
    let is_placeholder = |word: &str| PLACEHOLDERS.contains(&word);
    file.lexemes
        .windows(2)
        .filter(|pair| pair[1].is_sign('!'))
        .filter_map(|pair| Some((pair[0].word()?, pair[0].line)))
        .filter(|(word, _)| is_placeholder(word))
        .map(|(word, line)| Finding::new(file.path, line, format!("`{word}!` must not be committed")))
        .collect()
}

/// `#[ignore]`, and inline test modules that have outgrown their file.
fn attributes(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, lexeme) in file.lexemes.iter().enumerate() {
        let before = |distance: usize| index.checked_sub(distance).map(|at| &file.lexemes[at]);
        if lexeme.word() == Some("ignore")
            && before(1).is_some_and(|bracket| bracket.is_open('['))
            && before(2).is_some_and(|hash| hash.is_sign('#'))
        {
            findings.push(Finding::new(file.path, lexeme.line, "`#[ignore]`: a skip is a failure"));
        }
        let opens = file.lexemes.get(index + 1).is_some_and(|brace| brace.is_open('{'));
        if lexeme.word() == Some("tests") && before(1).and_then(|word| word.word()) == Some("mod") && opens {
            let end = file.lexemes[behind_group(&file.lexemes, index + 1) - 1].line;
            let count = end + 1 - lexeme.line;
            if count > INLINE_TEST_LINES_MAX {
                let reason =
                    format!("{count} lines of inline tests; above {INLINE_TEST_LINES_MAX} move them to a sibling file");
                findings.push(Finding::new(file.path, lexeme.line, reason));
            }
        }
    }
    findings
}

fn wire_names(file: &SourceFile) -> Vec<Finding> {
    if file.path == "proto/src/names.rs" || file.package_folder() == "xtask" {
        return Vec::new();
    }
    let reason = "names of exchanges and queues stand in proto/src/names.rs only";
    let is_name = |literal: &str| WIRE_NAMES.iter().any(|name| literal.starts_with(name));
    file.lexemes
        .iter()
        .filter(|lexeme| matches!(&lexeme.kind, Kind::Literal(literal) if is_name(literal)))
        .map(|lexeme| Finding::new(file.path, lexeme.line, reason))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::planted;
    use super::*;

    fn reasons(path: &str, text: &str) -> String {
        check(&planted(path, text))
            .into_iter()
            .map(|finding| format!("{}: {}\n", finding.line, finding.reason))
            .collect()
    }

    #[test]
    fn a_clean_file_has_no_finding() {
        let text = "//! Says what it is.\n\n// todo!() in a comment\nconst X: &str = \"dbg!()\";\nfn ignore() {}\n";
        assert_eq!(reasons("worker/src/x.rs", text), "");
    }

    #[test]
    fn each_planted_violation_is_found() {
        assert!(reasons("a/src/x.rs", "fn f() {}\n").contains("must start with `//!`"));
        assert!(reasons("a/src/x.rs", "//!\nfn f() {}\n").contains("must start with `//!`"));
        assert!(reasons("a/src/x.rs", "//! x\nfn f() { todo!() }\n").starts_with("2: `todo!`"));
        assert!(reasons("a/src/x.rs", "//! x\nproptest! { fn f() { std::dbg!(1); } }\n").starts_with("2: `dbg!`"));
        assert!(
            reasons("a/src/x.rs", "//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n").starts_with("3: `#[ignore]`")
        );
        assert!(
            reasons("a/src/x.rs", "//! x\nconst Q: &str = \"longshore.tasks.a.b\";\n").contains("proto/src/names.rs")
        );
        assert!(reasons("a/src/x.rs", &format!("//! x\n{}", "\n".repeat(600))).contains("601 lines"));
        let bulk = format!("//! x\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(200));
        assert!(reasons("a/src/x.rs", &bulk).contains("202 lines of inline tests"));
    }
}
