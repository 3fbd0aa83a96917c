//! `ls`.

use clap::Args;
use proto::id::Id;
use repository::blob_index::BlobIndex;
use repository::format::node::{Kind, Node};
use repository::format::node_time::Zone;
use repository::format::quote;
use repository::repository::Repository;
use serde_json::json;

use super::Ended;
use super::snapshots::{local_time, snapshot_json};
use crate::exit::{CommandError, ExitStatus};
use crate::output::printable;
use crate::select::{self, OpenTree, SnapshotFilter};
use crate::session::Session;

/// List what a snapshot holds.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore ls latest\n  \
    longshore ls --long 1a2b3c4d:/srv/www\n  \
    longshore ls --host web-1 --json latest")]
pub(crate) struct Arguments {
    /// The snapshot: `latest`, or the beginning of an id; with :PATH what is below that directory.
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,

    /// With mode, owner, size and time.
    #[arg(long, short)]
    long: bool,

    #[command(flatten)]
    filter: SnapshotFilter,
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    let repository = session.open().await?;
    let (text, path) = select::parse(&arguments.snapshot);
    let named = select::one(&repository, text, &arguments.filter, &session.output).await?;
    let index = session.index(&repository).await?;
    let top = select::directory(&repository, &index, &named, &path).await?;
    let output = &session.output;
    if output.is_json() {
        let mut object = snapshot_json(&named);
        object.pop(); // the closing brace
        object.extend_from_slice(b",\"message_type\":\"snapshot\",\"struct_type\":\"snapshot\"}");
        output.json_line(&object)?;
    } else {
        let time = local_time(&named.snapshot.time, &session.configuration.zone);
        let paths = named.snapshot.paths.join(" ");
        output.note(format_args!("snapshot {} of {} at {time}", named.id.short(), printable(paths.as_bytes())));
    }
    let zone = &session.configuration.zone;
    walk(&repository, &index, top, |path, node| {
        if output.is_json() {
            output.json_line(node_json(path, node).to_string().as_bytes())?;
        } else if arguments.long {
            output.raw_line(&long_line(path, node, zone))?;
        } else {
            output.raw_line(path)?;
        }
        Ok(())
    })
    .await?;
    Ok(ExitStatus::Done)
}

/// Calls `visit` with every node at and below a tree, depth first in the order of names. One node of each directory on
/// the way is held.
async fn walk(
    repository: &Repository,
    index: &BlobIndex,
    top: Id,
    mut visit: impl FnMut(&[u8], &Node) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut open = vec![(Vec::new(), OpenTree::new(repository, index, top).await?)];
    while let Some((folder, tree)) = open.last_mut() {
        let Some(node) = tree.next()? else {
            open.pop();
            continue;
        };
        let path = [folder.as_slice(), b"/", &node.name].concat();
        visit(&path, &node)?;
        if let Some(below) = node.subtree.filter(|_| node.kind == Kind::Dir) {
            open.push((path, OpenTree::new(repository, index, below).await?));
        }
    }
    Ok(())
}

fn node_json(path: &[u8], node: &Node) -> serde_json::Value {
    let text = quote::lossy;
    let mut object = json!({
        "message_type": "node",
        "struct_type": "node",
        "name": text(&node.name),
        "type": node.kind.as_str(),
        "path": text(path),
        "uid": node.uid,
        "gid": node.gid,
        "mode": node.mode,
        "permissions": mode_text(node.mode),
        "mtime": node.mtime.to_string(),
        "atime": node.atime.to_string(),
        "ctime": node.ctime.to_string(),
        "inode": node.inode,
    });
    if node.kind == Kind::File {
        object["size"] = node.size.into();
    }
    if node.kind == Kind::Symlink {
        object["linktarget"] = text(&node.link_target).into();
    }
    object
}

fn long_line(path: &[u8], node: &Node, zone: &Zone) -> Vec<u8> {
    let time = local_time(&node.mtime, zone);
    let mode = mode_text(node.mode);
    let mut line = format!("{mode} {:5} {:5} {:12} {time} ", node.uid, node.gid, node.size).into_bytes();
    line.extend_from_slice(path);
    if node.kind == Kind::Symlink {
        line.extend_from_slice(b" -> ");
        line.extend_from_slice(&node.link_target);
    }
    line
}

/// A mode as Go writes it, which restic shows: a letter for each special bit, or a dash, then the permissions.
fn mode_text(mode: u32) -> String {
    const SPECIAL: &[u8] = b"dalTLDpSugct?";
    const PERMISSIONS: &[u8] = b"rwxrwxrwx";
    let letter = |(letters, highest): (&[u8], u32)| -> String {
        let is_set = |at: &usize| mode & 1 << (highest - *at as u32) != 0;
        (0..letters.len()).filter(is_set).map(|at| char::from(letters[at])).collect()
    };
    let mut text = letter((SPECIAL, 31));
    if text.is_empty() {
        text.push('-');
    }
    for (at, letter) in PERMISSIONS.iter().enumerate() {
        text.push(if mode & 1 << (8 - at) != 0 { char::from(*letter) } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_is_no_text_shows_in_json() {
        let node = Node { name: b"\xe2\x82 cut".to_vec(), ..Node::default() };
        assert_eq!(node_json(b"/\xe2\x82 cut", &node)["path"], "/\u{fffd}\u{fffd} cut");
    }

    #[test]
    fn modes_look_as_in_restic() {
        for (mode, expected) in [
            (2_147_484_141, "drwxr-xr-x"),
            (420, "-rw-r--r--"),
            (134_218_239, "Lrwxrwxrwx"),
            (1 << 26 | 1 << 21 | 0o600, "Dcrw-------"),
            (1 << 31 | 1 << 20 | 0o777, "dtrwxrwxrwx"),
            (1 << 23 | 0o755, "urwxr-xr-x"),
        ] {
            assert_eq!(mode_text(mode), expected);
        }
    }
}
