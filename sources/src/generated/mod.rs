//! File trees in memory, from a seed or put together by hand: the source of tests and the simulation.
//!
//! A [`GeneratedTree`] is what is there; a [`GeneratedSource`] is how one host sees it: with device
//! numbers of its own, some file systems not mounted. Changes may be planted at the n-th read of a file.
//! There is no clock and no randomness: every change moves the tree's own time on by a second.

mod content;
mod seed;
mod tree;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::content::Content;
pub use self::seed::TreeSettings;
pub use self::tree::{Change, GeneratedTree, Trouble};
use self::tree::{NodeNumber, View};
use crate::files::roots::{Place, Root, Roots};
use crate::files::users::UserTable;
use crate::names::Names;
use crate::paths;
use crate::source::{FileKind, Metadata, Mount, OpenFile, Source, SourceError, SourceErrorKind};

/// How one host sees a tree.
pub struct GeneratedSource {
    tree: Arc<GeneratedTree>,
    roots: Roots,
    view: Arc<Mutex<View>>,
}

impl GeneratedSource {
    /// Everything, with the tree's own device numbers.
    pub fn new(tree: Arc<GeneratedTree>) -> Self {
        Self::on_host(tree, vec![b"/".to_vec()], 0)
    }

    /// What is below `roots`, on a host that adds `device_shift` to every device number.
    pub fn on_host(tree: Arc<GeneratedTree>, roots: Vec<Vec<u8>>, device_shift: u64) -> Self {
        let roots = Roots::new(roots.into_iter().map(|path| Root { mount: path.clone(), path }).collect());
        let view = Arc::new(Mutex::new(View { device_shift, unmounted: BTreeSet::new() }));
        Self { tree, roots, view }
    }

    /// The tree behind it.
    pub fn tree(&self) -> &Arc<GeneratedTree> {
        &self.tree
    }

    /// This host loses the file system at `path`: the empty directory below it shows.
    pub fn unmount(&self, path: &str) {
        self.view().unmounted.insert(path.as_bytes().to_vec());
    }

    /// It is back.
    pub fn remount(&self, path: &str) {
        self.view().unmounted.remove(path.as_bytes());
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, action: &'static str, path: &[u8], may_be_above: bool) -> Result<NodeNumber, SourceError> {
        let follows = match self.roots.place(path) {
            Place::Below { .. } => false,
            Place::Ancestor { .. } if may_be_above => true,
            Place::Ancestor { .. } | Place::Outside => {
                let explanation = "it is outside the roots of this worker";
                return Err(SourceError::new(SourceErrorKind::NotAllowed, action, path, explanation));
            }
        };
        self.tree.find(action, path, follows, &self.view())
    }
}

impl Source for GeneratedSource {
    fn serves(&self, path: &[u8]) -> bool {
        matches!(self.roots.place(path), Place::Below { .. })
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata, SourceError> {
        let node = self.find("stat", path, true)?;
        Ok(self.tree.metadata(node, &self.view()))
    }

    fn metadata_of(
        &self,
        directory: &[u8],
        names: &[&[u8]],
    ) -> Result<Vec<Result<Metadata, SourceError>>, SourceError> {
        let node = self.find("stat", directory, false)?;
        self.tree.check_directory("stat", directory, node)?;
        let answer = |name: &&[u8]| {
            let path = paths::child(directory, name);
            if !paths::is_entry_name(name) {
                let explanation = "it is not the name of an entry";
                return Err(SourceError::new(SourceErrorKind::NotAllowed, "stat", &path, explanation));
            }
            self.metadata(&path)
        };
        Ok(names.iter().map(answer).collect())
    }

    fn list(&self, directory: &[u8]) -> Result<Names, SourceError> {
        let node = self.find("list", directory, false)?;
        self.tree.list(directory, node)
    }

    fn open(&self, path: &[u8], expected: &Metadata) -> Result<Box<dyn OpenFile>, SourceError> {
        if expected.kind != FileKind::File {
            return Err(SourceError::new(SourceErrorKind::Changed, "open", path, "it is not a regular file"));
        }
        let node = self.find("open", path, false)?;
        self.tree.check_open(path, node)?;
        let (tree, view) = (self.tree.clone(), self.view.clone());
        Ok(Box::new(OpenGenerated { tree, view, node, path: path.to_vec() }))
    }

    fn users(&self) -> Result<UserTable, SourceError> {
        Ok(UserTable::parse(b"root:x:0:0::/:/bin/sh\n", b"root:x:0:\n"))
    }

    fn mounts(&self, under: &[Vec<u8>]) -> Result<Vec<Mount>, SourceError> {
        let mut mounts = std::collections::BTreeMap::new();
        for path in under {
            let device = self.metadata(path)?.device;
            let mount = Mount { path: path.clone(), device, is_mount_point: false, file_system: String::new() };
            mounts.entry(path.clone()).or_insert(mount);
            let mount_points = self.tree.mount_points(&self.view());
            for mount_point in mount_points.into_iter().filter(|mount_point| paths::below(path, mount_point).is_some())
            {
                if let (Place::Below { .. }, Ok(metadata)) =
                    (self.roots.place(&mount_point), self.metadata(&mount_point))
                {
                    let file_system = "generated".to_owned();
                    let mount =
                        Mount { path: mount_point.clone(), device: metadata.device, is_mount_point: true, file_system };
                    mounts.insert(mount_point, mount);
                }
            }
        }
        Ok(mounts.into_values().collect())
    }
}

struct OpenGenerated {
    tree: Arc<GeneratedTree>,
    view: Arc<Mutex<View>>,
    node: NodeNumber,
    path: Vec<u8>,
}

impl OpenFile for OpenGenerated {
    fn metadata(&self) -> Result<Metadata, SourceError> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.tree.metadata(self.node, &view))
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.tree.read(&self.path, self.node, offset, buffer)
    }
}

#[cfg(test)]
#[path = "generated_tests.rs"]
mod tests;
