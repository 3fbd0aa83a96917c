//! Tests of [`super::Temporary`]: the way for file systems that cannot rename without replacing,
//! and the way for those that cannot copy in the kernel.

use std::io::Read;

use super::*;

const MODES: Modes = Modes { directory: rustix::fs::Mode::RWXU, file: rustix::fs::Mode::RUSR, shared: false };

fn directory() -> (tempfile::TempDir, OwnedFd) {
    let directory = tempfile::tempdir().unwrap();
    let descriptor = directory::open_root(directory.path()).unwrap();
    (directory, descriptor)
}

fn temporary<'p>(parent: &'p OwnedFd, content: &[u8]) -> Temporary<'p> {
    let mut temporary = Temporary::create(parent, MODES).unwrap();
    temporary.write(&content.to_vec().into()).unwrap();
    temporary
}

fn count(directory: &Path) -> usize {
    directory.read_dir().unwrap().count()
}

#[test]
fn a_link_gives_a_free_name_and_the_temporary_one_goes() {
    let (path, parent) = directory();
    let file = temporary(&parent, b"content");
    file.link("object").unwrap();
    drop(file);
    assert_eq!(std::fs::read(path.path().join("object")).unwrap(), b"content");
    assert_eq!(count(path.path()), 1);
}

#[test]
fn a_link_replaces_nothing() {
    let (path, parent) = directory();
    std::fs::write(path.path().join("object"), b"first").unwrap();
    let failure = temporary(&parent, b"second").link("object").unwrap_err();
    assert_eq!(failure.kind, StorageErrorKind::AlreadyThere);
    assert_eq!(std::fs::read(path.path().join("object")).unwrap(), b"first");
    assert_eq!(count(path.path()), 1);
}

#[test]
fn a_link_that_was_made_before_its_answer_was_lost_is_our_own() {
    let (path, parent) = directory();
    let file = temporary(&parent, b"content");
    std::fs::hard_link(path.path().join(&file.name), path.path().join("object")).unwrap();
    file.link("object").unwrap();
}

#[test]
fn a_file_that_is_not_published_goes() {
    let (path, parent) = directory();
    let file = temporary(&parent, b"content");
    assert_eq!(count(path.path()), 1);
    drop(file);
    assert_eq!(count(path.path()), 0);
}

#[test]
fn leftovers_with_our_process_id_are_stepped_over() {
    let (path, parent) = directory();
    let next = NEXT_TEMPORARY.load(Ordering::Relaxed);
    for number in next..next + 50 {
        let leftover = format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id());
        std::fs::write(path.path().join(leftover), b"left").unwrap();
    }
    let file = temporary(&parent, b"content");
    file.publish("object").unwrap();
    assert_eq!(std::fs::read(path.path().join("object")).unwrap(), b"content");
    assert_eq!(count(path.path()), 51);
}

#[test]
fn a_lost_answer_to_a_rename_leaves_the_outcome_open() {
    assert_eq!(unsettled(Errno::TIMEDOUT).kind, StorageErrorKind::Unknown);
    assert_eq!(unsettled(Errno::NOSPC).kind, StorageErrorKind::Full);
}

#[test]
fn a_copy_through_memory_goes_on_where_the_kernel_stopped() {
    let content: Vec<u8> = (0..COPY_BUFFER_BYTES + 70_001).map(|byte| (byte % 251) as u8).collect();
    let mut source = tempfile::tempfile().unwrap();
    source.write_all(&content).unwrap();
    let mut target = tempfile::tempfile().unwrap();
    let (done, len) = (1_000, content.len() - 1);
    target.write_all_at(&content[..done], 0).unwrap();
    copy_through_memory(&source, &target, done as u64, len as u64).unwrap();
    let mut copied = Vec::new();
    target.read_to_end(&mut copied).unwrap();
    assert!(copied == content[..len]);
    let short = copy_through_memory(&source, &target, 0, content.len() as u64 + 1).unwrap_err();
    assert_eq!(short.kind, StorageErrorKind::Permanent);
}

#[test]
fn a_file_that_the_kernel_cannot_copy_is_read() {
    // procfs cannot copy in the kernel and says that its files are empty.
    let source = File::open("/proc/self/status").unwrap();
    let target = tempfile::tempfile().unwrap();
    copy(&source, &target, 20).unwrap();
    let mut start = [0; 5];
    target.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(&start, b"Name:");
}
