//! Resume is a new job whose additional parent is what the old one finished (DESIGN 3.8).
//!
//! The old checkpoint's finished entries are assembled into a tree of their own, which is stored and indexed before the
//! new job lists the index: to the workers it is one more parent.

use std::sync::Arc;

use proto::id::{Id, WorkerId};
use proto::job::{BackupRequest, Budget, ParentChoice, Request, Submission};
use proto::report::{Fragment, PackReport};
use repository::blob_index::BlobIndex;
use repository::format::index::{IndexedPack, encode_index};
use repository::repository::FileKind;
use repository::seal::Compression;

use crate::Doors;
use crate::assemble::{Assembler, Stored};
use crate::commit::Fence;
use crate::error::JobError;
use crate::found_record::{OldJob, newest_unfinished};
use crate::job::{PartialChild, PartialDir};
use crate::living::Living;

/// Whether two backups would make the same tree of the same data set.
fn reads_the_same(one: &BackupRequest, other: &BackupRequest) -> bool {
    let what_is_read = |request: &BackupRequest| BackupRequest {
        username: String::new(),
        uid: 0,
        gid: 0,
        tags: Vec::new(),
        time: None,
        parent: ParentChoice::None,
        allow_empty: false,
        budget: Budget::default(),
        compression: String::new(),
        pack_size: 0,
        missing_targets: Vec::new(),
        ..request.clone()
    };
    what_is_read(one) == what_is_read(other)
}

/// What an earlier job of the same host and paths finished.
pub(crate) struct Resumed {
    pub(crate) old: OldJob,
    /// Its entries as a tree.
    pub(crate) tree: Id,
}

/// Looks for such a job, and stores what it finished.
pub(crate) async fn resume(
    doors: &Doors,
    me: &WorkerId,
    fence: &Fence,
    submission: &Submission,
    request: &BackupRequest,
) -> Result<Option<Resumed>, JobError> {
    if request.parent == ParentChoice::None {
        return Ok(None);
    }
    let same = |other: &Submission| match &other.request {
        Request::Backup(other) => reads_the_same(other, request),
        Request::Restore(_) | Request::Check(_) => false,
    };
    let living = Living::new(doors, &fence.lock);
    let wanted = |other: &Submission| other.job != submission.job && same(other);
    let Some(old) = newest_unfinished(&doors.repository, &living, wanted).await? else {
        return Ok(None);
    };
    let partial = old.checkpoint.state.partial_tree();
    let assembler = Assembler::new(
        old.job.clone(),
        me.clone(),
        doors.repository.clone(),
        Arc::new(BlobIndex::load(&doors.repository, &[], None).await?),
        doors.objects.clone(),
        doors.repository.sealer(Compression::Auto),
        doors.cpu.clone(),
        request.pack_size,
    );
    match store(doors, fence, &assembler, &partial).await {
        Ok(tree) => Ok(Some(Resumed { old, tree })),
        Err(error @ (JobError::LockLost(_) | JobError::Lock(_))) => Err(error),
        Err(error) => {
            tracing::warn!(job = %old.job, error = error.chain(), "an unfinished job cannot be taken up; all is read");
            Ok(None)
        }
    }
}

async fn store(doors: &Doors, fence: &Fence, assembler: &Assembler, partial: &PartialDir) -> Result<Id, JobError> {
    let mut packs = Vec::new();
    let fragments = store_children(assembler, partial, &mut packs).await?;
    let Stored { what: tree, packs: more, .. } = assembler.assemble_root(&fragments).await?;
    packs.extend(more);
    packs.extend(assembler.flush().await?);
    let mut indexed = Vec::with_capacity(packs.len());
    for PackReport { pack, size, header_bytes, .. } in packs {
        let blobs = doors.repository.read_pack_header(&pack, size, header_bytes).await?;
        indexed.push(IndexedPack { id: pack, blobs });
    }
    let json = encode_index(&indexed);
    let repository = &doors.repository;
    let (id, bytes) = repository.seal_file_bytes(&json)?;
    fence.put(|| async { Ok(repository.put_sealed(FileKind::Index, &id, bytes.clone()).await?) }).await?;
    Ok(tree)
}

/// Stores the trees below `dir`; returns its entries.
fn store_children<'a>(
    assembler: &'a Assembler,
    dir: &'a PartialDir,
    packs: &'a mut Vec<PackReport>,
) -> proto::handles::BoxFuture<'a, Result<Vec<Fragment>, JobError>> {
    Box::pin(async move {
        let mut fragments = Vec::with_capacity(dir.children.len());
        for child in &dir.children {
            match child {
                PartialChild::Nodes(fragment) => fragments.push(fragment.clone()),
                PartialChild::Dir(below) => {
                    let children = store_children(assembler, below, packs).await?;
                    let stored = assembler.assemble_dir(&below.node, &[], &children).await?;
                    packs.extend(stored.packs);
                    fragments.push(stored.what);
                }
            }
        }
        Ok(fragments)
    })
}
