//! What the scopes of a restore leave to later stages.

use std::collections::BTreeMap;

use proto::name::RawName;
use proto::report::Payload;
use proto::restore::{FurtherName, LargeFile, LinkedFile, NamedNode, RestoreRange, RestoreWork, encode_list};

/// Entries of one task.
const ENTRIES_MAX: usize = 5_000;
/// Bytes of their nodes. A node has 67 bytes for each blob, which stands for about 1 MiB of content: so also some GiB
/// of content at most.
const NODE_BYTES_MAX: usize = 256 << 10;

/// What is left to later stages.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// Directories that get their metadata in the end.
    directories: BTreeMap<RawName, Vec<u8>>,
    large: BTreeMap<RawName, Large>,
    /// Files with several names, by inode and device number in the snapshot.
    linked: BTreeMap<(u64, u64), Linked>,
}

#[derive(Clone, Debug)]
struct Large {
    file: LargeFile,
    is_written: bool,
}

#[derive(Clone, Debug)]
struct Linked {
    first: RawName,
    /// None if the first name is restored already.
    node: Option<Vec<u8>>,
    others: Vec<FurtherName>,
}

impl Lists {
    pub(super) fn add_directories(&mut self, directories: Vec<NamedNode>) {
        for directory in directories {
            self.directories.entry(directory.path).or_insert(directory.node);
        }
    }

    pub(super) fn add_large(&mut self, file: LargeFile) {
        self.large.entry(file.path.clone()).or_insert(Large { is_written: !file.was_there, file });
    }

    /// Notes that a range of a large file was written to.
    pub(super) fn note_written(&mut self, path: &RawName) {
        if let Some(large) = self.large.get_mut(path) {
            large.is_written = true;
        }
    }

    pub(super) fn add_linked(&mut self, file: LinkedFile) {
        let LinkedFile { inode, device, names, node, modified } = file;
        let mut names = names.into_iter();
        let Some(first) = names.next() else { return };
        let is_restored = node.is_empty();
        let further = |existing: &RawName, path: RawName| FurtherName { existing: existing.clone(), path, modified };
        match self.linked.get_mut(&(inode, device)) {
            None => {
                let others = names.map(|name| further(&first, name)).collect();
                let node = (!is_restored).then_some(node);
                self.linked.insert((inode, device), Linked { first, node, others });
            }
            Some(known) if is_restored && known.node.is_some() => {
                // What is restored comes first; what was thought to be first is one more name.
                let old = std::mem::replace(&mut known.first, first.clone());
                known.node = None;
                known.others.push(further(&first, old));
                known.others.extend(names.map(|name| further(&first, name)));
                for other in &mut known.others {
                    other.existing = first.clone();
                }
            }
            Some(known) => {
                let existing = known.first.clone();
                let all = std::iter::once(first).chain(names).filter(|name| *name != existing);
                known.others.extend(all.map(|name| further(&existing, name)));
            }
        }
    }

    /// Tasks that write what the scopes left out.
    pub(super) fn content_work(&self) -> Vec<RestoreWork> {
        let mut work = Vec::new();
        for Large { file, .. } in self.large.values() {
            let blobs = file.content.len() / 32;
            for (number, (offset, from)) in file.ranges.iter().enumerate() {
                work.push(RestoreWork::Range(RestoreRange {
                    path: file.path.clone(),
                    offset: *offset,
                    content: file.content.clone(),
                    from: *from,
                    to: file.ranges.get(number + 1).map_or(blobs, |(_, next)| *next),
                    was_there: file.was_there,
                }));
            }
        }
        let files = self.linked.values().filter_map(|linked| {
            linked.node.as_ref().map(|node| NamedNode { path: linked.first.clone(), node: node.clone() })
        });
        let lists = chunks(files, |named| named.node.len());
        work.extend(lists.into_iter().map(|list| RestoreWork::Files(Payload::Inline(encode_list(&list)))));
        work
    }

    /// Tasks that make further names, and give large files their metadata.
    pub(super) fn link_work(&self) -> Vec<RestoreWork> {
        let links = self.linked.values().flat_map(|linked| linked.others.iter().cloned());
        let links = chunks(links, |link| link.path.0.len() + link.existing.0.len());
        let files =
            self.large.values().map(|large| NamedNode { path: large.file.path.clone(), node: large.file.node.clone() });
        let files = chunks(files, |named| named.node.len());
        let links = links.into_iter().map(|list| RestoreWork::Links(Payload::Inline(encode_list(&list))));
        let files = files.into_iter().map(|list| RestoreWork::Metadata(Payload::Inline(encode_list(&list))));
        links.chain(files).collect()
    }

    /// The task that gives directories their metadata: one, because those below come first.
    pub(super) fn directory_work(&self) -> Vec<RestoreWork> {
        if self.directories.is_empty() {
            return Vec::new();
        }
        let depth = |path: &RawName| path.0.iter().filter(|byte| **byte == b'/').count();
        let mut list: Vec<NamedNode> =
            self.directories.iter().map(|(path, node)| NamedNode { path: path.clone(), node: node.clone() }).collect();
        list.sort_by_key(|named| std::cmp::Reverse(depth(&named.path)));
        vec![RestoreWork::Metadata(Payload::Inline(encode_list(&list)))]
    }

    /// Large files that were written to, and those that were as wanted.
    pub(super) fn large_counts(&self) -> (u64, u64) {
        let written = self.large.values().filter(|large| large.is_written).count() as u64;
        (written, self.large.len() as u64 - written)
    }
}

fn chunks<T>(entries: impl Iterator<Item = T>, bytes_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let is_full = chunks.last().is_none_or(|chunk| chunk.len() >= ENTRIES_MAX || bytes >= NODE_BYTES_MAX);
        if is_full {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += bytes_of(&entry);
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(entry);
        }
    }
    chunks
}
