//! Directories that are wide, deep or empty, and hard links across them.

use std::path::{Path, PathBuf};

use super::{Builder, broken};
use crate::bytes::Bytes;

pub(super) fn build(builder: &mut Builder, wide_entries: u32, levels: u32) {
    let mut bytes = Bytes::part(builder.seed, 2);
    builder.folder("shapes/empty/empty/empty");
    for number in 0..wide_entries {
        let length = bytes.below(200) as usize;
        builder.file(format!("shapes/wide/{number:06}-{}", bytes.below(1 << 40)), bytes.text(length));
    }
    let mut path = PathBuf::from("shapes/deep");
    for level in 0..levels {
        path.push(format!("level-{level}"));
        builder.file(path.join("file"), bytes.text(100));
    }
    hard_links(builder, &mut bytes);
    siblings(builder, &mut bytes);
}

/// Within a directory, across directories, across the wide and the deep one, and of an empty file.
fn hard_links(builder: &Builder, bytes: &mut Bytes) {
    let link = |original: &Path, name: &str| {
        let path = builder.root.join(name);
        builder.folder(Path::new(name).parent().unwrap_or(Path::new("")));
        std::fs::hard_link(original, &path).unwrap_or_else(|error| broken(&path, "link", error));
    };
    let near = builder.file("links/near-1", bytes.text(2_000));
    link(&near, "links/near-2");
    link(&near, "links/near-3");
    let far = builder.file("links/a/far", bytes.vec(700_000));
    link(&far, "links/b/far");
    link(&far, "links/a/c/d/far");
    link(&far, "shapes/wide/000150-far");
    link(&far, "shapes/deep/level-0/level-1/far");
    let empty = builder.file("links/empty-1", "");
    link(&empty, "links/b/empty-2");
}

/// Many directories of a few files each: subtrees to be handed out.
fn siblings(builder: &Builder, bytes: &mut Bytes) {
    for outer in 0..12 {
        for inner in 0..5 {
            for file in 0..4 {
                let length = bytes.below(20_000) as usize;
                builder.file(format!("shapes/siblings/{outer:02}/{inner}/{file}.txt"), bytes.text(length));
            }
        }
    }
}
