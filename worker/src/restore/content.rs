//! One window: files are looked at and compared, blobs fetched by pack, opened, written.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use proto::id::Id;
use repository::format::pack::{BlobType, PackEntry};
use repository::repository::FileKind;
use repository::seal::open_blob;

use super::file::{FileJob, Piece};
use super::others::make_others;
use super::plan::{Request, plan};
use super::tools::{Full, Halt, Tools, chain};
use super::window::Window;

/// Reads of packs that are under way at once in one window.
const REQUESTS_AT_ONCE: usize = 8;
/// Files that are looked at in one go.
const FILES_AT_ONCE: usize = 128;
/// And not more content than this is compared in one go, unless one file has more.
const COMPARED_BYTES: u64 = 16 << 20;
/// Groups of files that are looked at at once.
const GROUPS_AT_ONCE: usize = 8;

/// What a blob is wanted for: a file, and where in it.
type Purpose = (Arc<FileJob>, u64);

/// Restores the entries of a window; what comes in order after them is left in it.
pub(super) async fn restore_window(tools: Arc<Tools>, mut window: Window) -> Result<Window, Halt> {
    let parts = std::mem::take(&mut window.parts);
    let (others, empty, large) =
        (std::mem::take(&mut window.others), std::mem::take(&mut window.empty), std::mem::take(&mut window.large));
    let contents = async {
        let wanted = look_and_compare(&tools, parts).await?;
        write_all(&tools, plan(wanted)).await
    };
    futures::try_join!(contents, make_others(&tools, others, empty, large))?;
    Ok(window)
}

/// Looks at all files; returns the blobs that must be written.
async fn look_and_compare(
    tools: &Arc<Tools>,
    parts: Vec<(Arc<FileJob>, Vec<Piece>)>,
) -> Result<Vec<(Id, PackEntry, Purpose)>, Halt> {
    let groups = stream::iter(group(parts)).map(|group| {
        let at_work = tools.clone();
        tools.site.cpu.compute(move || -> Result<Vec<_>, Full> {
            let mut wanted = Vec::new();
            for (file, pieces) in group {
                let needed = file.begin(&at_work, pieces)?;
                wanted.extend(needed.into_iter().map(|piece| (piece.pack, piece.entry, (file.clone(), piece.offset))));
            }
            Ok(wanted)
        })
    });
    let mut groups = groups.buffered(GROUPS_AT_ONCE);
    let mut wanted = Vec::new();
    while let Some(group) = groups.try_next().await? {
        wanted.append(&mut group?);
    }
    Ok(wanted)
}

fn group(parts: Vec<(Arc<FileJob>, Vec<Piece>)>) -> Vec<Vec<(Arc<FileJob>, Vec<Piece>)>> {
    let mut groups: Vec<Vec<_>> = Vec::new();
    let mut bytes = u64::MAX;
    for part in parts {
        let is_full = groups.last().is_none_or(|group| group.len() >= FILES_AT_ONCE);
        if is_full || bytes >= COMPARED_BYTES {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += part.1.iter().map(|piece| u64::from(piece.entry.plain_length())).sum::<u64>();
        if let Some(group) = groups.last_mut() {
            group.push(part);
        }
    }
    groups
}

async fn write_all(tools: &Arc<Tools>, requests: Vec<Request<Purpose>>) -> Result<(), Halt> {
    let requests = stream::iter(requests.into_iter().map(Ok));
    requests.try_for_each_concurrent(REQUESTS_AT_ONCE, |request| fetch_and_write(tools, request)).await
}

async fn fetch_and_write(tools: &Arc<Tools>, request: Request<Purpose>) -> Result<(), Halt> {
    let storage = tools.site.repository.storage();
    let name = FileKind::Pack.name(&request.pack);
    let lost = match storage.get(&name, Some(request.range.clone())).await {
        Ok(bytes) => {
            count(tools, request.bytes_needed(), bytes.len() as u64);
            let at_work = tools.clone();
            tools.site.cpu.compute(move || open_and_write(&at_work, request, &bytes)).await??
        }
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => {
            tracing::warn!(error = chain(&error), "a pack cannot be read; other copies of its blobs are looked for");
            request.blobs
        }
    };
    for (entry, purposes) in lost {
        find_elsewhere(tools, &entry, purposes).await?;
    }
    Ok(())
}

fn count(tools: &Tools, needed: u64, fetched: u64) {
    crate::meter::Meter::add(&tools.site.meter.bytes_read, fetched);
    let counts = &mut tools.tally().counts;
    counts.bytes_needed += needed;
    counts.bytes_fetched += fetched;
    counts.requests += 1;
}

/// Opens the blobs of a request and writes them; returns those that cannot be opened.
fn open_and_write(
    tools: &Tools,
    request: Request<Purpose>,
    bytes: &Bytes,
) -> Result<Vec<(PackEntry, Vec<Purpose>)>, Full> {
    let mut lost = Vec::new();
    for (entry, purposes) in request.blobs {
        let from = (entry.range().start - request.range.start) as usize;
        let sealed = &bytes[from..from + entry.length as usize];
        match open_blob(tools.site.repository.master_key(), &entry, sealed) {
            Ok(plain) => write_to(tools, &purposes, &plain)?,
            Err(error) => {
                tracing::warn!(pack = %request.pack, error = chain(&error), "a blob is damaged");
                lost.push((entry, purposes));
            }
        }
    }
    Ok(lost)
}

fn write_to(tools: &Tools, purposes: &[Purpose], plain: &[u8]) -> Result<(), Full> {
    purposes.iter().try_for_each(|(file, offset)| file.write(tools, *offset, plain))
}

/// Another copy of a blob, or the same one once more.
async fn find_elsewhere(tools: &Arc<Tools>, entry: &PackEntry, purposes: Vec<Purpose>) -> Result<(), Halt> {
    let site = &tools.site;
    let found = site.repository.read_blob(&site.index, BlobType::Data, &entry.id).await;
    let at_work = tools.clone();
    let length = u64::from(entry.length);
    match found {
        Ok(plain) => {
            count(tools, length, length);
            site.cpu.compute(move || write_to(&at_work, &purposes, &plain)).await??;
        }
        Err(error) if !error.is_damage() => return Err(error.into()),
        Err(error) => {
            let message = chain(&error);
            let lose = move || purposes.iter().try_for_each(|(file, _)| file.lose(&at_work, &message));
            site.cpu.read(lose).await??;
        }
    }
    Ok(())
}
