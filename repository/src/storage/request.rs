//! What a caller may ask a storage for: names, prefixes, ranges. The same for every implementation.

use std::ops::Range;

use super::error::{Failure, StorageErrorKind};

/// A name, prefix or range that no storage would serve. The caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("an object's name is made of non-empty parts of ASCII letters, digits, '-', '_' and '.', split by '/'")]
    Name,
    #[error("a prefix is empty or an object's name followed by '/'")]
    Prefix,
    #[error("the range runs backwards, from {start} to {end}")]
    Backwards { start: u64, end: u64 },
    #[error("the range ends at {end}, the object at {size}")]
    Beyond { end: u64, size: u64 },
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let kind = match error {
            RequestError::Beyond { .. } => StorageErrorKind::OutOfRange,
            _ => StorageErrorKind::Permanent,
        };
        Self::new(kind, error)
    }
}

/// Whether `component` may stand between two slashes of a name.
pub(super) fn is_component(component: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !matches!(component, "" | "." | "..") && component.bytes().all(allowed)
}

/// Refuses what is not the name of an object.
pub(super) fn check_name(name: &str) -> Result<(), RequestError> {
    if name.split('/').all(is_component) { Ok(()) } else { Err(RequestError::Name) }
}

/// Refuses what is neither empty nor a name that ends in a slash.
pub(super) fn check_prefix(prefix: &str) -> Result<(), RequestError> {
    match prefix.strip_suffix('/') {
        None if prefix.is_empty() => Ok(()),
        Some(name) if check_name(name).is_ok() => Ok(()),
        _ => Err(RequestError::Prefix),
    }
}

/// The range to read of an object of `size` bytes.
pub(super) fn check_range(range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, RequestError> {
    let Some(range) = range else { return Ok(0..size) };
    if range.start > range.end {
        return Err(RequestError::Backwards { start: range.start, end: range.end });
    }
    if range.end > size {
        return Err(RequestError::Beyond { end: range.end, size });
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_relative_paths() {
        for good in ["config", "data/ab/0123", "longshore/jobs/a-b_c.d/commit", "...", ".hidden"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "/config", "data/", "data//x", ".", "a/../b", "a/./b", "a b", "ä", "a\0b", "a\\b", "a~b"]
        {
            assert_eq!(check_name(bad), Err(RequestError::Name), "{bad:?}");
        }
    }

    #[test]
    fn prefixes_are_whole_components() {
        for good in ["", "data/", "data/ab/"] {
            assert_eq!(check_prefix(good), Ok(()), "{good}");
        }
        for bad in ["data", "/", "//", "../", "data//", "/data/"] {
            assert_eq!(check_prefix(bad), Err(RequestError::Prefix), "{bad:?}");
        }
    }

    #[test]
    fn a_range_must_lie_inside() {
        assert_eq!(check_range(None, 7), Ok(0..7));
        assert_eq!(check_range(Some(7..7), 7), Ok(7..7));
        assert_eq!(check_range(Some(0..8), 7), Err(RequestError::Beyond { end: 8, size: 7 }));
        let (start, end) = (3, 2);
        assert_eq!(check_range(Some(start..end), 7), Err(RequestError::Backwards { start, end }));
    }
}
