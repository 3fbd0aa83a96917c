//! `snapshots`.

use std::collections::BTreeMap;

use clap::Args;
use repository::format::node_time::{NodeTime, Zone};

use super::Ended;
use crate::exit::ExitStatus;
use crate::output::{bytes_text, counted, printable};
use crate::select::{self, Named, SnapshotFilter};
use crate::session::Session;
use crate::table::Table;

/// List the snapshots of the repository, the newest last.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:\n  \
    longshore snapshots\n  \
    longshore snapshots --host web-1 --tag nightly --latest 3\n  \
    longshore snapshots --json | jq -r '.[].id'")]
pub(crate) struct Arguments {
    /// Only these: `latest`, or the beginning of an id.
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,

    #[command(flatten)]
    filter: SnapshotFilter,

    /// Only the newest N of each host and set of paths.
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

pub(crate) async fn run(arguments: &Arguments, session: &Session) -> Ended {
    let repository = session.open().await?;
    let mut snapshots = Vec::new();
    for text in &arguments.snapshots {
        snapshots.push(select::one(&repository, text, &arguments.filter, &session.output).await?);
    }
    if arguments.snapshots.is_empty() {
        snapshots = select::all(&repository, &arguments.filter, &session.output).await?;
    }
    if let Some(count) = arguments.latest {
        snapshots = newest_of_each(snapshots, count);
    }
    if session.output.is_json() {
        session.output.json_line(&json(&snapshots))?;
    } else {
        for line in table(&snapshots, &session.configuration.zone).lines() {
            session.output.line(line)?;
        }
        session.output.line(counted(snapshots.len() as u64, "snapshot"))?;
    }
    Ok(ExitStatus::Done)
}

/// The newest `count` of each host and set of paths, in the order they came in.
fn newest_of_each(snapshots: Vec<Named>, count: usize) -> Vec<Named> {
    let mut seen: BTreeMap<(String, Vec<String>), usize> = BTreeMap::new();
    let mut kept: Vec<Named> = Vec::new();
    for named in snapshots.into_iter().rev() {
        let mut paths = named.snapshot.paths.clone();
        paths.sort();
        let number = seen.entry((named.snapshot.hostname.clone(), paths)).or_default();
        *number += 1;
        if *number <= count {
            kept.push(named);
        }
    }
    kept.reverse();
    kept
}

/// One array; each snapshot as it is stored, with its id.
fn json(snapshots: &[Named]) -> Vec<u8> {
    let objects: Vec<Vec<u8>> = snapshots.iter().map(snapshot_json).collect();
    [b"[", objects.join(&b","[..]).as_slice(), b"]"].concat()
}

/// A snapshot as it is stored, with `id` and `short_id` behind.
pub(crate) fn snapshot_json(named: &Named) -> Vec<u8> {
    let mut object = named.snapshot.encode();
    object.pop(); // the closing brace
    object.extend_from_slice(format!(",\"id\":\"{}\",\"short_id\":\"{}\"}}", named.id, named.id.short()).as_bytes());
    object
}

/// A time in the zone of whoever reads it, to the second.
pub(crate) fn local_time(time: &NodeTime, zone: &Zone) -> String {
    let text = NodeTime::from_unix(time.instant(), zone).to_string();
    text.chars().take(19).map(|character| if character == 'T' { ' ' } else { character }).collect()
}

fn table(snapshots: &[Named], zone: &Zone) -> String {
    let mut table = Table::new(&["ID", "Time", "Host", "Tags", "Paths", "Size"]);
    for Named { id, snapshot } in snapshots {
        let mut paths: Vec<String> = snapshot.paths.iter().map(|path| printable(path.as_bytes())).collect();
        paths.sort();
        table.row(vec![
            vec![id.short()],
            vec![local_time(&snapshot.time, zone)],
            vec![printable(snapshot.hostname.as_bytes())],
            vec![printable(snapshot.tags.join(",").as_bytes())],
            paths,
            vec![
                snapshot.summary.as_ref().map(|summary| bytes_text(summary.total_bytes_processed)).unwrap_or_default(),
            ],
        ]);
    }
    table.render()
}
