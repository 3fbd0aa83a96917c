//! Where a repository is, in restic's notation: `/path`, `local:path`, `azure:container:/prefix`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place that can hold a repository. Carries no secret: credentials come from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A directory.
    Local(PathBuf),
    /// A container of Azure Blob Storage.
    Azure {
        /// The container's name; not empty, without `/`.
        container: String,
        /// What stands before the name of each blob, without slash at either end; may be empty.
        prefix: String,
    },
    /// Lost with the process; for tests.
    #[cfg(any(test, feature = "testing"))]
    Memory,
}

/// A text that names no place. Shows at most the scheme of what was given: the rest of a URL may
/// hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing was given.
    #[error("the repository's location is empty")]
    Empty,
    /// A kind of storage that restic knows and longshore does not.
    #[error("repositories at {scheme}: are not supported; a directory (/path) and azure:container:/prefix are")]
    Unsupported {
        /// What stands before the first colon.
        scheme: String,
    },
    /// Neither a scheme nor clearly a path.
    #[error("unknown kind of repository before the first colon; a directory with a colon in its name is local:PATH")]
    UnknownScheme,
    /// `azure:` without a container and a second colon.
    #[error("an Azure repository is azure:container:/prefix")]
    AzureForm,
    /// The prefix has a part that a blob's name cannot have.
    #[error("the prefix of an Azure repository may not contain '..'")]
    AzurePrefix,
}

/// What restic can store to and longshore cannot.
const FOREIGN_SCHEMES: [&str; 8] = ["s3", "sftp", "rest", "rclone", "gs", "b2", "swift", "s3legacy"];

impl Location {
    fn parse_azure(text: &str) -> Result<Self, LocationError> {
        let (container, path) = text.split_once(':').ok_or(LocationError::AzureForm)?;
        if container.is_empty() || container.contains('/') {
            return Err(LocationError::AzureForm);
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") {
            return Err(LocationError::AzurePrefix);
        }
        Ok(Self::Azure { container: container.to_owned(), prefix: parts.join("/") })
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        let scheme_and_rest = text.split_once(':').filter(|(scheme, _)| !scheme.contains('/'));
        let Some((scheme, rest)) = scheme_and_rest else { return Ok(Self::Local(PathBuf::from(text))) };
        match scheme {
            "local" if rest.is_empty() => Err(LocationError::Empty),
            "local" => Ok(Self::Local(PathBuf::from(rest))),
            "azure" => Self::parse_azure(rest),
            #[cfg(any(test, feature = "testing"))]
            "memory" if rest.is_empty() => Ok(Self::Memory),
            _ if FOREIGN_SCHEMES.contains(&scheme) => Err(LocationError::Unsupported { scheme: scheme.to_owned() }),
            _ => Err(LocationError::UnknownScheme),
        }
    }
}

impl fmt::Display for Location {
    /// In the notation that [`FromStr`] reads (a path that is not UTF-8 with replacements).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => {
                let path = path.display().to_string();
                let plain = path.split_once(':').is_none_or(|(before, _)| before.contains('/'));
                write!(formatter, "{}{path}", if plain { "" } else { "local:" })
            }
            Self::Azure { container, prefix } => write!(formatter, "azure:{container}:/{prefix}"),
            #[cfg(any(test, feature = "testing"))]
            Self::Memory => write!(formatter, "memory:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn azure(container: &str, prefix: &str) -> Location {
        Location::Azure { container: container.into(), prefix: prefix.into() }
    }

    #[test]
    fn reads_what_restic_reads() {
        let cases = [
            ("/srv/backup", Location::Local("/srv/backup".into())),
            ("backup", Location::Local("backup".into())),
            ("../backup", Location::Local("../backup".into())),
            ("/with:colon", Location::Local("/with:colon".into())),
            ("./with:colon", Location::Local("./with:colon".into())),
            ("local:/srv/backup", Location::Local("/srv/backup".into())),
            ("local:with:colon", Location::Local("with:colon".into())),
            ("azure:box:/", azure("box", "")),
            ("azure:box:", azure("box", "")),
            ("azure:box:/a/b", azure("box", "a/b")),
            ("azure:box:a//./b/", azure("box", "a/b")),
            ("memory:", Location::Memory),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_without_showing_secrets() {
        let cases = [
            ("", LocationError::Empty),
            ("local:", LocationError::Empty),
            ("azure:box", LocationError::AzureForm),
            ("azure::/x", LocationError::AzureForm),
            ("azure:box:/a/../b", LocationError::AzurePrefix),
            ("rest:https://user:hunter2@host/", LocationError::Unsupported { scheme: "rest".into() }),
            ("sftp://user:hunter2@host/", LocationError::Unsupported { scheme: "sftp".into() }),
            ("hunter2:x", LocationError::UnknownScheme),
            ("https://user:hunter2@host/", LocationError::UnknownScheme),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Location>().unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!("s3:x".parse::<Location>().unwrap_err().to_string().contains("azure:container:/prefix"));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(text in "(azure:|local:|/|\\./)?[a-z.:/]{0,12}") {
            if let Ok(location) = text.parse::<Location>() {
                prop_assert_eq!(location.to_string().parse(), Ok(location));
            }
        }
    }
}
