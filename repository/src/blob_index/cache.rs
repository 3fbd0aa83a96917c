//! The folder that keeps runs: `index/<checksum>.run` below the repository's cache folder.
//!
//! Files are written under another name and renamed, never changed, and removed at any time: who has
//! mapped one keeps it.

use std::fs::{DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use proto::id::Id;
use tempfile::NamedTempFile;

use super::merge::merge;
use super::run::{LiveRun, Run, RunBytes};

const EXTENSION: &str = "run";

/// Bytes that are gathered before they go to a file.
const BUFFER_LENGTH: usize = 1 << 20;

/// The runs of one repository on this machine. Any number of processes may use it.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    repository: Id,
}

impl Cache {
    /// Makes the folder.
    ///
    /// # Errors
    /// If that is not possible.
    pub(super) fn open(folder: &Path, repository: Id) -> io::Result<Self> {
        let folder = folder.join("index");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, repository })
    }

    /// The files that may hold runs.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(super) fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.folder)?;
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        paths.sort_unstable();
        Ok(paths)
    }

    /// The run in a file, if it is whole. Reads all of it.
    pub(super) fn read(&self, path: &Path) -> Option<Run> {
        let file = File::open(path).ok()?;
        self.map(&file)
    }

    fn map(&self, file: &File) -> Option<Run> {
        // SAFETY: files of the cache are never changed after they were written (by this user, into a
        // folder of mode 0700), only unlinked, which leaves the mapping as it is.
        let bytes = unsafe { Mmap::map(file) }.ok()?;
        Run::verify(RunBytes::Mapped(bytes), &self.repository)
    }

    /// Moves a run from memory to a file. If that is not possible it stays in memory.
    pub(super) fn keep(&self, run: Run) -> LiveRun {
        let stored = self.store(|mut output| {
            output.write_all(run.as_slice())?;
            output.flush()?;
            Ok(run.checksum())
        });
        match stored {
            Ok((mapped, path)) => LiveRun::whole(mapped, Some(path)),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a part of the index is not cached");
                LiveRun::whole(run, None)
            }
        }
    }

    /// Merges runs into a file, and removes theirs.
    ///
    /// # Errors
    /// Those of the file system; nothing is removed then.
    pub(super) fn merge(&self, sources: &[&LiveRun]) -> io::Result<LiveRun> {
        let too_large = || io::Error::other("too many packs or blobs for one run");
        let (run, path) = self.store(|output| merge(output, sources, &self.repository)?.ok_or_else(too_large))?;
        for old in sources.iter().filter_map(|source| source.path.as_ref()).filter(|old| **old != path) {
            self.remove(old);
        }
        Ok(LiveRun::whole(run, Some(path)))
    }

    /// Lets `write` fill a file, which is named by the checksum that it gives.
    fn store(&self, write: impl FnOnce(BufWriter<&File>) -> io::Result<Id>) -> io::Result<(Run, PathBuf)> {
        let file = NamedTempFile::new_in(&self.folder)?;
        let checksum = write(BufWriter::with_capacity(BUFFER_LENGTH, file.as_file()))?;
        let torn = || io::Error::other("the file does not hold what was written to it");
        let run = self.map(file.as_file()).ok_or_else(torn)?;
        let path = self.folder.join(format!("{checksum}.{EXTENSION}"));
        file.persist(&path)?;
        Ok((run, path))
    }

    /// Removes a file, if it is still there.
    pub(super) fn remove(&self, path: &Path) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::debug!(error = &error as &dyn std::error::Error, path = %path.display(), "not removed");
        }
    }
}
