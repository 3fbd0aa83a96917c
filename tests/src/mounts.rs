//! Commands that see mounts of their own: a private mount namespace, so that nothing is left and tests do not meet.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Mounts to be made, in order, before a command runs.
#[derive(Clone, Debug, Default)]
pub struct MountPlan {
    script: String,
}

impl MountPlan {
    /// No mounts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the folder or file `from` at `at` too.
    pub fn bind(self, from: &Path, at: &Path) -> Self {
        self.step(&format!("mount --bind {} {}", quote(from), quote(at)))
    }

    /// A memory file system of at most `size_kib`, for a disk that fills up.
    pub fn tmpfs(self, at: &Path, size_kib: u64) -> Self {
        self.step(&format!("mount -t tmpfs -o size={size_kib}k tmpfs {}", quote(at)))
    }

    /// An overlay of `lower` at `at`; `state` is a folder on the same file system as `lower`, for upper and work layers.
    /// With all layers on one file system inodes are those of the lower layer and st_dev is the overlay's own.
    pub fn overlay(self, lower: &Path, state: &Path, at: &Path) -> Self {
        let (upper, work) = (state.join("upper"), state.join("work"));
        self.step(&format!("mkdir -p {} {}", quote(&upper), quote(&work))).step(&format!(
            "mount -t overlay -o lowerdir={},upperdir={},workdir={} overlay {}",
            quote(lower),
            quote(&upper),
            quote(&work),
            quote(at)
        ))
    }

    /// `program` behind these mounts; the caller adds arguments, folder and environment. The mounts end with it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("unshare");
        let script = format!("{}exec \"$@\"", self.script);
        command.args(["--mount", "--propagation", "private", "--", "sh", "-ec", &script, "sh"]).arg(program);
        command
    }

    fn step(mut self, line: &str) -> Self {
        writeln!(self.script, "{line}").expect("a String takes everything");
        self
    }
}

/// A path as one word of a shell script.
fn quote(path: &Path) -> String {
    let text = path.to_str().unwrap_or_else(|| panic!("mount points have plain names: {}", path.display()));
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::run;
    use crate::scratch::Scratch;

    fn device_and_inode(plan: &MountPlan, path: &Path) -> (String, String) {
        let outcome = run(plan.command("stat").args(["-c", "%d %i"]).arg(path)).expect_code(0);
        let text = outcome.text();
        let (device, inode) = text.trim().split_once(' ').expect("two numbers");
        (device.to_owned(), inode.to_owned())
    }

    #[test]
    fn an_overlay_changes_the_device_and_keeps_the_inode() {
        let scratch = Scratch::new("mounts");
        let lower = scratch.folder("it's lower");
        std::fs::write(lower.join("file"), "x").expect("written");
        let (at, state) = (scratch.folder("at"), scratch.folder("state"));
        let plain = device_and_inode(&MountPlan::new(), &lower.join("file"));
        let overlaid = device_and_inode(&MountPlan::new().overlay(&lower, &state, &at), &at.join("file"));
        assert_ne!(plain.0, overlaid.0);
        assert_eq!(plain.1, overlaid.1);
        assert!(!at.join("file").exists(), "the mount is private");
    }
}
