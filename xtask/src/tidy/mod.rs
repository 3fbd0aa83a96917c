//! `tidy`: the house rules of STYLE.md that a text can be judged by. Each rule has a test that plants its violation.

mod allowed;
mod arrows;
mod documents;
mod figures;
mod lexemes;
mod names;
mod sources;

use crate::failure::Failure;
use crate::workspace::{TextFile, Workspace};
use lexemes::Lexeme;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// 0 where the finding is about the whole file.
    line: usize,
    reason: String,
}

impl Finding {
    fn new(path: &str, line: usize, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, reason: reason.into() }
    }
}

/// A Rust file with its tokens.
pub(crate) struct SourceFile<'a> {
    path: &'a str,
    text: &'a str,
    lexemes: Vec<Lexeme>,
}

impl<'a> SourceFile<'a> {
    fn parse(file: &'a TextFile) -> Result<Self, Failure> {
        Ok(Self { path: &file.path, text: &file.text, lexemes: lexemes::lex(&file.path, &file.text)? })
    }

    /// The crate's folder: all before `/src/`, or the first folder.
    fn package_folder(&self) -> &'a str {
        self.path.split_once("/src/").map_or_else(|| self.path.split('/').next().unwrap_or(""), |(folder, _)| folder)
    }
}

/// Judges the checkout and prints each finding.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let rust: Vec<SourceFile> = workspace
        .files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .map(SourceFile::parse)
        .collect::<Result<_, _>>()?;
    let mut findings = arrows::check_manifests(&arrows::dependencies(&workspace.metadata));
    for file in &rust {
        findings.extend(arrows::check_paths(file));
        findings.extend(sources::check(file));
    }
    let allowed = workspace.text(allowed::FILE).unwrap_or_default();
    findings.extend(allowed::check_functions(&rust, allowed));
    findings.extend(allowed::check_shrinks(allowed, &allowed::earlier(&workspace.root)));
    findings.extend(names::check(&workspace.folders, &rust));
    findings.extend(documents::check(workspace));
    findings.extend(figures::check(workspace));
    for finding in &findings {
        println!("tidy: {}:{}: {}", finding.path, finding.line, finding.reason);
    }
    println!("tidy: {} Rust files, {} findings", rust.len(), findings.len());
    if findings.is_empty() { Ok(()) } else { Err(Failure::Findings { check: "tidy", count: findings.len() }) }
}

/// A parsed file for the rules' own tests.
#[cfg(test)]
fn planted(path: &str, text: &str) -> SourceFile<'static> {
    let file = Box::leak(Box::new(TextFile { path: path.to_owned(), text: text.to_owned() }));
    SourceFile::parse(file).expect("the planted text is valid Rust")
}
