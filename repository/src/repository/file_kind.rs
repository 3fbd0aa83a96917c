//! Kinds of files and the names they are stored under.

use std::fmt;

use proto::id::Id;

/// What a file of the repository is. All but the configuration are named by the digest of their
/// stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Plain JSON that holds the sealed master key.
    Key,
    /// Who works on the repository.
    Lock,
    /// A root tree, and what it was made of.
    Snapshot,
    /// Which pack holds which blobs.
    Index,
    /// Blobs.
    Pack,
}

impl FileKind {
    /// The folder, with a slash at its end: `keys/`, `locks/`, `snapshots/`, `index/`, `data/`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Key => "keys/",
            Self::Lock => "locks/",
            Self::Snapshot => "snapshots/",
            Self::Index => "index/",
            Self::Pack => "data/",
        }
    }

    /// The name in the storage; packs lie in folders named by the first two digits of their id.
    pub fn name(self, id: &Id) -> String {
        let digits = id.to_string();
        match self {
            Self::Pack => format!("{}{}/{digits}", self.prefix(), &digits[..2]),
            _ => format!("{}{digits}", self.prefix()),
        }
    }

    /// The id of the file that is stored under `name`; `None` for a name that no file of this kind
    /// has.
    pub fn id(self, name: &str) -> Option<Id> {
        let id = name.rsplit('/').next()?.parse().ok()?;
        (self.name(&id) == name).then_some(id)
    }

    /// Whether the bytes are stored as they are, neither sealed nor compressed as one.
    pub(super) fn is_stored_plain(self) -> bool {
        matches!(self, Self::Key | Self::Pack)
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Lock => "lock",
            Self::Snapshot => "snapshot",
            Self::Index => "index",
            Self::Pack => "pack",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_restic() {
        let id = Id::of(b"");
        let digits = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(FileKind::Pack.name(&id), format!("data/e3/{digits}"));
        assert_eq!(FileKind::Snapshot.name(&id), format!("snapshots/{digits}"));
        for kind in [FileKind::Key, FileKind::Lock, FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
            assert_eq!(kind.id(&kind.name(&id)), Some(id));
        }
    }

    #[test]
    fn other_names_are_no_ids() {
        let digits = Id::of(b"").to_string();
        for name in [
            "snapshots/README",
            "snapshots/",
            &format!("snapshots/x/{digits}"),
            &format!("index/{digits}"),
            &format!("snapshots/{}", digits.to_uppercase()),
            &format!("snapshots/{digits}-tmp-1"),
        ] {
            assert_eq!(FileKind::Snapshot.id(name), None, "{name}");
        }
        assert_eq!(FileKind::Pack.id(&format!("data/ff/{digits}")), None);
    }
}
