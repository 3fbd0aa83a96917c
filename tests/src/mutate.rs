//! Changing a part of a tree, the same part for the same seed.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::bytes::Bytes;

/// What was changed.
#[derive(Debug, Default)]
pub struct Mutation {
    /// Files with other content now.
    pub changed: Vec<PathBuf>,
    /// Files that are gone.
    pub removed: Vec<PathBuf>,
    /// New files.
    pub added: Vec<PathBuf>,
}

impl Mutation {
    /// How many files were touched.
    pub fn count(&self) -> usize {
        self.changed.len() + self.removed.len() + self.added.len()
    }
}

/// Changes about `percent` of the regular files below `root` (at least one): most get new bytes at a random place or a
/// longer or shorter end, some go, some come.
pub fn mutate(root: &Path, percent: usize, seed: u64) -> Mutation {
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    let mut bytes = Bytes::new(seed);
    let mut mutation = Mutation::default();
    let wanted = (files.len() * percent / 100).max(1).min(files.len());
    for _ in 0..wanted {
        let path = files.swap_remove(bytes.below(files.len() as u64) as usize);
        match bytes.below(10) {
            0 => {
                remove(&path);
                mutation.removed.push(path);
            }
            1 => {
                let added = path.with_file_name(format!("added-{}", bytes.next_u64()));
                let length = bytes.below(100_000) as usize;
                std::fs::write(&added, bytes.vec(length))
                    .unwrap_or_else(|error| panic!("{}: {error}", added.display()));
                mutation.added.push(added);
            }
            kind => {
                change(&path, kind, &mut bytes);
                mutation.changed.push(path);
            }
        }
    }
    mutation
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap_or_else(|error| panic!("cannot remove {}: {error}", path.display()));
}

fn change(path: &Path, kind: u64, bytes: &mut Bytes) {
    let broken = |error: std::io::Error| -> ! { panic!("cannot change {}: {error}", path.display()) };
    let mut file = OpenOptions::new().write(true).open(path).unwrap_or_else(|error| broken(error));
    let length = file.metadata().unwrap_or_else(|error| broken(error)).len();
    let done = match kind {
        2 if length > 1 => file.set_len(length / 2),
        3..=5 => {
            let tail = bytes.vec(1 + bytes.clone().below(5_000) as usize);
            file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&tail))
        }
        _ => {
            let patch = bytes.vec(64);
            let at = bytes.below(length + 1);
            file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&patch))
        }
    };
    done.unwrap_or_else(|error| broken(error));
}

/// Regular files with one link: a change of the others would be a change of several.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let metadata = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if metadata.is_dir() {
            collect(&path, files);
        } else if metadata.is_file() && metadata.nlink() == 1 {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::mutate;
    use crate::scratch::Scratch;

    #[test]
    fn one_percent_is_one_percent_and_the_same_for_a_seed() {
        let build = || {
            let scratch = Scratch::new("mutate");
            for number in 0..1_000 {
                scratch.file(format!("{number:04}"), "content of a file");
            }
            scratch
        };
        let (left, right) = (build(), build());
        let (first, second) = (mutate(left.path(), 1, 3), mutate(right.path(), 1, 3));
        assert_eq!(first.count(), 10);
        let names = |paths: &[std::path::PathBuf]| -> Vec<_> {
            paths.iter().map(|path| path.file_name().map(std::ffi::OsStr::to_os_string)).collect()
        };
        assert_eq!(names(&first.changed), names(&second.changed));
        assert!(first.removed.iter().all(|path| !path.exists()));
    }
}
