//! Trees that are vast in one way: what must not be held in memory at once.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::broken;
use crate::bytes::Bytes;

const MIB: u64 = 1 << 20;
/// Files of a folder of [`Vast::TinyFiles`].
const FILES_A_FOLDER: u64 = 1_000;
/// Of the entries of [`Vast::WideDirectory`] one in so many is not empty.
const ONE_IN: u64 = 20;
/// Between the islands of [`Vast::SparseFile`] lie so many times their size.
const ISLANDS: u64 = 200;

/// In which way, and how much.
#[derive(Clone, Copy, Debug)]
pub enum Vast {
    /// So many files of a few bytes, each another one, a thousand in a folder.
    TinyFiles(u64),
    /// One folder with so many entries.
    WideDirectory(u64),
    /// One file of so many bytes that is a hole but for two hundred islands of 1 MiB.
    SparseFile(u64),
}

impl Vast {
    /// Builds below `root`, which must not be there.
    pub fn build(self, root: &Path) {
        std::fs::create_dir_all(root).unwrap_or_else(|error| broken(root, "make", error));
        match self {
            Self::TinyFiles(files) => tiny_files(root, files),
            Self::WideDirectory(entries) => wide_directory(root, entries),
            Self::SparseFile(bytes) => sparse_file(&root.join("sparse"), bytes),
        }
    }
}

fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap_or_else(|error| broken(path, "write", error));
}

fn tiny_files(root: &Path, files: u64) {
    for number in 0..files {
        let folder = root.join(format!("{:05}", number / FILES_A_FOLDER));
        if number % FILES_A_FOLDER == 0 {
            std::fs::create_dir(&folder).unwrap_or_else(|error| broken(&folder, "make", error));
        }
        write(&folder.join(format!("tiny-{number}")), format!("content of file {number}\n").as_bytes());
    }
}

fn wide_directory(root: &Path, entries: u64) {
    for number in 0..entries {
        let content = if number % ONE_IN == 0 { format!("entry {number}\n") } else { String::new() };
        write(&root.join(format!("entry-{number:08}")), content.as_bytes());
    }
}

fn sparse_file(path: &Path, bytes: u64) {
    let file = File::create(path).unwrap_or_else(|error| broken(path, "create", error));
    file.set_len(bytes).unwrap_or_else(|error| broken(path, "stretch", error));
    let mut island = vec![0; MIB as usize];
    for number in 0..ISLANDS.min(bytes / MIB / 2) {
        Bytes::part(20, number).fill(&mut island);
        let at = bytes / ISLANDS * number;
        file.write_all_at(&island, at).unwrap_or_else(|error| broken(path, "write", error));
    }
}
