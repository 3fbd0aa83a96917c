//! A whole tree from one number.

use super::content::{Content, mix};
use super::tree::GeneratedTree;

/// How large and how odd a tree becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeSettings {
    /// Entries to make, directories included.
    pub entries: u64,
    /// Directories inside each other.
    pub depth_max: u32,
    /// The largest file, in bytes. Most are far smaller.
    pub file_bytes_max: u64,
    /// One entry in this many is a hard link, symbolic link, fifo, device or mount point; 0: none.
    pub special_every: u64,
}

impl Default for TreeSettings {
    fn default() -> Self {
        Self { entries: 100, depth_max: 6, file_bytes_max: 1 << 20, special_every: 8 }
    }
}

impl GeneratedTree {
    /// A tree below `/data` that follows from `seed` alone.
    pub fn from_seed(seed: u64, settings: TreeSettings) -> Self {
        let tree = Self::new();
        tree.directory("/data");
        let mut grower = Grower { tree, state: seed, directories: vec![("/data".to_owned(), 0)], files: Vec::new() };
        for number in 0..settings.entries {
            grower.grow(number, settings);
        }
        grower.tree
    }
}

struct Grower {
    tree: GeneratedTree,
    state: u64,
    /// Path and depth.
    directories: Vec<(String, u32)>,
    /// Path and device-bearing directory: hard links stay in one directory, so on one file system.
    files: Vec<(String, String)>,
}

impl Grower {
    fn random(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state) % bound.max(1)
    }

    fn grow(&mut self, number: u64, settings: TreeSettings) {
        let place = self.random(self.directories.len() as u64) as usize;
        let (parent, depth) = self.directories[place].clone();
        let path = format!("{parent}/{}{number:04}", ["file ", "ä", "n\n", "x", ".h", "\"q\\"][number as usize % 6]);
        let is_special = settings.special_every > 0 && self.random(settings.special_every) == 0;
        if is_special {
            self.special(&parent, &path, depth, number);
        } else if depth < settings.depth_max && self.random(5) == 0 {
            self.tree.directory(&path);
            self.directories.push((path, depth + 1));
        } else {
            let content = self.content(settings.file_bytes_max);
            self.tree.file(&path, content);
            self.files.push((path, parent));
        }
    }

    fn special(&mut self, parent: &str, path: &str, depth: u32, number: u64) {
        let neighbour = self.files.iter().find(|(_, directory)| directory == parent).map(|(file, _)| file.clone());
        match (self.random(5), neighbour) {
            (0, Some(neighbour)) => self.tree.hard_link(&neighbour, path),
            (0 | 1, _) => self.tree.symlink(path, "../some where"),
            (2, _) => self.tree.special(path, 0o010_600, 0),
            (3, _) => self.tree.special(path, 0o020_620, 0x103),
            _ => {
                self.tree.directory(path);
                self.tree.mount(path, 1000 + number);
                self.directories.push((path.to_owned(), depth + 1));
            }
        }
    }

    /// Sizes are spread over the powers of two; one file in four repeats something.
    fn content(&mut self, bytes_max: u64) -> Content {
        let shift = self.random(u64::from(bytes_max.max(1).ilog2()) + 1);
        let bytes = self.random((1 << shift) + 1).min(bytes_max);
        let seed = self.random(u64::MAX);
        match self.random(8) {
            0 => Content::zeros(bytes),
            1 => Content::periodic(&seed.to_le_bytes()[..(1 + seed % 8) as usize], bytes),
            2 => Content::seeded(seed, bytes / 2).then(Content::zeros(bytes - bytes / 2)),
            3 => Content::seeded(seed % 4, bytes),
            _ => Content::seeded(seed, bytes),
        }
    }
}
