//! The data set of a run, and how it changes.

use std::sync::Arc;

use proto::handles::RandomExt;
use proto::job::{BackupRequest, Budget, ParentChoice, TargetNode, TargetPlace};
use sources::generated::{Change, Content, GeneratedSource, GeneratedTree, TreeSettings, Trouble};
use sources::paths;
use sources::source::{FileKind, Source};

use crate::dice::Dice;
use crate::oracle::PLAIN_MARK;
use crate::plan::LONG_RANGE_BYTES;

/// Where every data set lies.
pub const ROOT: &str = "/data";

/// A data set.
pub struct Data {
    /// What is there.
    pub tree: Arc<GeneratedTree>,
    /// Files that may be read in ranges.
    pub large: Vec<String>,
    /// Places where a file system is mounted, below the root.
    pub mounts: Vec<String>,
}

impl Data {
    /// A data set that follows from the dice.
    pub fn roll(dice: &Dice) -> Self {
        let entries = *dice.pick(&[3, 12, 30, 60]);
        let settings = TreeSettings {
            entries,
            depth_max: 4,
            file_bytes_max: *dice.pick(&[100, 3_000, 30_000]),
            special_every: *dice.pick(&[0, 4, 9]),
        };
        let tree = Arc::new(GeneratedTree::from_seed(dice.below(u64::MAX), settings));
        let mut data = Self { tree, large: Vec::new(), mounts: Vec::new() };
        data.tree.file("/data/marked", Content::literal(PLAIN_MARK).then(Content::zeros(dice.below(100))));
        data.add_copies(dice);
        if dice.chance(500) {
            data.add_mounts(dice);
        }
        if dice.chance(600) {
            data.add_large(dice);
        }
        if dice.chance(200) {
            let files = data.files();
            data.tree.apply(Change::Trouble(dice.pick(&files).clone(), Some(Trouble::Denied)));
        }
        data
    }

    /// The same files in several directories: blobs that several workers want to store at once.
    fn add_copies(&self, dice: &Dice) {
        let files = dice.between(1, 6);
        let seed = dice.below(u64::MAX / 2);
        for copy in 0..dice.between(1, 4) {
            self.tree.directory(&format!("/data/copy{copy}/deep"));
            for file in 0..files {
                let content = Content::seeded(seed + file, 50 + file * 100);
                self.tree.file(&format!("/data/copy{copy}/deep/{file}"), content);
            }
        }
    }

    /// Two file systems: their inode numbers are the same.
    fn add_mounts(&mut self, dice: &Dice) {
        for (number, place) in ["/data/mount1", "/data/mount2"].into_iter().enumerate() {
            self.tree.directory(place);
            self.tree.mount(place, 70 + number as u64);
            for file in 0..dice.between(1, 5) {
                let path = format!("{place}/file{file}");
                self.tree.file(&path, Content::seeded(dice.below(u64::MAX), dice.below(300)));
                if dice.chance(300) {
                    self.tree.hard_link(&path, &format!("{place}/link{file}"));
                }
            }
            self.mounts.push(place.to_owned());
        }
    }

    fn add_large(&mut self, dice: &Dice) {
        for number in 0..dice.between(1, 2) {
            let path = format!("/data/large{number}");
            self.tree.file(&path, large_content(dice));
            self.large.push(path);
        }
    }

    /// A file whose ranges follow chains of cuts that do not meet before it is given up: zeros are cut at fixed
    /// distances, counted from wherever a chain begins.
    pub fn add_long_zeros(&self, dice: &Dice) {
        let start = Content::seeded(dice.below(u64::MAX), dice.between(1, 2 << 20));
        let zeros = Content::zeros(LONG_RANGE_BYTES + (72 << 20) + dice.below(4 << 20));
        let end = Content::seeded(dice.below(u64::MAX), dice.below(2 << 20));
        self.tree.file("/data/zeros", start.then(zeros).then(end));
    }

    /// What a host sees of it that has everything.
    pub fn source(&self) -> GeneratedSource {
        GeneratedSource::new(self.tree.clone())
    }

    /// Every regular file, in order.
    pub fn files(&self) -> Vec<String> {
        let source = self.source();
        let mut files = Vec::new();
        let mut open = vec![ROOT.as_bytes().to_vec()];
        while let Some(path) = open.pop() {
            let Ok(names) = source.list(&path) else { continue };
            for name in names.iter() {
                let path = paths::child(&path, name);
                match source.metadata(&path).map(|metadata| metadata.kind) {
                    Ok(FileKind::Directory) => open.push(path),
                    Ok(FileKind::File) => files.extend(String::from_utf8(path)),
                    _ => {}
                }
            }
        }
        files.sort_unstable();
        files
    }

    /// A change that users make.
    pub fn roll_change(&self, dice: &Dice) -> Change {
        let files = self.files();
        let path = if !self.large.is_empty() && dice.chance(400) { dice.pick(&self.large) } else { dice.pick(&files) };
        let is_large = self.large.contains(path);
        let content =
            || if is_large { large_content(dice) } else { Content::seeded(dice.below(99), dice.below(3_000)) };
        match dice.below(10) {
            0..4 => Change::Rewrite(path.clone(), content()),
            4..7 => Change::Replace(path.clone(), content()),
            7 if !is_large => Change::Remove(path.clone()),
            _ => Change::Create(format!("/data/new{}", dice.below(u64::MAX)), content()),
        }
    }
}

/// 0.6 to 4 MiB, part of it zeros or periodic.
fn large_content(dice: &Dice) -> Content {
    let bytes = dice.between(600 << 10, 4 << 20);
    let content = Content::seeded(dice.below(u64::MAX), bytes);
    match dice.below(4) {
        0 => content.then(Content::zeros(dice.below(2 << 20))),
        1 => Content::periodic(b"again and ", dice.below(1 << 20)).then(content),
        _ => content,
    }
}

/// A budget without bounds: one task does everything.
pub fn boundless() -> Budget {
    Budget {
        changed_entries: u64::MAX,
        entries: u64::MAX,
        bytes: u64::MAX,
        range_bytes: 1 << 40,
        range_threshold_bytes: 1 << 40,
        soft_deadline_seconds: 3600,
    }
}

/// A backup of the data set.
pub fn request(hostname: &str, budget: Budget, pack_size: u64) -> BackupRequest {
    let place = TargetPlace::Target { path: ROOT.as_bytes().into(), explicit: true };
    BackupRequest {
        targets: vec![TargetNode { name: b"data"[..].into(), source: ROOT.as_bytes().into(), place }],
        paths: vec![ROOT.as_bytes().into()],
        hostname: hostname.to_owned(),
        username: "root".to_owned(),
        uid: 0,
        gid: 0,
        tags: Vec::new(),
        time: None,
        zone: "UTC".to_owned(),
        source_options: serde_json::Value::Null,
        excludes: Vec::new(),
        parent: ParentChoice::Newest,
        allow_empty: false,
        budget,
        compression: "auto".to_owned(),
        with_atime: false,
        ignore_ctime: false,
        ignore_inode: false,
        pack_size,
        missing_targets: Vec::new(),
    }
}
