//! What the tests of this binary stand on: an emulator, a tree, a password.

use std::path::PathBuf;

use tests::azurite::{Azurite, key_text, longshore_at};
use tests::cli::{Backup, Longshore};
use tests::proxy::Proxy;
use tests::restic::{PASSWORD, Restic};
use tests::scratch::Scratch;
use tests::trees::Torture;

/// Where the repositories are.
pub(crate) const REPOSITORY: &str = "azure:box:/team/one";
/// The same for rclone.
const RCLONE_PATH: &str = "box/team/one";

/// A private emulator and a folder with `tree` and `password` in it.
pub(crate) struct Ground {
    pub(crate) azurite: Azurite,
    pub(crate) scratch: Scratch,
    pub(crate) password_file: PathBuf,
}

impl Ground {
    /// With the small torture tree.
    pub(crate) fn new() -> Self {
        let ground = Self::bare(Azurite::start());
        Torture::small().build(&ground.scratch.join("tree"));
        ground
    }

    /// Without a tree.
    pub(crate) fn bare(azurite: Azurite) -> Self {
        let scratch = Scratch::new("azure");
        let password_file = scratch.file("password", PASSWORD);
        Self { azurite, scratch, password_file }
    }

    /// With a tree of `count` files of `bytes` random bytes each.
    pub(crate) fn with_files(count: usize, bytes: usize) -> Self {
        let ground = Self::bare(Azurite::start());
        ground.add_files("tree", count, bytes);
        ground
    }

    pub(crate) fn add_files(&self, folder: &str, count: usize, bytes: usize) {
        let folder = self.scratch.folder(folder);
        let mut random = tests::bytes::Bytes::new(7);
        for number in 0..count {
            std::fs::write(folder.join(number.to_string()), random.vec(bytes)).expect("written");
        }
    }

    pub(crate) fn longshore(&self) -> Longshore {
        self.azurite.longshore(REPOSITORY, &self.password_file)
    }

    /// `longshore` that reaches the emulator through `proxy`.
    pub(crate) fn longshore_through(&self, proxy: &Proxy) -> Longshore {
        let endpoint = format!("http://127.0.0.1:{}/{}", proxy.port(), tests::azurite::ACCOUNT);
        longshore_at(&endpoint, REPOSITORY, &self.password_file).variable("AZURE_ACCOUNT_KEY", &key_text())
    }

    /// Stock restic on the very same repository.
    pub(crate) fn restic(&self) -> Restic {
        self.azurite.restic(RCLONE_PATH, &self.password_file)
    }

    /// Lets stock restic back `tree` up into the same repository: it must come to the same tree and add nothing, and find
    /// every byte in order.
    #[track_caller]
    pub(crate) fn assert_restic_agrees(&self, ours: &Backup) {
        let restic = self.restic();
        let theirs = restic.backup(self.scratch.path(), &["--force"], ["tree"]);
        assert_eq!(theirs.tree, ours.tree);
        assert_eq!((theirs.count("data_blobs"), theirs.count("tree_blobs")), (0, 0), "{}", theirs.summary);
        restic.assert_clean();
        assert_eq!(restic.ids("locks"), Vec::<String>::new());
    }

    /// The tree that stock restic writes for `tree` in a repository of its own. Files must be shorter than a chunk:
    /// each repository cuts in its own way.
    pub(crate) fn expected_tree(&self) -> String {
        let oracle = Scratch::new("oracle");
        Restic::quick(oracle.path()).backup(self.scratch.path(), &[], ["tree"]).tree
    }
}
