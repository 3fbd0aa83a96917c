//! Tests of [`super::Local`]: what the contract suite cannot know about directories.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use tempfile::TempDir;

use super::*;
use crate::storage::contract::{self, all};

/// Gives a new directory at each call; all go when it does.
struct Places {
    parent: TempDir,
    next: AtomicUsize,
}

impl Places {
    fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> Local {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Local::new(self.parent.path().join(format!("deep/{number}/repository")))
    }
}

async fn repository() -> (TempDir, Local) {
    let directory = tempfile::tempdir().unwrap();
    let storage = Local::new(directory.path().join("repository"));
    storage.create().await.unwrap();
    (directory, storage)
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

/// Names of everything in a directory, temporary files too.
fn raw_names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        path.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn keeps_the_contract() {
    let places = Places::new();
    contract::run(|| Arc::new(places.next())).await;
}

#[tokio::test]
async fn keeps_the_contract_with_small_pages() {
    let places = Places::new();
    contract::run_with_few_objects(|| Arc::new(places.next().with_page_entries(7))).await;
}

#[tokio::test]
async fn has_the_directories_and_modes_of_restic() {
    let (_directory, storage) = repository().await;
    assert_eq!(raw_names(&storage.root), ["data", "index", "keys", "locks", "snapshots"]);
    assert_eq!(raw_names(&storage.root.join("data")), (0..256).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>());
    for path in ["", "data", "data/00", "data/ff", "keys"] {
        assert_eq!(mode(&storage.root.join(path)), 0o700, "{path}");
    }
    storage.put("config", vec![1].into()).await.unwrap();
    storage.put("longshore/jobs/1/commit", vec![1].into()).await.unwrap();
    assert_eq!(mode(&storage.root.join("config")), 0o400);
    assert_eq!(mode(&storage.root.join("longshore/jobs/1/commit")), 0o400);
    assert_eq!(mode(&storage.root.join("longshore/jobs")), 0o700);
}

#[tokio::test]
async fn shares_with_the_group_if_the_config_does() {
    let (_directory, storage) = repository().await;
    storage.put("config", vec![1].into()).await.unwrap();
    std::fs::set_permissions(storage.root.join("config"), PermissionsExt::from_mode(0o440)).unwrap();
    std::fs::set_permissions(&storage.root, PermissionsExt::from_mode(0o2770)).unwrap();
    storage.put("longshore/jobs/1/commit", vec![1].into()).await.unwrap();
    storage.put("keys/a", vec![1].into()).await.unwrap();
    assert_eq!(mode(&storage.root.join("keys/a")), 0o440);
    assert_eq!(mode(&storage.root.join("longshore/jobs/1/commit")), 0o440);
    // Whatever the process's mask is; and what is inherited from the root stays.
    assert_eq!(mode(&storage.root.join("longshore/jobs/1")), 0o2770);
    std::fs::remove_dir(storage.root.join("data/7f")).unwrap();
    storage.put("data/7f/object", vec![1].into()).await.unwrap();
    assert_eq!(mode(&storage.root.join("data/7f")), 0o770);
}

#[tokio::test]
async fn two_clients_see_the_same() {
    let (_directory, one) = repository().await;
    let other = Local::new(&*one.root);
    one.put("keys/a", vec![1, 2].into()).await.unwrap();
    assert_eq!(other.get("keys/a", None).await.unwrap(), vec![1, 2]);
    assert_eq!(other.put("keys/a", vec![].into()).await.unwrap_err().kind, StorageErrorKind::AlreadyThere);
    other.delete("keys/a").await.unwrap();
    assert_eq!(one.size("keys/a").await.unwrap_err().kind, StorageErrorKind::NotFound);
}

#[tokio::test]
async fn leftovers_and_foreign_files_are_not_objects() {
    let (_directory, storage) = repository().await;
    let id = "ab".repeat(32);
    storage.put(&format!("data/ab/{id}"), vec![1].into()).await.unwrap();
    for leftover in [
        "data/ab/.longshore~1-0".to_owned(),
        format!("data/ab/{id}-tmp-12345"),
        "config-tmp-77".to_owned(),
        "data/ab/with space".to_owned(),
        "data/ab/größe".to_owned(),
    ] {
        std::fs::write(storage.root.join(&leftover), b"part").unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, storage.root.join("data/ab/pipe"), Mode::RWXU).unwrap();
    let names: Vec<String> = all(&storage, "").await.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [format!("data/ab/{id}")]);
    assert_eq!(storage.get("data/ab/pipe", None).await.unwrap_err().kind, StorageErrorKind::Permanent);
}

