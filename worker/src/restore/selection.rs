//! Which entries of the snapshot are restored: include and exclude patterns as restic understands them.

use proto::job::RestoreRequest;
use sources::patterns::{InvalidPatterns, Patterns};

/// Compiled patterns.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Only what one of these matches; all without any.
    include: Vec<Patterns>,
    /// Not what one of these matches. Wins over `include`, though no caller gives both.
    exclude: Vec<Patterns>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selected {
    /// It is restored.
    pub(super) itself: bool,
    /// Something below it may be restored; never so for what is no directory.
    pub(super) below: bool,
}

impl Selection {
    pub(super) fn compile(request: &RestoreRequest) -> Result<Self, InvalidPatterns> {
        let compile = |texts: &[String], any_case: bool| Patterns::compile(texts, any_case);
        let both = |exact: &[String], any_case: &[String]| -> Result<Vec<Patterns>, InvalidPatterns> {
            let patterns = [compile(any_case, true)?, compile(exact, false)?];
            Ok(patterns.into_iter().filter(|patterns| !patterns.is_empty()).collect())
        };
        Ok(Self {
            include: both(&request.include, &request.include_any_case)?,
            exclude: both(&request.exclude, &request.exclude_any_case)?,
        })
    }

    /// Decides about what is restored to `path` in the target.
    pub(super) fn select(&self, path: &[u8], is_directory: bool) -> Selected {
        if self.include.is_empty() && self.exclude.is_empty() {
            return Selected { itself: true, below: is_directory };
        }
        let location = [b"/", path].concat();
        if self.exclude.iter().any(|patterns| patterns.matches(&location)) {
            return Selected { itself: false, below: false };
        }
        if self.include.is_empty() {
            return Selected { itself: true, below: is_directory };
        }
        let mut selected = Selected { itself: false, below: false };
        for patterns in &self.include {
            let found = patterns.look_up(&location);
            selected.itself |= found.is_matched;
            selected.below |= found.may_match_below && is_directory;
        }
        selected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str], any_case: &[&str]) -> Selection {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let request = RestoreRequest {
            include: list(include),
            exclude: list(exclude),
            include_any_case: list(any_case),
            ..RestoreRequest::default()
        };
        Selection::compile(&request).unwrap()
    }

    #[test]
    fn includes_walk_down_to_what_they_match() {
        let selection = selection(&["/a/b"], &[], &[]);
        let of = |path: &str, is_directory| {
            let Selected { itself, below } = selection.select(path.as_bytes(), is_directory);
            (itself, below)
        };
        assert_eq!(of("a", true), (false, true));
        assert_eq!(of("a/b", true), (true, true));
        assert_eq!(of("a/b/c", false), (true, false));
        assert_eq!(of("a/x", false), (false, false));
        assert_eq!(of("x", true), (false, false));
    }

    #[test]
    fn excludes_leave_out_all_below_and_case_may_not_count() {
        let selected = selection(&[], &["*.o"], &[]).select(b"src/x.o", true);
        assert_eq!(selected, Selected { itself: false, below: false });
        assert!(selection(&[], &["*.o"], &[]).select(b"src/x.c", false).itself);
        assert!(selection(&[], &[], &["*.JPG"]).select(b"pictures/a.jpg", false).itself);
        assert!(!selection(&["*.JPG"], &[], &[]).select(b"pictures/a.jpg", false).itself);
    }

    #[test]
    fn bad_patterns_are_named() {
        let request = RestoreRequest { include: vec!["[".to_owned()], ..RestoreRequest::default() };
        assert_eq!(Selection::compile(&request).unwrap_err().patterns, ["["]);
    }
}
