//! Length of functions, with the list of those that are too long for now. The list may only shrink.

use std::collections::BTreeMap;
use std::process::Command;

use super::lexemes::{Kind, Lexeme, behind_group};
use super::{Finding, SourceFile};

/// One entry a line: `path function lines`.
pub(super) const FILE: &str = "xtask/long_functions.txt";
const FUNCTION_LINES_MAX: usize = 70;

/// Path and function to lines.
type Entries = BTreeMap<(String, String), usize>;

/// Judges every function against the limit and the list; an entry must be exact, so that it shrinks with its function.
pub(super) fn check_functions(files: &[SourceFile], list: &str) -> Vec<Finding> {
    let mut entries = parse(list);
    let mut findings = Vec::new();
    for file in files {
        for function in functions(&file.lexemes) {
            let key = (file.path.to_owned(), function.name.clone());
            let limit = entries.get(&key).copied().unwrap_or(FUNCTION_LINES_MAX);
            if function.lines > limit {
                let reason = format!("fn {} has {} lines; at most {limit}", function.name, function.lines);
                findings.push(Finding::new(file.path, function.line, reason));
            } else if function.lines == limit && limit > FUNCTION_LINES_MAX {
                entries.remove(&key);
            }
        }
    }
    for ((path, name), lines) in entries {
        let reason = format!("`{path} {name} {lines}` is no longer true: lower the number or remove the entry");
        findings.push(Finding::new(FILE, 0, reason));
    }
    findings
}

/// Judges the list against its earlier versions: no new entry, no larger number.
pub(super) fn check_shrinks(list: &str, earlier: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for before in earlier.iter().map(|text| parse(text)) {
        for ((path, name), lines) in parse(list) {
            if before.get(&(path.clone(), name.clone())).is_none_or(|old| lines > *old) {
                findings.push(Finding::new(FILE, 0, format!("`{path} {name} {lines}`: the list may only shrink")));
            }
        }
    }
    findings
}

/// The list at the last two commits, as far as git has them and it was there.
pub(super) fn earlier(root: &std::path::Path) -> Vec<String> {
    let at = |commit: &str| {
        let output =
            Command::new("git").arg("-C").arg(root).args(["show", &format!("{commit}:{FILE}")]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ["HEAD", "HEAD~1"].into_iter().filter_map(at).collect()
}

fn parse(list: &str) -> Entries {
    list.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(((words.next()?.to_owned(), words.next()?.to_owned()), words.next()?.parse().ok()?))
        })
        .collect()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Every function with a body, from its `fn` to its closing brace.
fn functions(lexemes: &[Lexeme]) -> Vec<Function> {
    let mut functions = Vec::new();
    for (index, lexeme) in lexemes.iter().enumerate() {
        let name = lexemes.get(index + 1).and_then(Lexeme::word);
        let (Some("fn"), Some(name)) = (lexeme.word(), name) else { continue };
        if let Some(end) = body_end(lexemes, index + 2) {
            functions.push(Function { name: name.to_owned(), line: lexeme.line, lines: end + 1 - lexeme.line });
        }
    }
    functions
}

/// The line on which the body ends; `None` for a declaration without one.
fn body_end(lexemes: &[Lexeme], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(lexeme) = lexemes.get(at) {
        match lexeme.kind {
            Kind::Open('{') => return Some(lexemes[behind_group(lexemes, at) - 1].line),
            Kind::Open(_) => at = behind_group(lexemes, at),
            Kind::Sign(';') | Kind::Close(_) => return None,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::planted;
    use super::*;

    fn long(lines: usize) -> SourceFile<'static> {
        planted(
            "a/src/x.rs",
            &format!("//! x\nfn long(\n    x: [u8; 3],\n) {{\n{}}}\nfn short();\n", "    f();\n".repeat(lines - 4)),
        )
    }

    #[test]
    fn a_planted_long_function_is_found() {
        assert!(check_functions(&[long(70)], "").is_empty());
        let findings = check_functions(&[long(71)], "");
        assert_eq!(findings[0].reason, "fn long has 71 lines; at most 70");
    }

    #[test]
    fn an_entry_must_be_exact() {
        assert!(check_functions(&[long(80)], "# why\na/src/x.rs long 80\n").is_empty());
        assert!(check_functions(&[long(81)], "a/src/x.rs long 80\n")[0].reason.contains("at most 80"));
        assert!(check_functions(&[long(79)], "a/src/x.rs long 80\n")[0].reason.contains("no longer true"));
        assert!(check_functions(&[], "a/src/x.rs long 80\n")[0].reason.contains("no longer true"));
    }

    #[test]
    fn the_list_may_only_shrink() {
        let old = ["a x 90\na y 80\n".to_owned()];
        assert!(check_shrinks("a x 85\n", &old).is_empty());
        assert_eq!(check_shrinks("a x 91\na z 80\n", &old).len(), 2);
        assert!(check_shrinks("a z 80\n", &[]).is_empty());
    }
}
