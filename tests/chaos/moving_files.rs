//! A large file that changes while its ranges are read: in place, or by another one that takes its name.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tests::bytes::Bytes;
use tests::cli::{Backup, Longshore};
use tests::frozen::{Frozen, packs_in};
use tests::restic::Restic;
use tests::scratch::Scratch;

const MIB: usize = 1 << 20;
/// Twenty ranges, of which a few are read when three packs are stored.
const FILE_BYTES: usize = 160 * MIB;
const RANGE_BYTES: u64 = 8 << 20;

/// A folder with one large file and a small one, and a repository.
struct Ground {
    scratch: Scratch,
    restic: Restic,
    longshore: Longshore,
}

/// A finished backup, and the file as restic restores it.
struct Judged {
    backup: Backup,
    content: Vec<u8>,
}

impl Ground {
    fn new(content: &[u8]) -> Self {
        let scratch = Scratch::new("moving");
        let tree = scratch.folder("tree");
        std::fs::write(tree.join("file"), content).expect("written");
        std::fs::write(tree.join("neighbour"), "stands still").expect("written");
        let restic = Restic::quick(scratch.path());
        let longshore = Longshore::with_repository(restic.repository(), restic.password_file());
        let longshore = longshore.budget(1_000, 1 << 40, RANGE_BYTES, RANGE_BYTES);
        Self { scratch, restic, longshore }
    }

    fn file(&self) -> PathBuf {
        self.scratch.join("tree/file")
    }

    /// A backup in the middle of which the file is changed, between two instructions of it.
    fn back_up_changing(&self, change: impl FnOnce(&Path)) -> Judged {
        let child = self.longshore.start(self.scratch.path(), ["backup", "--json", "--workers", "2", "tree"]);
        let packs = packs_in(self.restic.repository());
        let frozen = Frozen::in_the_middle(child, self.restic.repository(), packs + 3);
        change(&self.file());
        self.judged(Longshore::backed_up(&frozen.finish().expect_code(0)))
    }

    /// What the repository has of the file: every byte of a clean repository, as many as its node says.
    #[track_caller]
    fn judged(&self, backup: Backup) -> Judged {
        self.restic.assert_clean();
        let target = Scratch::new("moving-restored");
        self.restic.restore(&backup.snapshot, target.path());
        let content = std::fs::read(target.join("tree/file")).expect("restored");
        let nodes = self.restic.list(&backup.snapshot);
        let node = nodes.iter().find(|node| node["path"] == "/tree/file").expect("its node");
        assert_eq!(node["size"].as_u64(), Some(content.len() as u64), "its size is what was read");
        assert_eq!(nodes.len(), 3, "nothing is missing: {nodes:?}");
        Judged { backup, content }
    }

    /// The next backup has the file as it is now, and everything else as restic has it.
    #[track_caller]
    fn assert_next_is_right(&self, expected: &[u8]) -> Backup {
        let next = self.judged(self.longshore.backup(self.scratch.path(), &["--workers", "2"], ["tree"]));
        assert!(next.content == expected, "the next snapshot has the new content");
        let restic = self.restic.backup(self.scratch.path(), &["--force"], ["tree"]);
        assert_eq!(next.backup.tree, restic.tree);
        next.backup
    }
}

/// So many backups at most until one was in the state that a test is about.
const ATTEMPTS_MAX: u32 = 10;

/// A backup whose file changed before its last range was read. On a busy machine it may be stopped too late for that.
fn met_between_ranges(old: &[u8], change: impl Fn(&Path)) -> (Ground, Judged) {
    for _ in 0..ATTEMPTS_MAX {
        let ground = Ground::new(old);
        let judged = ground.back_up_changing(&change);
        if judged.content != old {
            return (ground, judged);
        }
        println!("stopped too late: {}", judged.backup.summary);
    }
    panic!("every range was read before the change, {ATTEMPTS_MAX} times");
}

impl Judged {
    fn is_listed(&self) -> bool {
        let problems = self.backup.summary["problems"].as_array().cloned().unwrap_or_default();
        let listed = |problem: &serde_json::Value| problem.to_string().contains("changed_while_read");
        self.backup.count("changed_while_read") > 0 && problems.iter().any(listed)
    }
}

fn content(seed: u64) -> Vec<u8> {
    Bytes::new(seed).vec(FILE_BYTES)
}

