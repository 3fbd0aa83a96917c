//! A fleet in one process of which every worker has the data set at another mount: what it is told, and what it says.
//! The fleet itself is `bin/several_views.rs`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What all workers call the place that each has mounted elsewhere.
pub const PLACE: &str = "/data";

/// One backup by workers with views of their own, as the argument of `several-views`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Views {
    /// A directory.
    pub repository: PathBuf,
    /// Its password.
    pub password_file: PathBuf,
    /// Where each worker has [`PLACE`]; one worker for each.
    pub mounts: Vec<PathBuf>,
    /// What is backed up: [`PLACE`] or something below. It is the only entry of the snapshot's root.
    pub target: PathBuf,
    /// Entries and bytes of a task, threshold and length of ranges.
    pub budget: [u64; 4],
    /// Who opens this file waits until another worker opened another name of it.
    pub meet: Option<PathBuf>,
    /// What goes wrong.
    pub loss: Option<Loss>,
}

impl Views {
    /// With so many entries a task.
    #[must_use]
    pub fn of(self, entries: u64) -> Self {
        let [_, bytes, threshold, range] = self.budget;
        Self { budget: [entries, bytes, threshold, range], ..self }
    }
}

/// One worker's mount that goes away in mid-job, just before it opens a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// Whose it is, by its number in [`Views::mounts`]; without it whoever is there first.
    pub worker: Option<usize>,
    /// Where it is mounted, below the worker's mount.
    pub within: PathBuf,
    /// It is the so manieth file that a worker opens below this path.
    pub below: PathBuf,
    /// See there.
    pub at_file: u64,
}

/// What the fleet says at its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Viewed {
    /// The snapshot's tree.
    pub tree: String,
    /// The snapshot.
    pub snapshot: String,
    /// Whose view of the host is in the tree: the worker of the accepted root report, by its number.
    pub root_worker: usize,
    /// Partitions that were finished: subtrees, name ranges, byte ranges.
    pub partitions: [u64; 3],
    /// How many of them each worker finished.
    pub by_worker: Vec<u64>,
    /// Seams: matched, done again.
    pub seams: [u64; 2],
    /// Inodes with several names of which more than one worker opened one.
    pub links_across: u64,
    /// The mount went away.
    pub lost: bool,
    /// Entries that vanished.
    pub vanished: u64,
    /// What was listed.
    pub problems: Vec<String>,
}