#[tokio::test]
async fn a_page_is_full_before_there_is_another() {
    let (_directory, storage) = repository().await;
    let storage = storage.with_page_entries(2);
    let mut pages = Vec::new();
    for name in ["keys/a", "keys/b", "keys/c"] {
        storage.put(name, vec![].into()).await.unwrap();
        let page = storage.list("keys/", None).await.unwrap();
        pages.push((page.entries.len(), page.next));
    }
    assert_eq!(pages, [(1, None), (2, None), (2, Some("keys/b".to_owned()))]);
}

#[tokio::test]
async fn links_count_in_the_root_only() {
    let (directory, storage) = repository().await;
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(storage.root.join("data"), &elsewhere).unwrap();
    symlink(&elsewhere, storage.root.join("data")).unwrap();
    storage.put("data/ab/object", vec![1].into()).await.unwrap();
    assert!(elsewhere.join("ab/object").exists());
    let secret = directory.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("file"), b"secret").unwrap();
    symlink(secret.join("file"), storage.root.join("keys/link")).unwrap();
    symlink(&secret, storage.root.join("keys/directory")).unwrap();
    symlink("..", storage.root.join("keys/loop")).unwrap();
    symlink(secret.join("file"), storage.root.join("linked-file")).unwrap();
    for prefix in ["", "data/"] {
        let names: Vec<String> = all(&storage, prefix).await.into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["data/ab/object"], "below {prefix:?}");
    }
    assert_eq!(all(&storage, "keys/").await, []);
    for (name, kind) in [
        ("keys/link", StorageErrorKind::Permanent),
        ("linked-file", StorageErrorKind::Permanent),
        ("keys/directory/file", StorageErrorKind::NotFound),
    ] {
        assert_eq!(storage.get(name, None).await.unwrap_err().kind, kind, "{name}");
        assert_eq!(storage.size(name).await.unwrap_err().kind, kind, "{name}");
    }
    assert_eq!(storage.put("keys/link", vec![].into()).await.unwrap_err().kind, StorageErrorKind::Permanent);
    assert_eq!(std::fs::read(secret.join("file")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_root_that_is_missing_is_not_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Local::new(directory.path().join("absent"));
    let kinds = [
        storage.put("config", vec![].into()).await.unwrap_err().kind,
        storage.get("config", None).await.unwrap_err().kind,
        storage.size("config").await.unwrap_err().kind,
        storage.list("", None).await.unwrap_err().kind,
        storage.list("keys/", None).await.unwrap_err().kind,
        storage.delete("config").await.unwrap_err().kind,
    ];
    assert_eq!(kinds, [StorageErrorKind::NotFound; 6]);
    assert_eq!(raw_names(directory.path()), [""; 0]);
}

#[tokio::test]
async fn empty_directories_go_with_the_last_object_of_a_job_only() {
    let (_directory, storage) = repository().await;
    for name in ["longshore/jobs/1/start", "longshore/jobs/1/commit", "longshore/jobs/2/start", "keys/a"] {
        storage.put(name, vec![].into()).await.unwrap();
    }
    storage.delete("longshore/jobs/1/start").await.unwrap();
    assert_eq!(raw_names(&storage.root.join("longshore/jobs")), ["1", "2"]);
    storage.delete("longshore/jobs/1/commit").await.unwrap();
    assert_eq!(raw_names(&storage.root.join("longshore/jobs")), ["2"]);
    storage.delete("longshore/jobs/2/start").await.unwrap();
    storage.delete("keys/a").await.unwrap();
    assert_eq!(raw_names(&storage.root.join("longshore")), [""; 0]);
    assert!(storage.root.join("keys").exists());
}

/// A file system of its own, unmounted when dropped. Needs root, as the test machines have.
struct Mounted(TempDir);

impl Mounted {
    fn new(options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("longshore-test", directory.path(), "tmpfs", MountFlags::empty(), &*options)
            .expect("mounting a tmpfs; this test runs as root");
        rustix::mount::mount_change(directory.path(), MountPropagationFlags::PRIVATE).unwrap();
        Self(directory)
    }

    fn make_read_only(&self) {
        rustix::mount::mount_remount(self.0.path(), MountFlags::RDONLY, c"").unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_keeps_what_was_there() {
    let mounted = Mounted::new("size=1m,mode=700");
    let storage = Local::new(mounted.0.path());
    storage.create().await.unwrap();
    storage.put("keys/before", vec![1; 1_000].into()).await.unwrap();
    let spool = tempfile::tempfile().unwrap();
    spool.set_len(2 << 20).unwrap();
    let spooled = Body::Spooled { file: Arc::new(spool), len: 2 << 20 };
    for body in [vec![1; 2 << 20].into(), spooled] {
        let error = storage.put("keys/big", body).await.unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Full, "{error:?}");
        assert_eq!(raw_names(&storage.root.join("keys")), ["before"], "the temporary file is gone");
    }
    // What fits, fits still: nothing of the failed ones takes up room.
    storage.put("keys/after", vec![2; 500_000].into()).await.unwrap();
    assert_eq!(storage.get("keys/before", None).await.unwrap(), vec![1; 1_000]);
}

#[tokio::test]
async fn no_inodes_left_is_full_too() {
    let mounted = Mounted::new("nr_inodes=300,mode=700");
    let storage = Local::new(mounted.0.path());
    storage.create().await.unwrap();
    let mut result = Ok(());
    for number in 0..100 {
        result = storage.put(&format!("longshore/jobs/{number}"), vec![].into()).await;
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result.unwrap_err().kind, StorageErrorKind::Full);
}

#[tokio::test]
async fn a_read_only_file_system_refuses_writes_and_serves_reads() {
    let mounted = Mounted::new("size=1m,mode=700");
    let storage = Local::new(mounted.0.path());
    storage.create().await.unwrap();
    storage.put("keys/a", b"there".to_vec().into()).await.unwrap();
    mounted.make_read_only();
    let denied = [
        storage.put("keys/b", vec![1].into()).await.unwrap_err(),
        storage.put("longshore/jobs/1/start", vec![1].into()).await.unwrap_err(),
        storage.delete("keys/a").await.unwrap_err(),
        Local::new(mounted.0.path().join("new")).create().await.unwrap_err(),
    ];
    for error in denied {
        assert_eq!(error.kind, StorageErrorKind::Denied, "{error:?}");
    }
    assert_eq!(storage.put("keys/a", vec![1].into()).await.unwrap_err().kind, StorageErrorKind::AlreadyThere);
    storage.delete("keys/absent").await.unwrap();
    assert_eq!(storage.get("keys/a", None).await.unwrap(), "there");
    assert_eq!(all(&storage, "").await.len(), 1);
}

const WRITER_ROOT: &str = "LONGSHORE_TEST_WRITER_ROOT";

/// Puts objects and says so after each, until it is killed. Does nothing unless the test below
/// has started it in a process of its own.
#[tokio::test]
async fn writer_to_be_killed() {
    let Some(root) = std::env::var_os(WRITER_ROOT) else { return };
    let storage = Local::new(root);
    for number in 0_u32.. {
        let name = format!("longshore/jobs/{}/{number}", number % 7);
        storage.put(&name, vec![number as u8; 200_000].into()).await.unwrap();
        #[expect(clippy::disallowed_macros, reason = "its parent process reads this")]
        let () = println!("put {name}");
    }
}

/// `kill -9` at any moment: what was acknowledged is there whole, nothing is there in part.
#[tokio::test]
async fn a_killed_writer_leaves_whole_objects() {
    for acknowledged in [1, 5, 23] {
        let (_directory, storage) = repository().await;
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::local::tests::writer_to_be_killed", "--nocapture"])
            .env(WRITER_ROOT, &*storage.root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        let puts = lines.filter_map(|line| line.split_once("put ").map(|(_, name)| name.to_owned()));
        let told: BTreeSet<String> = puts.take(acknowledged).collect();
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert_eq!(told.len(), acknowledged);
        let listed = all(&storage, "").await;
        for entry in &listed {
            let number: u32 = entry.name.rsplit('/').next().unwrap().parse().unwrap();
            assert!(storage.get(&entry.name, None).await.unwrap() == vec![number as u8; 200_000], "{}", entry.name);
        }
        let names: BTreeSet<String> = listed.into_iter().map(|entry| entry.name).collect();
        assert!(told.is_subset(&names));
        // A successor writes beside the leftover.
        storage.put("longshore/jobs/0/next", vec![1].into()).await.unwrap();
    }
}
