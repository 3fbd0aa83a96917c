//! What all tasks of a job share. Too long for a message: it travels as one sealed object, named in every task.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::name::RawName;
use crate::task::View;

/// The facts of a backup job (DESIGN 3.5 and 3.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The index files that existed when the job started, under its lock: the set G.
    pub index_files: Vec<Id>,
    /// The named time zone.
    pub zone: String,
    /// Its rules (TZif), so that machines with other time zone data agree; none for UTC.
    pub zone_rules: Vec<u8>,
    /// Facts of the host whose tree is written; none until a root report was accepted.
    pub host: Option<HostFacts>,
    /// What the source leaves out, in the source's own words.
    pub source_options: serde_json::Value,
    /// Compression setting.
    pub compression: String,
    /// Target size of a pack in bytes.
    pub pack_size: u64,
    /// Access times are kept.
    pub with_atime: bool,
    /// ctime is not compared.
    pub ignore_ctime: bool,
    /// Inodes (and ctime) are not compared.
    pub ignore_inode: bool,
    /// The targets: the path as given, and where it is found.
    pub targets: Vec<(RawName, RawName)>,
    /// How the accepted root report saw each target, by where it is found.
    #[serde(default)]
    pub target_views: Vec<(RawName, View)>,
}

/// What restic's tree says of the host that reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// User names by uid.
    pub users: BTreeMap<u32, String>,
    /// Group names by gid.
    pub groups: BTreeMap<u32, String>,
    /// Device number of each file system, by the path of its mount point (or of the target).
    pub devices: BTreeMap<RawName, u64>,
    /// Every place where the worker of the root task has a file system mounted; who has none there does not see the
    /// data set.
    #[serde(default)]
    pub mounts: BTreeSet<RawName>,
    /// Where the parent snapshot, or the worker of the root task, has another file system, and nobody has one now.
    #[serde(default)]
    pub unmounted: BTreeSet<RawName>,
}

impl HostFacts {
    /// The device number of the file system that holds `path`: that of the nearest path at or above it.
    pub fn device_of(&self, path: &[u8]) -> Option<u64> {
        let mut at = path;
        loop {
            if let Some(device) = self.devices.get(&RawName::from(at)) {
                return Some(*device);
            }
            if at.is_empty() || at == b"/" {
                return None;
            }
            let cut = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            at = if cut == 0 { b"/" } else { &at[..cut] };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_decides() {
        let facts = HostFacts {
            devices: [(b"/".as_slice(), 1), (b"/data", 2), (b"/data/mnt", 3)]
                .into_iter()
                .map(|(path, device)| (RawName::from(path), device))
                .collect(),
            ..HostFacts::default()
        };
        assert_eq!(facts.device_of(b"/data/mnt/x/y"), Some(3));
        assert_eq!(facts.device_of(b"/data/mntx"), Some(2));
        assert_eq!(facts.device_of(b"/etc"), Some(1));
        assert_eq!(HostFacts::default().device_of(b"/etc"), None);
    }
}
