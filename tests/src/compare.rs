//! rsync as the judge of a restored tree.

use std::path::Path;
use std::process::Command;

use crate::process::run;

/// What rsync would change in `copy` to make it equal to `original`: contents (by checksum), owners, modes, times,
/// ACLs, extended attributes, hard links, devices, and entries that are too many. One itemised line each.
pub fn differences(original: &Path, copy: &Path) -> Vec<String> {
    let slashed = |path: &Path| {
        let mut text = path.as_os_str().to_os_string();
        text.push("/");
        text
    };
    let mut command = Command::new("rsync");
    command.args(["-aHAXnc", "--numeric-ids", "--itemize-changes", "--delete"]);
    command.arg(slashed(original)).arg(slashed(copy)).env("LC_ALL", "C");
    run(&mut command).expect_code(0).text().lines().map(str::to_owned).collect()
}

/// Panics unless the copy differs in nothing but the sockets, which no backup brings back.
#[track_caller]
pub fn assert_same_but_sockets(original: &Path, copy: &Path) {
    // `cS` is rsync's itemised sign for a special file that would be created; a fifo has it too, hence the name.
    let is_socket = |line: &String| line.starts_with("cS") && line.ends_with("socket");
    let (sockets, others): (Vec<String>, Vec<String>) = differences(original, copy).into_iter().partition(is_socket);
    assert!(others.is_empty(), "{} differs from {}:\n{}", copy.display(), original.display(), others.join("\n"));
    assert_eq!(sockets.len(), 1, "the socket's line, once: {sockets:?}");
}

#[cfg(test)]
mod tests {
    use super::differences;
    use crate::scratch::Scratch;

    #[test]
    fn rsync_sees_content_mode_and_surplus() {
        let scratch = Scratch::new("compare");
        let (left, right) = (scratch.folder("left"), scratch.folder("right"));
        for folder in [&left, &right] {
            std::fs::write(folder.join("same"), "same").expect("written");
            std::fs::write(folder.join("other"), folder.as_os_str().len().to_string()).expect("written");
        }
        std::fs::write(right.join("surplus"), "").expect("written");
        crate::trees::set_times(&left, 1_000_000_000, 5);
        crate::trees::set_times(&right, 1_000_000_000, 5);
        for name in ["same", "other"] {
            crate::trees::set_times(&left.join(name), 1_000_000_000, 5);
            crate::trees::set_times(&right.join(name), 1_000_000_000, 5);
        }
        let lines = differences(&left, &right);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("*deleting") && lines[0].ends_with("surplus"), "{lines:?}");
        assert!(lines[1].starts_with(">fc") && lines[1].ends_with("other"), "{lines:?}");
    }
}
