//! One regular file: looked at, compared, written blob by blob from any thread, finished once.
//!
//! # Order
//! Look (what is there, what may be done with it) -> prepare (room, size) -> compare -> write -> verify -> metadata.
//! A file that is as wanted is not written to. Blobs may come in any order; the last one finishes the file.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::id::Id;
use proto::report::ProblemKind;
use proto::restore::Overwrite;
use repository::format::pack::{BlobType, PackEntry};
use sources::restore_target::{RestoreError, RestoreErrorKind, RestoreTarget, TargetFile, WantedMetadata};
use sources::source::{FileKind, Metadata};
use tokio::sync::OwnedSemaphorePermit;

use super::tools::{Directory, Full, Tools};
use crate::read::lengthen;

/// Holes are worth no smaller piece: a page of the file system.
const HOLE_BYTES_MIN: usize = 4096;

/// One blob of a file, and where a copy of it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins in the file.
    pub(super) offset: u64,
    pub(super) pack: Id,
    pub(super) entry: PackEntry,
}

/// What is done with the file beside its content.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    /// It is prepared first, and gets this metadata at the end.
    Whole(Box<WantedMetadata>),
    /// It is prepared already; somebody else finishes it.
    Part {
        /// Where the part begins.
        start: u64,
        /// The file was there before it was prepared.
        was_there: bool,
    },
}

/// One regular file.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) path: Vec<u8>,
    pub(super) directory: Arc<Directory>,
    pub(super) frame: Frame,
    /// Length of all content.
    pub(super) size: u64,
    pub(super) content: Vec<Id>,
    /// Names of the file in the snapshot, and its inode and device number there.
    pub(super) links: (u64, (u64, u64)),
    /// Pieces that are not dealt with.
    remaining: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    handle: Option<Box<dyn TargetFile>>,
    /// Lets the handle be kept between two writes.
    permit: Option<OwnedSemaphorePermit>,
    fate: Option<Fate>,
    is_prepared: bool,
    was_there: bool,
    /// Its size or content was changed, or it was made.
    is_changed: bool,
    is_failed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("fate", &self.fate).field("is_failed", &self.is_failed).finish_non_exhaustive()
    }
}

/// What was decided about a file when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is left as it is.
    Skipped,
    /// It gets its metadata only.
    Unchanged,
    /// What is there is compared, and written where it differs.
    Compared,
    /// All is written.
    Written,
}

