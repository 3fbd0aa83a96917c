//! Files that are read piece by piece, or left to others as byte ranges.

use fleet::objects::ObjectsExt;
use proto::id::Id;
use proto::report::{Item, OpenFile, Payload};
use proto::task::FileIdentity;
use repository::format::pack::BlobType;
use sources::source::{Metadata, SourceError};

use super::{BatchDone, Done, Task};
use crate::error::WorkerError;
use crate::read::FileReader;
use crate::walk::Entry;

/// A rest that is shorter than this is read to its end even when the task shall stop.
const REST_LEFT_OPEN_BYTES: u64 = 128 << 20;

impl Task {
    /// Stores a long file, or leaves it or its rest to others.
    pub(super) async fn store_long(&self, entry: Box<Entry>, done: &mut BatchDone) -> Result<(), WorkerError> {
        let (source, chunker) = (self.context.source.clone(), self.context.chunker.clone());
        let (entry, opened) = self
            .context
            .cpu
            .read(move || {
                let opened = FileReader::open(&*source, &chunker, &entry);
                (entry, opened)
            })
            .await?;
        let reader = match opened {
            Ok(reader) => reader,
            Err(error) => {
                self.not_read(*entry, error, done);
                return Ok(());
            }
        };
        let size = reader.metadata.size;
        if size > self.work.budget.range_threshold_bytes {
            let metadata = reader.metadata.clone();
            return self.leave_open(&entry, &metadata, Vec::new(), 0, done).await;
        }
        match self.read_long(&entry, reader, done).await? {
            Ok(()) => {}
            Err(error) => self.not_read(*entry, error, done),
        }
        Ok(())
    }

    async fn read_long(
        &self,
        entry: &Entry,
        mut reader: FileReader,
        done: &mut BatchDone,
    ) -> Result<Result<(), SourceError>, WorkerError> {
        let mut chunks: Vec<(u64, Id)> = Vec::new();
        let may_split = self.work.budget.range_threshold_bytes < u64::MAX;
        let mut reading = self.next_chunks(reader).await?;
        loop {
            let read;
            (reader, read) = reading;
            let new = match read {
                Err(error) => return Ok(Err(error)),
                Ok(None) => break,
                Ok(Some(new)) => new,
            };
            let mut end = chunks.last().map_or(0, |(end, _)| *end);
            for chunk in &new {
                end += chunk.plain.len() as u64;
                chunks.push((end, chunk.id));
            }
            let rest = reader.metadata.size.saturating_sub(reader.cut_at());
            if may_split && rest > REST_LEFT_OPEN_BYTES && self.stop.is_due() {
                let stored = self.context.store(BlobType::Data, new, self.work.borrow).await?;
                done.ledger.merge(stored);
                let (metadata, cut_at) = (reader.metadata.clone(), reader.cut_at());
                self.leave_open(entry, &metadata, chunks, cut_at, done).await?;
                return Ok(Ok(()));
            }
            // The next piece is read while this one is stored.
            let store = self.context.store(BlobType::Data, new, self.work.borrow);
            let (stored, next) = futures::try_join!(store, self.next_chunks(reader))?;
            done.ledger.merge(stored);
            reading = next;
        }
        let content = chunks.into_iter().map(|(_, id)| id).collect();
        self.finish_file(entry, &reader.metadata, content, reader.offset, done);
        Ok(Ok(()))
    }

    async fn next_chunks(
        &self,
        mut reader: FileReader,
    ) -> Result<(FileReader, Result<Option<Vec<crate::dedupe::NewBlob>>, SourceError>), WorkerError> {
        let read = self.context.cpu.read(move || {
            let read = reader.next_chunks();
            (reader, read)
        });
        Ok(read.await?)
    }

    /// Leaves the file from `done_to` on to others, as byte ranges.
    async fn leave_open(
        &self,
        entry: &Entry,
        metadata: &Metadata,
        chunks: Vec<(u64, Id)>,
        done_to: u64,
        done: &mut BatchDone,
    ) -> Result<(), WorkerError> {
        let mut node = Vec::new();
        self.node(entry, metadata).encode(&mut node);
        done.ledger.counts.bytes_read += done_to;
        let chunks: Payload = self.context.objects.payload(&self.context.job, encode_chunks(&chunks)).await?;
        done.steps.push(Done::Open(Item::File(OpenFile {
            name: entry.name.clone().into(),
            path: entry.source.clone().into(),
            node,
            identity: identity_of(metadata),
            done: chunks,
            done_to,
            is_in_parent: entry.parent.is_some(),
        })));
        Ok(())
    }
}

/// How a file looks, for other ranges to compare.
pub(crate) fn identity_of(metadata: &Metadata) -> FileIdentity {
    FileIdentity {
        inode: metadata.inode,
        size: metadata.size,
        modified: (metadata.modified.seconds, metadata.modified.nanos),
        changed: (metadata.changed.seconds, metadata.changed.nanos),
    }
}

/// For each chunk: where it ends (u64, little endian) and its id.
pub(crate) fn encode_chunks(chunks: &[(u64, Id)]) -> Vec<u8> {
    chunks.iter().flat_map(|(end, id)| end.to_le_bytes().into_iter().chain(*id.as_bytes())).collect()
}
