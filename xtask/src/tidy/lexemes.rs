//! A Rust file as a flat list of tokens with their lines: enough for the rules, and blind to comments and strings.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::failure::Failure;

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    Sign(char),
    Open(char),
    Close(char),
    /// As written, quotes included. Doc comments arrive as `#[doc = "..."]`.
    Literal(String),
}

/// One token.
#[derive(Clone, Debug)]
pub(crate) struct Lexeme {
    pub(crate) kind: Kind,
    /// From 1.
    pub(crate) line: usize,
}

impl Lexeme {
    pub(crate) fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    pub(crate) fn is_open(&self, bracket: char) -> bool {
        self.kind == Kind::Open(bracket)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// All tokens of a file.
pub(crate) fn lex(path: &str, text: &str) -> Result<Vec<Lexeme>, Failure> {
    let stream = TokenStream::from_str(text)
        .map_err(|error| Failure::Tokens { path: path.to_owned(), reason: error.to_string() })?;
    let mut lexemes = Vec::new();
    flatten(stream, &mut lexemes);
    Ok(lexemes)
}

fn flatten(stream: TokenStream, lexemes: &mut Vec<Lexeme>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(word) => lexemes.push(Lexeme { kind: Kind::Word(word.to_string()), line }),
            TokenTree::Punct(sign) => lexemes.push(Lexeme { kind: Kind::Sign(sign.as_char()), line }),
            TokenTree::Literal(literal) => lexemes.push(Lexeme { kind: Kind::Literal(literal.to_string()), line }),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ('(', ')'),
                    Delimiter::Brace => ('{', '}'),
                    Delimiter::Bracket => ('[', ']'),
                    Delimiter::None => continue,
                };
                let end = group.span_close().end().line;
                lexemes.push(Lexeme { kind: Kind::Open(open), line });
                flatten(group.stream(), lexemes);
                lexemes.push(Lexeme { kind: Kind::Close(close), line: end });
            }
        }
    }
}

/// The index behind the bracket that closes the one at `open`.
pub(crate) fn behind_group(lexemes: &[Lexeme], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, lexeme) in lexemes.iter().enumerate().skip(open) {
        match lexeme.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) if depth == 1 => return index + 1,
            Kind::Close(_) => depth -= 1,
            _ => {}
        }
    }
    lexemes.len()
}

/// A path below some crate, such as `format::node` for `repository::format::node`, and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

/// Every path that starts at the crate `root`, in `use` items (trees expanded) and in expressions.
/// The crate itself (`use root;`, `use root as other;`) is the path without segments.
pub(crate) fn paths_below(lexemes: &[Lexeme], root: &str) -> Vec<Path> {
    let mut paths = Vec::new();
    for (index, lexeme) in lexemes.iter().enumerate() {
        if lexeme.word() != Some(root) || is_inside_path(lexemes, index) {
            continue;
        }
        if is_double_colon(lexemes, index + 1) {
            expand(lexemes, index + 3, &mut Vec::new(), &mut paths);
        } else if index > 0 && matches!(lexemes[index - 1].word(), Some("use" | "crate")) {
            paths.push(Path { segments: Vec::new(), line: lexeme.line });
        }
    }
    paths
}

fn is_double_colon(lexemes: &[Lexeme], index: usize) -> bool {
    lexemes.get(index).is_some_and(|first| first.is_sign(':'))
        && lexemes.get(index + 1).is_some_and(|second| second.is_sign(':'))
}

/// Whether the word at `index` continues a path (`crate::proto::x`) or is a field or method.
fn is_inside_path(lexemes: &[Lexeme], index: usize) -> bool {
    if index >= 1 && lexemes[index - 1].is_sign('.') {
        return true;
    }
    index >= 3
        && is_double_colon(lexemes, index - 2)
        && (lexemes[index - 3].word().is_some_and(|word| word != "use") || lexemes[index - 3].is_sign('>'))
}

/// Expands the tree that starts at `at` and returns the index behind it.
fn expand(lexemes: &[Lexeme], at: usize, prefix: &mut Vec<String>, paths: &mut Vec<Path>) -> usize {
    let Some(lexeme) = lexemes.get(at) else { return at };
    match &lexeme.kind {
        Kind::Word(word) => {
            prefix.push(word.clone());
            let end = if is_double_colon(lexemes, at + 1) {
                expand(lexemes, at + 3, prefix, paths)
            } else {
                paths.push(Path { segments: prefix.clone(), line: lexeme.line });
                at + 1
            };
            prefix.pop();
            end
        }
        Kind::Open('{') => {
            let end = behind_group(lexemes, at);
            let mut next = at + 1;
            while next + 1 < end {
                next = expand(lexemes, next, prefix, paths).max(next + 1);
                while next + 1 < end && !lexemes[next - 1].is_sign(',') {
                    next += 1;
                }
            }
            end
        }
        _ => {
            paths.push(Path { segments: prefix.clone(), line: lexeme.line });
            at + 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{lex, paths_below};

    fn found(text: &str) -> Vec<String> {
        let lexemes = lex("x.rs", text).expect("valid");
        paths_below(&lexemes, "proto").into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_expanded() {
        assert_eq!(
            found("use proto::{id::{JobId, TaskId as Task}, handles, job::*, self};"),
            ["id::JobId", "id::TaskId", "handles", "job", "self"]
        );
        assert_eq!(found("pub use ::proto::task::Scope;"), ["task::Scope"]);
        assert_eq!(found("use proto as wire; extern crate proto;"), ["", ""]);
        assert_eq!(found("use {std::fmt, proto::job::Job};"), ["job::Job"]);
    }

    #[test]
    fn paths_in_expressions_and_types_count_and_foreign_ones_do_not() {
        assert_eq!(found("fn f(x: proto::job::Job) { proto::id::JobId::new(); }"), ["job::Job", "id::JobId::new"]);
        assert_eq!(
            found("use crate::proto::job; fn f() { x.proto::<u8>(); a::<B>::proto::c(); }"),
            Vec::<String>::new()
        );
        assert_eq!(found("// proto::job\n/// proto::job\nconst X: &str = \"proto::job\";"), Vec::<String>::new());
    }
}
