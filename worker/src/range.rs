//! Stores one byte range of a large file (DESIGN 3.4).

use std::sync::Arc;

use fleet::objects::ObjectsExt;
use proto::id::Id;
use proto::report::{NotMyView, RangeResult};
use proto::task::{FileIdentity, RangeWork, View};
use repository::chunker::{Chunk, FileRange, RangeCutter, RangeEnd, SeamLimits};
use repository::format::pack::BlobType;
use sources::source::{FileKind, Metadata, OpenFile, SourceError};

use crate::dedupe::{Ledger, NewBlob};
use crate::error::WorkerError;
use crate::job::{JobContext, new_blob};
use crate::meter::Meter;
use crate::pipeline::{encode_chunks, identity_of};
use crate::read::lengthen;
use crate::walk::{check_near, check_root};

/// Bytes that are read in one go.
const READ_BYTES: usize = 8 << 20;

/// Reads one range, and cuts it.
struct RangeReader {
    file: Box<dyn OpenFile>,
    cutter: RangeCutter,
    /// Bytes from `kept_from` on.
    kept: Vec<u8>,
    kept_from: u64,
    ended: bool,
}

impl RangeReader {
    /// Reads on, and gives the chunks that are complete, with where they end; `None` when the range is done.
    fn next_chunks(&mut self) -> Result<Option<Vec<(Chunk, NewBlob)>>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        let wanted = usize::try_from(self.cutter.bytes_wanted_max()).unwrap_or(usize::MAX).min(READ_BYTES);
        let offset = self.cutter.read_from();
        self.drop_before(self.cutter.keep_from().min(offset));
        let held = self.kept.len();
        lengthen(&mut self.kept, held + wanted);
        let read = self.file.read_at(offset, &mut self.kept[held..])?;
        self.kept.truncate(held + read);
        let mut chunks = Vec::new();
        self.cutter.feed(&self.kept[held..], &mut chunks);
        // A file that was cut off meanwhile ends before the cutter has its end: the cuts will not tile.
        self.ended = self.cutter.ended().is_some() || read < wanted;
        Ok(Some(chunks.into_iter().map(|chunk| (chunk, new_blob(self.slice(chunk)))).collect()))
    }

    fn slice(&self, chunk: Chunk) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset - self.kept_from).unwrap_or(usize::MAX);
        &self.kept[at(chunk.start)..at(chunk.end)]
    }

    fn drop_before(&mut self, offset: u64) {
        let gone = usize::try_from(offset.saturating_sub(self.kept_from)).unwrap_or(usize::MAX).min(self.kept.len());
        self.kept.drain(..gone);
        self.kept_from += gone as u64;
    }
}

/// What became of a range task.
pub(crate) struct RangeDone {
    pub(crate) result: RangeResult,
    pub(crate) ledger: Ledger,
}

/// Stores one range.
///
/// # Errors
/// `NotMyView` if there is no such file here.
pub(crate) async fn store_range(context: &Arc<JobContext>, work: &RangeWork) -> Result<RangeDone, WorkerError> {
    check_root(context, &work.path)?;
    check_near(context, &work.path).await?;
    let (mut reader, before) = open(context, work).await?;
    let mut ledger = Ledger::default();
    let mut cuts = Vec::new();
    let mut first_cut = None;
    let mut reading = read_on(context, reader).await?;
    loop {
        let read;
        (reader, read) = reading;
        // Whole files tell what of them cannot be read; a range cannot.
        let Some(new) = read.map_err(|error| not_my_view(work, &error))? else { break };
        let mut blobs = Vec::with_capacity(new.len());
        for (chunk, blob) in new {
            first_cut.get_or_insert(chunk.start);
            cuts.push((chunk.end, blob.id));
            ledger.counts.bytes_read += blob.plain.len() as u64;
            Meter::add(&context.meter.bytes_done, blob.plain.len() as u64);
            blobs.push(blob);
        }
        // The next piece is read while this one is stored.
        let store = context.store(BlobType::Data, blobs, work.borrow);
        let (stored, next) = futures::try_join!(store, read_on(context, reader))?;
        ledger.merge(stored);
        reading = next;
    }
    let result = finish(context, work, reader, before, first_cut, &cuts).await?;
    ledger.counts.bytes_processed = 0; // counted with the file's node
    Ok(RangeDone { result, ledger })
}

async fn open(context: &Arc<JobContext>, work: &RangeWork) -> Result<(RangeReader, FileIdentity), WorkerError> {
    let (source, path, identity) = (context.source.clone(), work.path.0.clone(), work.identity);
    let opened = context.cpu.read(move || {
        let seen = source.metadata(&path)?;
        let file = source.open(&path, &seen)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    });
    let (file, metadata): (Box<dyn OpenFile>, Metadata) = match opened.await? {
        Ok(opened) => opened,
        Err(error) => return Err(not_my_view(work, &error)),
    };
    debug_assert_eq!(metadata.kind, FileKind::File);
    let before = identity_of(&metadata);
    if before.inode != identity.inode {
        return Err(WorkerError::NotMyView(Box::new(NotMyView {
            path: work.path.clone(),
            target_root: false,
            seen: Some(View { inode: before.inode, file_type: metadata.st_mode & 0o170_000 }),
            mount: false,
            outside: false,
            targets_seen: Vec::new(),
            message: "another file has this name here".to_owned(),
        })));
    }
    // All ranges are cut as those of the file that the splitter saw; one that changed is noticed by its identity.
    let range = FileRange { start: work.start, end: work.end, size: identity.size, exact: work.exact };
    let cutter = RangeCutter::new(context.chunker.clone(), range, SeamLimits::default())
        .map_err(|error| WorkerError::Malformed { what: error.to_string() })?;
    let kept_from = cutter.read_from();
    Ok((RangeReader { file, cutter, kept: Vec::new(), kept_from, ended: false }, before))
}

async fn read_on(
    context: &JobContext,
    mut reader: RangeReader,
) -> Result<(RangeReader, Result<Option<Vec<(Chunk, NewBlob)>>, SourceError>), WorkerError> {
    let read = context.cpu.read(move || {
        let read = reader.next_chunks();
        (reader, read)
    });
    Ok(read.await?)
}

async fn finish(
    context: &JobContext,
    work: &RangeWork,
    reader: RangeReader,
    before: FileIdentity,
    first_cut: Option<u64>,
    cuts: &[(u64, Id)],
) -> Result<RangeResult, WorkerError> {
    let RangeReader { file, cutter, .. } = reader;
    let after = context.cpu.read(move || file.metadata()).await?.map_err(|error| not_my_view(work, &error))?;
    let (ended, first) = match cutter.finish() {
        Some(cuts) => (Some(cuts.ended), Some(cuts.first_cut())),
        None => (None, first_cut),
    };
    let last = cuts.last().map_or(work.start, |(end, _)| *end);
    Ok(RangeResult {
        first_cut: first.unwrap_or(work.start),
        chunks: context.objects.payload(&context.job, encode_chunks(cuts)).await?,
        end: ended.map_or(last, RangeEnd::cut),
        proven: matches!(ended, Some(RangeEnd::Proven { .. })),
        identity_after: identity_of(&after),
        identity_before: before,
    })
}

fn not_my_view(work: &RangeWork, error: &SourceError) -> WorkerError {
    WorkerError::NotMyView(Box::new(NotMyView {
        path: work.path.clone(),
        target_root: false,
        seen: None,
        mount: false,
        outside: false,
        targets_seen: Vec::new(),
        message: format!("{error}: {}", error.source),
    }))
}