#[test]
fn heavy_a_file_that_is_replaced_between_its_ranges_is_read_whole() {
    let (old, new) = (content(1), content(2));
    let (ground, judged) = met_between_ranges(&old, |file| {
        let other = file.with_extension("new");
        std::fs::write(&other, &new).expect("written");
        std::fs::rename(other, file).expect("renamed");
    });
    println!("{}", judged.backup.summary);
    assert_eq!(judged.backup.seams("files_read_whole"), 1, "{}", judged.backup.summary);
    assert!(judged.content == new, "one file or the other, not a mixture");
    ground.assert_next_is_right(&new);
}

#[test]
fn heavy_a_file_that_is_rewritten_between_its_ranges_is_read_again_next_time() {
    let (old, new) = (content(1), content(2));
    let (ground, judged) = met_between_ranges(&old, |file| {
        let file = OpenOptions::new().write(true).open(file).expect("opened");
        file.write_all_at(&new, 0).expect("written");
    });
    println!("{}", judged.backup.summary);
    assert!(judged.is_listed(), "{}", judged.backup.summary);
    assert_eq!(judged.content.len(), old.len());
    let bytes = judged.content.iter().zip(old.iter().zip(&new));
    assert!(bytes.into_iter().all(|(byte, (old, new))| byte == old || byte == new), "every byte was there once");
    assert!(judged.content != new, "the change fell between ranges");
    let next = ground.assert_next_is_right(&new);
    assert_eq!((next.count("files_changed"), next.count("files_unmodified")), (1, 1), "{}", next.summary);
}

#[test]
fn heavy_a_file_that_grows_between_its_ranges_is_read_again_next_time() {
    let old = content(1);
    let new = [old.as_slice(), &Bytes::new(2).vec(20 * MIB + 1)].concat();
    let ground = Ground::new(&old);
    let judged = ground.back_up_changing(|file| {
        let file = OpenOptions::new().write(true).open(file).expect("opened");
        file.write_all_at(&new[old.len()..], old.len() as u64).expect("written");
    });
    println!("{}", judged.backup.summary);
    assert!(judged.is_listed(), "{}", judged.backup.summary);
    assert!(judged.content == old, "as long as it was when it was opened");
    let next = ground.assert_next_is_right(&new);
    assert_eq!((next.count("files_changed"), next.count("files_unmodified")), (1, 1), "{}", next.summary);
}

#[test]
fn heavy_a_file_that_shrinks_between_its_ranges_is_read_whole() {
    let old = content(1);
    let new = &old[..FILE_BYTES / 2 + 1];
    let (ground, judged) = met_between_ranges(&old, |file| {
        let file = OpenOptions::new().write(true).open(file).expect("opened");
        file.set_len(new.len() as u64).expect("cut off");
    });
    println!("{}", judged.backup.summary);
    assert_eq!(judged.backup.seams("files_read_whole"), 1, "{}", judged.backup.summary);
    assert!(judged.content == new);
    ground.assert_next_is_right(new);
}

/// Bytes of a version of a file that is replaced all the time; each MiB begins with the version.
fn version(number: u64) -> Vec<u8> {
    let mut bytes = Bytes::new(number).vec(FILE_BYTES / 4);
    for piece in bytes.chunks_mut(MIB) {
        piece[..8].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Ends what goes on beside a test, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn heavy_a_file_that_is_replaced_all_the_time_is_one_of_them() {
    let ground = Ground::new(&version(0));
    let (file, ended) = (ground.file(), AtomicBool::new(false));
    let judged = std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = ground.scratch.join("other");
            for number in 1.. {
                std::fs::write(&other, version(number)).expect("written");
                std::fs::rename(&other, &file).expect("renamed");
                if ended.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let _ends = Ends(&ended);
        let back_up = || {
            let arguments = ["--force", "--workers", "2"];
            ground.judged(ground.longshore.backup(ground.scratch.path(), &arguments, ["tree"]))
        };
        let met = |judged: &Judged| {
            let number = u64::from_le_bytes(*judged.content.first_chunk().expect("eight bytes"));
            assert!(judged.content == version(number), "a mixture of versions");
            println!("version {number}: {}", judged.backup.summary["seams"]);
            judged.backup.seams("files_read_whole") > 0
        };
        (0..ATTEMPTS_MAX).map(|_| back_up()).find(met)
    });
    assert!(judged.is_some(), "no backup met a file that was replaced between its ranges");
    let now = std::fs::read(&file).expect("read");
    ground.assert_next_is_right(&now);
}
