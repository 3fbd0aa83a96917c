//! The variables of the process as a value, so that what is decided from them can be tested with any others.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Environment variables by name. An empty value counts as none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

/// A variable that must be text is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not valid UTF-8")]
pub(crate) struct NotText {
    name: String,
}

impl Environment {
    /// What this process was started with.
    pub(crate) fn of_this_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The value of `name` as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, NotText> {
        let value = self.get(name);
        match value.and_then(OsStr::to_str) {
            None if value.is_some() => Err(NotText { name: name.to_owned() }),
            text => Ok(text),
        }
    }

    /// The value of `name`, even an empty one: `TZ` tells the two apart.
    pub(crate) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Where `program`'s files of a kind belong, by the XDG base directory specification: below `variable` if that is
    /// absolute, else below `fallback` in the home folder.
    pub(crate) fn base_folder(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        let absolute = |name| self.get(name).map(Path::new).filter(|path| path.is_absolute());
        absolute(variable).map(Path::to_path_buf).or_else(|| Some(absolute("HOME")?.join(fallback)))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
