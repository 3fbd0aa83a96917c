//! Path patterns as restic understands them (internal/filter): exclude and include patterns.
//!
//! A pattern is a list of components, each a glob of Go's `filepath.Match`; `**` stands for any number
//! of components. An absolute pattern is anchored at the root; a relative one may start at any
//! component. A pattern that matches the beginning of a path matches everything below. `!` in front
//! takes back what an earlier pattern matched.

mod glob;

pub use glob::BadPattern;
use glob::Glob;

use crate::paths;

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    /// `**`: any number of components.
    AnyDepth,
    /// Exactly these bytes.
    Literal(Vec<u8>),
    /// A glob.
    Glob(Glob),
}

impl Component {
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::AnyDepth => true,
            Self::Literal(literal) => literal == name,
            Self::Glob(glob) => glob.matches(name),
        }
    }
}

/// One compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    is_negated: bool,
    is_absolute: bool,
    components: Vec<Component>,
}

impl Pattern {
    fn compile(text: &[u8]) -> Result<Self, BadPattern> {
        let (is_negated, text) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let cleaned = paths::clean(text);
        let (is_absolute, relative) = match cleaned.strip_prefix(b"/") {
            Some(rest) => (true, rest),
            None => (false, &cleaned[..]),
        };
        let mut components = Vec::new();
        for part in relative.split(|byte| *byte == b'/') {
            components.push(match part {
                // The pattern `/` has one empty component, which restic takes for `**`.
                b"" | b"**" => Component::AnyDepth,
                _ if part.iter().any(|byte| b"\\[]*?".contains(byte)) => Component::Glob(Glob::compile(part)?),
                _ => Component::Literal(part.to_vec()),
            });
        }
        Ok(Self { is_negated, is_absolute, components })
    }

    /// Whether the path with these components, or something above it, matches.
    fn matches(&self, path: &[&[u8]]) -> bool {
        if self.is_absolute {
            return matches_beginning(&self.components, path);
        }
        (0..path.len()).rev().any(|start| matches_beginning(&self.components, &path[start..]))
    }

    /// Whether something below the path could match.
    fn may_match_below(&self, path: &[&[u8]]) -> bool {
        if !self.is_absolute {
            return true;
        }
        let any_depth = self.components.iter().position(|component| *component == Component::AnyDepth);
        let path = &path[..any_depth.unwrap_or(path.len()).min(path.len())];
        matches_beginning(&self.components[..path.len().min(self.components.len())], path)
    }
}

/// Whether `components` match `path` from its first component on; what is left of `path` does not matter.
///
/// Taking back only the last `**` is enough: an earlier match of what stands before it leaves more room.
fn matches_beginning(components: &[Component], path: &[&[u8]]) -> bool {
    let (mut component, mut position) = (0, 0);
    let mut last_any_depth: Option<(usize, usize)> = None;
    while component < components.len() {
        if components[component] == Component::AnyDepth {
            component += 1;
            last_any_depth = Some((component, position));
            continue;
        }
        if position < path.len() && components[component].matches(path[position]) {
            component += 1;
            position += 1;
            continue;
        }
        match last_any_depth {
            Some((after, start)) if start < path.len() => {
                last_any_depth = Some((after, start + 1));
                (component, position) = (after, start + 1);
            }
            _ => return false,
        }
    }
    true
}

/// What a list of patterns says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternMatch {
    /// The path, or something above it, matches and was not taken back.
    pub is_matched: bool,
    /// Something below the path may match. Only then must an include walk into a directory.
    pub may_match_below: bool,
}

/// Patterns in order; a later one with `!` takes back what an earlier one matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    ignores_case: bool,
}

impl Patterns {
    /// Compiles patterns; empty ones are ignored. All that are malformed are named in the error.
    pub fn compile<P: AsRef<[u8]>>(texts: &[P], ignores_case: bool) -> Result<Self, InvalidPatterns> {
        let mut patterns = Vec::new();
        let mut invalid = Vec::new();
        for text in texts.iter().map(AsRef::as_ref).filter(|text| !text.is_empty()) {
            let compiled = Pattern::compile(text)
                .and_then(|pattern| if ignores_case { Pattern::compile(&lower_case(text)) } else { Ok(pattern) });
            match compiled {
                Ok(pattern) => patterns.push(pattern),
                Err(BadPattern) => invalid.push(String::from_utf8_lossy(text).into_owned()),
            }
        }
        if invalid.is_empty() {
            Ok(Self { patterns, ignores_case })
        } else {
            Err(InvalidPatterns { patterns: invalid })
        }
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` (absolute) or something above it is matched.
    pub fn matches(&self, path: &[u8]) -> bool {
        !self.patterns.is_empty() && self.look_up(path).is_matched
    }

    /// The full answer for `path` (absolute).
    pub fn look_up(&self, path: &[u8]) -> PatternMatch {
        let lowered;
        let path = if self.ignores_case {
            lowered = lower_case(path);
            &lowered[..]
        } else {
            path
        };
        let components: Vec<&[u8]> = path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/').collect();
        let mut answer = PatternMatch { is_matched: false, may_match_below: false };
        for pattern in &self.patterns {
            if pattern.is_negated {
                if (answer.is_matched || answer.may_match_below) && pattern.matches(&components) {
                    answer = PatternMatch { is_matched: false, may_match_below: false };
                }
            } else {
                answer.is_matched = answer.is_matched || pattern.matches(&components);
                answer.may_match_below = answer.may_match_below || pattern.may_match_below(&components);
            }
        }
        answer
    }
}

/// Patterns that are malformed: a usage error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern(s): {}", .patterns.join(", "))]
pub struct InvalidPatterns {
    /// The patterns as given.
    pub patterns: Vec<String>,
}

/// Lower case as Go's `strings.ToLower` makes it: rune by rune; invalid bytes become U+FFFD unless all
/// is ASCII.
fn lower_case(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut lowered = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (character, length) = glob::decode(rest);
        rest = &rest[length..];
        let mut lower = character.to_lowercase();
        let single = match (lower.next(), lower.next()) {
            (Some(single), None) => single,
            // U+0130, the only one whose full lower case has two runes; its simple lower case is `i`.
            _ => 'i',
        };
        lowered.extend_from_slice(single.encode_utf8(&mut [0; 4]).as_bytes());
    }
    lowered
}

#[cfg(test)]
#[path = "patterns_tests.rs"]
mod tests;
