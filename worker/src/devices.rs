//! Device numbers: what this host calls them, and what the snapshot does (DESIGN 3.6).

use std::collections::BTreeMap;

use proto::facts::HostFacts;
use proto::name::RawName;

/// The map of device numbers that one task works with.
pub(crate) enum Devices {
    /// The job's map: what it lacks is not looked into.
    Given(HostFacts),
    /// The root task makes the map.
    Making {
        /// The map so far, by path.
        map: HostFacts,
        /// The number of each of this host's devices: two places on one file system share it.
        by_local: BTreeMap<u64, u64>,
    },
}

/// What a directory entry on another file system than its directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// It has this number.
    Number(u64),
    /// The job's map lacks it.
    Unknown,
}

impl Devices {
    /// The map of a job, or a new one.
    pub(crate) fn new(host: Option<&HostFacts>) -> Self {
        match host {
            Some(facts) => Self::Given(facts.clone()),
            None => Self::Making { map: HostFacts::default(), by_local: BTreeMap::new() },
        }
    }

    /// The number of the file system that holds `path`.
    pub(crate) fn of(&self, path: &[u8]) -> Option<u64> {
        match self {
            Self::Given(facts) | Self::Making { map: facts, .. } => facts.device_of(path),
        }
    }

    /// Whether the worker of the root task has a file system mounted at `path`.
    pub(crate) fn begins_at(&self, path: &[u8]) -> bool {
        matches!(self, Self::Given(facts) if facts.mounts.contains(&RawName::from(path)))
    }

    /// The number for `path`, where another file system begins: `local` is its `st_dev` here, `parent` the number that
    /// the parent snapshot has there.
    pub(crate) fn cross(&mut self, path: &[u8], local: u64, parent: Option<u64>) -> Crossing {
        let path = RawName::from(path);
        match self {
            Self::Given(facts) => {
                facts.devices.get(&path).map_or(Crossing::Unknown, |number| Crossing::Number(*number))
            }
            Self::Making { map, by_local } => {
                let number = match by_local.get(&local) {
                    Some(number) => *number,
                    None => {
                        let free = |number: &u64| !by_local.values().any(|other| other == number);
                        let wishes = parent.into_iter().chain([local]);
                        wishes.chain(1..).find(free).unwrap_or(u64::MAX)
                    }
                };
                by_local.insert(local, number);
                map.devices.insert(path, number);
                Crossing::Number(number)
            }
        }
    }

    /// The number for a target, or for what is above one: a given map has it, or what holds it.
    pub(crate) fn at_target(&mut self, path: &[u8], local: u64, parent: Option<u64>) -> Crossing {
        match self {
            Self::Given(facts) => facts.device_of(path).map_or(Crossing::Unknown, Crossing::Number),
            Self::Making { .. } => self.cross(path, local, parent),
        }
    }

    /// The map, if this task made it.
    pub(crate) fn made(&self) -> Option<&BTreeMap<RawName, u64>> {
        match self {
            Self::Making { map, .. } => Some(&map.devices),
            Self::Given(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_map_continues_the_parents_numbers_and_uses_none_twice() {
        let mut devices = Devices::new(None);
        assert_eq!(devices.cross(b"/a", 10, Some(7)), Crossing::Number(7));
        assert_eq!(devices.cross(b"/b", 11, Some(7)), Crossing::Number(11), "7 is taken");
        assert_eq!(devices.cross(b"/c", 7, None), Crossing::Number(1), "7 is taken");
        assert_eq!(devices.cross(b"/d", 10, Some(3)), Crossing::Number(7), "the same file system");
        assert_eq!(devices.of(b"/b/x"), Some(11));
    }

    #[test]
    fn a_given_map_is_not_guessed_from() {
        let mut devices = Devices::new(Some(&HostFacts {
            devices: [(RawName::from(&b"/a"[..]), 5)].into(),
            mounts: [RawName::from(&b"/a"[..])].into(),
            ..HostFacts::default()
        }));
        assert_eq!(devices.cross(b"/a", 99, None), Crossing::Number(5));
        assert_eq!(devices.cross(b"/a/b", 5, None), Crossing::Unknown);
        assert!(devices.begins_at(b"/a") && !devices.begins_at(b"/a/b"));
    }
}
