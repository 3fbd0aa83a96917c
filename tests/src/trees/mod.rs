//! Trees that are awkward to back up, made from a seed: everything a Linux file system can hold and a format can trip
//! over. Only ctime and inode differ between two trees of one seed.

mod contents;
mod large;
mod metadata;
mod names;
mod shapes;
mod specials;
mod vast;

use std::path::{Path, PathBuf};

pub use large::{Large, ZERO_RUN};
pub use metadata::set_times;
pub use vast::Vast;

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Torture {
    /// Seed of all contents and times.
    pub seed: u64,
    /// Entries of the wide directory.
    pub wide_entries: u32,
    /// Levels of the deep one.
    pub levels: u32,
    /// Sizes around 8 MiB and long runs, about 150 MiB together, or only sizes up to 600 KiB.
    pub long_contents: bool,
    /// Links, fifos, devices and sockets with two names: written by restic, but not restored as such.
    pub linked_specials: bool,
    /// A file that is split into byte ranges.
    pub large: Option<Large>,
}

impl Torture {
    /// Everything in small: some MiB.
    pub fn small() -> Self {
        Self { seed: 1, wide_entries: 300, levels: 60, long_contents: false, linked_specials: false, large: None }
    }

    /// The counts, without the file of 600 MiB.
    pub fn wide() -> Self {
        Self { wide_entries: 10_000, long_contents: true, ..Self::small() }
    }

    /// The tree of the gate.
    pub fn gate() -> Self {
        Self { large: Some(Large::GATE), ..Self::wide() }
    }

    /// The tree of `cargo xtask test full`.
    pub fn full() -> Self {
        Self { large: Some(Large::FULL), ..Self::wide() }
    }

    /// The gate's tree, or the full one where `LONGSHORE_TEST_FULL` is set.
    pub fn of_this_run() -> Self {
        if std::env::var_os("LONGSHORE_TEST_FULL").is_some() { Self::full() } else { Self::gate() }
    }

    /// Builds below `root`, which must be an empty folder or not there. Needs root's rights.
    pub fn build(self, root: &Path) {
        let mut builder = Builder { root: root.to_path_buf(), seed: self.seed, times: Vec::new() };
        builder.folder("");
        contents::build(&mut builder, self.long_contents);
        names::build(&mut builder);
        shapes::build(&mut builder, self.wide_entries, self.levels);
        specials::build(&mut builder);
        if self.linked_specials {
            specials::build_links(&builder);
        }
        metadata::build(&mut builder);
        if let Some(large) = self.large {
            large.write(&builder.root.join("large"), self.seed);
        }
        metadata::apply_times(&builder);
    }
}

/// A tree in the making.
struct Builder {
    root: PathBuf,
    seed: u64,
    /// Modification times that matter (seconds, nanoseconds); all other entries get one from the seed.
    times: Vec<(PathBuf, i64, i64)>,
}

impl Builder {
    /// Creates a folder with its parents and returns its path.
    fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.root.join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| broken(&path, "create", error));
        path
    }

    /// Creates a file with its parents and returns its path.
    fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).unwrap_or_else(|error| broken(parent, "create", error));
        }
        std::fs::write(&path, content).unwrap_or_else(|error| broken(&path, "write", error));
        path
    }
}

/// Ends the test: a tree that cannot be built proves nothing.
fn broken(path: &Path, action: &str, error: impl std::fmt::Display) -> ! {
    panic!("cannot {action} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::Torture;
    use crate::compare::differences;
    use crate::scratch::Scratch;

    #[test]
    fn a_seed_builds_the_same_tree_twice() {
        let scratch = Scratch::new("trees");
        let (left, right) = (scratch.join("left"), scratch.join("right"));
        Torture::small().build(&left);
        Torture::small().build(&right);
        assert_eq!(differences(&left, &right), Vec::<String>::new());
        Torture { seed: 2, ..Torture::small() }.build(&scratch.join("other"));
        assert_ne!(differences(&left, &scratch.join("other")), Vec::<String>::new());
    }
}
