//! A backup that is stopped in the middle of its work.

use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal};

use crate::process::{Outcome, send};

/// A stopped process that does not outlive the test.
#[derive(Debug)]
pub struct Frozen {
    child: Option<Child>,
}

impl Frozen {
    /// Stops the backup `child` once it has locked `repository` and `packs` packs are there.
    ///
    /// Panics if it ends before.
    pub fn in_the_middle(child: Child, repository: &Path, packs: usize) -> Self {
        Self::once(child, repository, || packs_in(repository) >= packs)
    }

    /// Stops the backup `child` once it has locked `repository` and `files` index files are there.
    ///
    /// Panics if it ends before.
    pub fn with_index_files(child: Child, repository: &Path, files: usize) -> Self {
        Self::once(child, repository, || complete_files(&repository.join("index")) >= files)
    }

    fn once(mut child: Child, repository: &Path, is_far_enough: impl Fn() -> bool) -> Self {
        while complete_files(&repository.join("locks")) == 0 || !is_far_enough() {
            assert!(child.try_wait().expect("asked").is_none(), "the backup ended before it was met in the middle");
            std::thread::yield_now();
        }
        send(Pid::from_child(&child), Signal::STOP);
        Self { child: Some(child) }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Lets it go on and waits for its end.
    pub fn finish(mut self) -> Outcome {
        let child = self.child.take().expect("it was not finished yet");
        send(Pid::from_child(&child), Signal::CONT);
        Outcome::new(
            "longshore backup (stopped and continued)".to_owned(),
            child.wait_with_output().expect("waited for"),
        )
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        let mut child = self.child.take().expect("it was not finished yet");
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Packs in a repository that have their final name.
pub fn packs_in(repository: &Path) -> usize {
    let folders = std::fs::read_dir(repository.join("data")).into_iter().flatten().flatten();
    folders.map(|folder| complete_files(&folder.path())).sum()
}

fn complete_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().len() == 64).count()
}
