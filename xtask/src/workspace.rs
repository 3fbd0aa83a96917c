//! The checkout as the checks see it: packages, their dependencies, every text file.

use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand};

use crate::failure::Failure;

/// Folders that hold build output or foreign state (`.git` is a file where the checkout is a worktree).
const NOT_OURS: &[&str] = &["target", ".git", ".services"];

/// A text file of the checkout.
pub(crate) struct TextFile {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The checkout.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) metadata: Metadata,
    pub(crate) files: Vec<TextFile>,
    /// Every folder, relative to the root.
    pub(crate) folders: Vec<String>,
}

impl Workspace {
    /// Reads metadata and all text files; files that are not UTF-8 are data and left out.
    pub(crate) fn load() -> Result<Self, Failure> {
        let metadata = metadata()?;
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let mut workspace = Self { root: root.clone(), metadata, files: Vec::new(), folders: Vec::new() };
        workspace.collect(&root)?;
        workspace.files.sort_by(|left, right| left.path.cmp(&right.path));
        workspace.folders.sort();
        Ok(workspace)
    }

    fn collect(&mut self, folder: &Path) -> Result<(), Failure> {
        for entry in std::fs::read_dir(folder).map_err(Failure::file("list", folder))? {
            let entry = entry.map_err(Failure::file("list", folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            let kind = entry.file_type().map_err(Failure::file("look at", &path))?;
            let relative = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().into_owned();
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                self.folders.push(relative);
                self.collect(&path)?;
            } else if kind.is_file() && !NOT_OURS.contains(&name.as_str()) {
                let bytes = std::fs::read(&path).map_err(Failure::file("read", &path))?;
                if let Ok(text) = String::from_utf8(bytes) {
                    self.files.push(TextFile { path: relative, text });
                }
            }
        }
        Ok(())
    }

    /// The text of one file, if it is there.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

/// `cargo metadata` of the workspace that we run in.
pub(crate) fn metadata() -> Result<Metadata, Failure> {
    MetadataCommand::new().exec().map_err(|source| Failure::Metadata { source: Box::new(source) })
}
