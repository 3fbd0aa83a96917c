//! Folders for one test, removed with everything mounted below them when it ends.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that goes away with this value. It lies in `LONGSHORE_TEST_DIR`, else in the temporary folder.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new empty folder; `purpose` becomes part of its name.
    pub fn new(purpose: &str) -> Self {
        let base = std::env::var_os("LONGSHORE_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new()
            .prefix(&format!("longshore-{purpose}-"))
            .tempdir_in(&base)
            .unwrap_or_else(|error| panic!("cannot create a folder in {}: {error}", base.display()));
        // rsync and restic name paths without symlinks.
        let path = folder.keep();
        let path = path.canonicalize().unwrap_or(path);
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name in the folder, not created.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A new folder in the folder.
    pub fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        path
    }

    /// A new file in the folder.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for mount in mounts_below(&self.path).into_iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
        if std::env::var_os("LONGSHORE_TEST_KEEP").is_none() {
            // Folders may be unreadable for their owner; root does not care, and a leftover must not hide the result.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Mount points below a folder in this process's namespace, outer ones first.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    mounts.map(decode).filter(|mount| mount.starts_with(folder)).collect()
}

/// A field of mountinfo: blank, tab, newline and backslash stand as three octal digits.
fn decode(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(value)) => {
                bytes.push(value);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_is_gone_with_what_is_mounted_in_it() {
        let scratch = Scratch::new("scratch");
        let path = scratch.path().to_path_buf();
        let mount = scratch.folder("a b");
        let status = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&mount).status().expect("mount runs");
        assert!(status.success(), "tests run as root");
        assert_eq!(mounts_below(&path), [mount]);
        drop(scratch);
        assert!(!path.exists());
        assert!(mounts_below(&path).is_empty());
    }
}
