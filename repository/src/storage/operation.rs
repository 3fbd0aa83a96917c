//! The calls of the storage door as values, for errors, counters and recorded calls.

/// One of the six calls of [`super::Storage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`super::Storage::put`].
    Put,
    /// [`super::Storage::get`].
    Get,
    /// [`super::Storage::size`].
    Size,
    /// [`super::Storage::list`].
    List,
    /// [`super::Storage::delete`].
    Delete,
    /// [`super::Storage::create`].
    Create,
}

impl Operation {
    /// Every operation, in the order of their discriminants.
    pub const ALL: [Self; 6] = [Self::Put, Self::Get, Self::Size, Self::List, Self::Delete, Self::Create];

    /// A label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Size => "size",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Create => "create",
        }
    }

    /// The verb of an error message.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Put => "write",
            Self::Get | Self::Size => "read",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Create => "create",
        }
    }
}
