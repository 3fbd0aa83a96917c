//! How much there is to back up, found by walking ahead of the job: only for a person who looks on.

use proto::job::TargetNode;
use sources::files::exclude::Excludes;
use sources::paths;
use sources::source::{FileKind, Metadata, Source};
use tokio::sync::watch;

/// Entries whose metadata is asked for in one go.
const ENTRIES_AT_ONCE: usize = 1000;

/// Adds up the sizes of all files at and below `targets`, and says the sum at the end. Ends early when nobody listens.
pub(crate) fn run(
    source: &dyn Source,
    targets: &[TargetNode],
    excludes: &Excludes,
    total: &watch::Sender<Option<u64>>,
) {
    let mut found = Vec::new();
    TargetNode::targets(targets, &mut found);
    let mut bytes = 0;
    for (path, place) in found {
        let Ok(metadata) = source.metadata(&place.0) else { continue };
        bytes += size_of(&metadata);
        if metadata.kind != FileKind::Directory {
            continue;
        }
        let mut waiting = vec![(path.0.clone(), place.0.clone(), metadata.device)];
        while let Some((path, place, device)) = waiting.pop() {
            if total.is_closed() {
                return;
            }
            bytes += folder(source, excludes, (&path, &place, device), &mut waiting);
        }
    }
    total.send_replace(Some(bytes));
}

/// The files of one directory; its directories are put off. What cannot be read counts nothing.
fn folder(
    source: &dyn Source,
    excludes: &Excludes,
    (path, place, device): (&[u8], &[u8], u64),
    waiting: &mut Vec<(Vec<u8>, Vec<u8>, u64)>,
) -> u64 {
    let Ok(names) = source.list(place) else { return 0 };
    let tags = excludes.inspect_directory(source, place);
    let is_kept = |name: &&[u8]| !tags.rejects(name) && !excludes.rejects_path(&paths::child(path, name));
    let names: Vec<&[u8]> = names.iter().filter(is_kept).collect();
    let mut bytes = 0;
    for some in names.chunks(ENTRIES_AT_ONCE) {
        let Ok(answers) = source.metadata_of(place, some) else { return bytes };
        for (name, metadata) in some.iter().zip(answers) {
            let Ok(metadata) = metadata else { continue };
            let path = paths::child(path, name);
            if excludes.rejects_entry(&path, &metadata, device) {
                continue;
            }
            bytes += size_of(&metadata);
            if metadata.kind == FileKind::Directory {
                waiting.push((path, paths::child(place, name), metadata.device));
            }
        }
    }
    bytes
}

fn size_of(metadata: &Metadata) -> u64 {
    if metadata.kind == FileKind::File { metadata.size } else { 0 }
}