impl FileJob {
    pub(super) fn new(
        path: Vec<u8>,
        directory: Arc<Directory>,
        frame: Frame,
        size: u64,
        content: Vec<Id>,
        links: (u64, (u64, u64)),
    ) -> Self {
        let remaining = AtomicUsize::new(content.len());
        let mut state = State::default();
        if let Frame::Part { was_there, .. } = frame {
            let fate = if was_there { Fate::Compared } else { Fate::Written };
            state = State { fate: Some(fate), is_prepared: true, was_there, ..State::default() };
        }
        Self { path, directory, frame, size, content, links, remaining, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What panics while it is held panics in the door; the file is then failed by whoever comes next.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the file, and compares what is there; returns the pieces that must be written. Blocks.
    pub(super) fn begin(&self, tools: &Tools, pieces: Vec<Piece>) -> Result<Vec<Piece>, Full> {
        let count = pieces.len();
        let needed = match self.decide(tools)? {
            Fate::Skipped | Fate::Unchanged => Vec::new(),
            Fate::Written => pieces,
            Fate::Compared => self.differing(tools, pieces)?,
        };
        let needed = if tools.request().dry_run { self.pretend(tools, needed) } else { needed };
        let is_failed = self.lock().is_failed;
        let needed = if is_failed { Vec::new() } else { needed };
        self.deal_with(tools, count - needed.len())?;
        Ok(needed)
    }

    /// A file without content. Blocks.
    pub(super) fn make_empty(&self, tools: &Tools) -> Result<(), Full> {
        let fate = self.decide(tools)?;
        let is_wanted = matches!(fate, Fate::Compared | Fate::Written);
        if is_wanted && !tools.request().dry_run {
            let mut state = self.lock();
            if !state.is_prepared
                && !state.is_failed
                && let Err(error) = self.prepare(tools, &mut state)
            {
                self.fail(tools, &mut state, error)?;
            }
        }
        if is_wanted && fate == Fate::Written {
            self.lock().is_changed = true;
        }
        self.finish(tools)
    }

    /// Makes the file ready to be written in ranges; says whether it was there, or none if it is not to be written.
    pub(super) fn prepare_for_ranges(&self, tools: &Tools) -> Result<Option<bool>, Full> {
        match self.decide(tools)? {
            Fate::Skipped | Fate::Unchanged => {
                self.finish(tools)?;
                return Ok(None);
            }
            Fate::Compared | Fate::Written => {}
        }
        let mut state = self.lock();
        if tools.request().dry_run {
            return Ok(Some(state.was_there));
        }
        if !state.is_prepared
            && !state.is_failed
            && let Err(error) = self.prepare(tools, &mut state)
        {
            self.fail(tools, &mut state, error)?;
        }
        state.handle = None;
        Ok((!state.is_failed).then_some(state.was_there))
    }

    /// Writes one blob, and finishes the file if it was the last. Blocks.
    pub(super) fn write(&self, tools: &Tools, offset: u64, plain: &[u8]) -> Result<(), Full> {
        let mut state = self.lock();
        if !state.is_failed {
            match self.write_blob(tools, &mut state, offset, plain) {
                Ok(written) => {
                    state.is_changed |= written > 0;
                    tools.tally().counts.bytes_written += written;
                    tools.show_progress(0, plain.len() as u64);
                }
                Err(error) => self.fail(tools, &mut state, error)?,
            }
        }
        drop(state);
        self.deal_with(tools, 1)
    }

    /// A blob cannot be had: the file is not restored.
    pub(super) fn lose(&self, tools: &Tools, message: &str) -> Result<(), Full> {
        let mut state = self.lock();
        if !state.is_failed {
            (state.is_failed, state.handle, state.permit) = (true, None, None);
            tools.problem(ProblemKind::Damaged, &self.path, message.to_owned());
        }
        drop(state);
        self.deal_with(tools, 1)
    }

    fn fail(&self, tools: &Tools, state: &mut State, error: RestoreError) -> Result<(), Full> {
        (state.is_failed, state.handle, state.permit) = (true, None, None);
        tools.refused(error)
    }

    /// Counts pieces off; the last one finishes the file.
    fn deal_with(&self, tools: &Tools, pieces: usize) -> Result<(), Full> {
        if pieces > 0 && self.remaining.fetch_sub(pieces, Ordering::AcqRel) == pieces {
            return self.finish(tools);
        }
        Ok(())
    }

    fn decide(&self, tools: &Tools) -> Result<Fate, Full> {
        let mut state = self.lock();
        if let Some(fate) = state.fate {
            return Ok(fate);
        }
        let fate = match self.look(tools, &mut state) {
            Ok(fate) => fate,
            Err(error) => {
                self.fail(tools, &mut state, error)?;
                Fate::Written
            }
        };
        state.fate = Some(fate);
        Ok(fate)
    }

    fn look(&self, tools: &Tools, state: &mut State) -> Result<Fate, RestoreError> {
        let Some(target) = tools.target().filter(|_| !self.directory.is_fresh()) else { return Ok(Fate::Written) };
        let there = match target.metadata(&self.path) {
            Err(error) if is_absent(&error, tools) => return Ok(Fate::Written),
            there => there?,
        };
        let Frame::Whole(wanted) = &self.frame else { return Ok(Fate::Compared) };
        let overwrite = tools.request().overwrite;
        if is_kept(overwrite, &there, wanted) {
            return Ok(Fate::Skipped);
        }
        if there.kind != FileKind::File {
            return Ok(Fate::Written);
        }
        state.is_changed = there.size != self.size;
        let seems_equal = !state.is_changed && there.modified == wanted.modified;
        if there.links > 1 {
            // What is linked cannot be written to: others have it too. As it is, or replaced.
            let may_stay = self.links.0 > 1 && there.links <= self.links.0 && !state.is_changed;
            let is_equal = may_stay
                && (overwrite == Overwrite::IfChanged && seems_equal || self.is_all_equal(tools, target)?)
                && tools.keep((there.device, there.inode), self.links.1);
            return Ok(if is_equal { Fate::Unchanged } else { Fate::Written });
        }
        if overwrite == Overwrite::IfChanged && seems_equal {
            return Ok(Fate::Unchanged);
        }
        state.was_there = true;
        if tools.request().dry_run {
            state.handle = Some(target.read_file(&self.path)?);
        } else {
            self.prepare(tools, state)?;
        }
        Ok(Fate::Compared)
    }

    fn prepare(&self, tools: &Tools, state: &mut State) -> Result<(), RestoreError> {
        let Some(target) = tools.target() else { return Ok(()) };
        let prepared = target.prepare_file(&self.path, self.size, tools.prepare_options())?;
        state.is_prepared = true;
        state.was_there = prepared.was_there;
        state.is_changed |= !prepared.was_there;
        state.handle = Some(prepared.file);
        Ok(())
    }

    /// Compares the whole file, or the part, with what the snapshot has.
    fn is_all_equal(&self, tools: &Tools, target: &dyn RestoreTarget) -> Result<bool, RestoreError> {
        let mut file = target.read_file(&self.path)?;
        let start = if let Frame::Part { start, .. } = self.frame { start } else { 0 };
        let (mut offset, mut buffer) = (start, Vec::new());
        for id in &self.content {
            let Some((_, entry)) = tools.site.index.find(BlobType::Data, id).next() else { return Ok(false) };
            if !is_equal(&mut *file, offset, &entry, &mut buffer)? {
                return Ok(false);
            }
            offset += u64::from(entry.plain_length());
        }
        let ends_there = file.read_at(offset, &mut [0])? == 0;
        Ok(offset == start + self.size && (ends_there || matches!(self.frame, Frame::Part { .. })))
    }

    /// The pieces that the file has not as they are wanted.
    fn differing(&self, tools: &Tools, pieces: Vec<Piece>) -> Result<Vec<Piece>, Full> {
        let mut state = self.lock();
        if state.is_failed {
            return Ok(Vec::new());
        }
        let (mut differing, mut buffer, mut equal_bytes) = (Vec::new(), Vec::new(), 0);
        let mut compare = |state: &mut State| -> Result<(), RestoreError> {
            let mut file = self.take_handle(tools, state)?;
            for piece in &pieces {
                if is_equal(&mut *file, piece.offset, &piece.entry, &mut buffer)? {
                    equal_bytes += u64::from(piece.entry.plain_length());
                } else {
                    differing.push(*piece);
                }
            }
            if !differing.is_empty() {
                self.keep_handle(tools, state, file);
            }
            Ok(())
        };
        if let Err(error) = compare(&mut state) {
            self.fail(tools, &mut state, error)?;
            return Ok(Vec::new());
        }
        tools.tally().counts.bytes_unchanged += equal_bytes;
        tools.show_progress(0, equal_bytes);
        Ok(differing)
    }

    /// A dry run: counts what would be written.
    fn pretend(&self, tools: &Tools, needed: Vec<Piece>) -> Vec<Piece> {
        let bytes: u64 = needed.iter().map(|piece| u64::from(piece.entry.plain_length())).sum();
        let mut state = self.lock();
        state.is_changed |= bytes > 0;
        state.handle = None;
        tools.tally().counts.bytes_written += bytes;
        tools.show_progress(0, bytes);
        Vec::new()
    }

    fn take_handle(&self, tools: &Tools, state: &mut State) -> Result<Box<dyn TargetFile>, RestoreError> {
        if let Some(handle) = state.handle.take() {
            state.permit = None;
            return Ok(handle);
        }
        let absent = || RestoreError::new(RestoreErrorKind::Vanished, "open", &self.path, "there is no target");
        let target = tools.target().ok_or_else(absent)?;
        if tools.request().dry_run {
            return target.read_file(&self.path);
        }
        if state.is_prepared {
            return target.open_file(&self.path);
        }
        self.prepare(tools, state)?;
        state.handle.take().ok_or_else(absent)
    }

    /// Keeps the handle for the next write, if there are not too many.
    fn keep_handle(&self, tools: &Tools, state: &mut State, handle: Box<dyn TargetFile>) {
        if self.remaining.load(Ordering::Acquire) > 1
            && let Ok(permit) = tools.site.handles.clone().try_acquire_owned()
        {
            (state.handle, state.permit) = (Some(handle), Some(permit));
        }
    }

    /// Returns how many bytes were written.
    fn write_blob(&self, tools: &Tools, state: &mut State, offset: u64, plain: &[u8]) -> Result<u64, RestoreError> {
        let mut file = self.take_handle(tools, state)?;
        let zeros = if tools.request().sparse { leading_zeros(plain) } else { 0 };
        if zeros > 0 && state.was_there {
            file.punch(offset, zeros as u64)?;
            state.is_changed = true;
        }
        let rest = &plain[zeros..];
        if !rest.is_empty() {
            file.write_at(offset + zeros as u64, rest)?;
        }
        self.keep_handle(tools, state, file);
        Ok(rest.len() as u64)
    }

    /// Reads the file again, gives it its metadata, counts it.
    fn finish(&self, tools: &Tools) -> Result<(), Full> {
        let mut state = self.lock();
        (state.handle, state.permit) = (None, None);
        let is_written = state.is_changed && !tools.request().dry_run;
        if state.is_failed || is_written && tools.request().verify && !self.verify(tools)? {
            return Ok(());
        }
        let Frame::Whole(wanted) = &self.frame else { return Ok(()) };
        if state.fate != Some(Fate::Skipped) {
            tools.set_metadata(&self.path, wanted)?;
        }
        let counts = &mut tools.tally().counts;
        match state.fate {
            Some(Fate::Skipped) => counts.files_skipped += 1,
            Some(Fate::Unchanged) => {
                counts.files_unchanged += 1;
                counts.bytes_unchanged += self.size;
            }
            _ if state.is_changed => counts.files_restored += 1,
            _ => counts.files_unchanged += 1,
        }
        tools.show_progress(1, 0);
        Ok(())
    }

    fn verify(&self, tools: &Tools) -> Result<bool, Full> {
        let Some(target) = tools.target() else { return Ok(true) };
        tools.tally().counts.files_verified += 1;
        match self.is_all_equal(tools, target) {
            Ok(true) => return Ok(true),
            Ok(false) => {
                let message = "what was written reads differently".to_owned();
                tools.problem(ProblemKind::NotRestored, &self.path, message);
            }
            Err(error) => tools.refused(error)?,
        }
        Ok(false)
    }
}

/// Whether nothing is there; in a dry run also if not even its directory is.
fn is_absent(error: &RestoreError, tools: &Tools) -> bool {
    error.kind == RestoreErrorKind::Vanished || tools.request().dry_run && error.kind == RestoreErrorKind::Changed
}

/// Whether what is there is left as it is.
pub(super) fn is_kept(overwrite: Overwrite, there: &Metadata, wanted: &WantedMetadata) -> bool {
    match overwrite {
        Overwrite::Always | Overwrite::IfChanged => false,
        Overwrite::IfNewer => wanted.modified <= there.modified,
        Overwrite::Never => true,
    }
}

/// Whether the file has this blob at `offset`.
fn is_equal(
    file: &mut dyn TargetFile,
    offset: u64,
    entry: &PackEntry,
    buffer: &mut Vec<u8>,
) -> Result<bool, RestoreError> {
    buffer.clear();
    lengthen(buffer, entry.plain_length() as usize);
    let read = file.read_at(offset, buffer)?;
    Ok(read == buffer.len() && Id::of(buffer) == entry.id)
}

/// Zeros that a blob begins with, in whole pages unless it is all zeros.
fn leading_zeros(plain: &[u8]) -> usize {
    let zeros = plain.iter().position(|byte| *byte != 0).unwrap_or(plain.len());
    if zeros == plain.len() { zeros } else { zeros - zeros % HOLE_BYTES_MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_whole_pages_or_whole_blobs() {
        assert_eq!(leading_zeros(&[0; 100]), 100);
        assert_eq!(leading_zeros(&[&[0; 5000][..], b"x"].concat()), 4096);
        assert_eq!(leading_zeros(&[&[0; 4095][..], b"x"].concat()), 0);
        assert_eq!(leading_zeros(b""), 0);
    }
}
