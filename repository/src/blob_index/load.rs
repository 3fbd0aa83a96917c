//! Loads index files: from the cache what it has, the others from the repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt, TryStreamExt};
use proto::id::Id;

use super::cache::Cache;
use super::merge::{choose, merge};
use super::run::{Draft, LiveRun, Run, RunBytes};
use crate::format::index::{IndexError, IndexedPack, decode_index};
use crate::repository::{FileKind, Repository, RepositoryError, off_thread};

/// Index files that are loaded and decoded at once: each takes some 20 MiB meanwhile.
const LOADED_AT_ONCE: usize = 4;

/// How runs are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Index files are gathered in memory up to this many blobs, 48 bytes each.
    pub(super) draft_blobs: usize,
    /// More runs than this are merged.
    pub(super) runs_max: usize,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self { draft_blobs: 1_000_000, runs_max: 8 };
}

/// Runs that together hold exactly `files`, each once.
pub(super) async fn load(
    repository: &Repository,
    files: &[Id],
    cache: Option<&Path>,
    limits: Limits,
) -> Result<Vec<LiveRun>, RepositoryError> {
    let mut missing: BTreeSet<Id> = files.iter().copied().collect();
    let cache = match cache {
        Some(folder) => open_cache(folder.to_owned(), repository.id()).await?,
        None => None,
    };
    let mut runs = match &cache {
        Some(cache) => load_cached(cache, &mut missing).await?,
        None => Vec::new(),
    };
    load_missing(repository, missing, cache.as_ref(), limits, &mut runs).await?;
    let id = repository.id();
    off_thread(move || consolidate(runs, cache.as_ref(), limits.runs_max, &id)).await
}

async fn open_cache(folder: PathBuf, repository: Id) -> Result<Option<Cache>, RepositoryError> {
    let opened = off_thread(move || Cache::open(&folder, repository)).await?;
    Ok(opened.inspect_err(|error| tracing::debug!(error = error as &dyn std::error::Error, "no cache")).ok())
}

/// What the cache has of `missing`, which is taken out of there. Files that are damaged, or hold
/// nothing of it, are removed.
async fn load_cached(cache: &Cache, missing: &mut BTreeSet<Id>) -> Result<Vec<LiveRun>, RepositoryError> {
    let listing = cache.clone();
    let paths = off_thread(move || listing.paths().unwrap_or_default()).await?;
    let read = |path: PathBuf| {
        let cache = cache.clone();
        off_thread(move || {
            let run = cache.read(&path);
            if run.is_none() {
                cache.remove(&path);
            }
            Some((run?, path))
        })
    };
    let found: Vec<Option<(Run, PathBuf)>> =
        stream::iter(paths).map(read).buffered(LOADED_AT_ONCE).try_collect().await?;
    let mut found: Vec<(Run, PathBuf)> = found.into_iter().flatten().collect();
    // Of two that hold the same file, the larger one counts.
    found.sort_by_key(|(run, _)| std::cmp::Reverse(run.blobs().len()));
    let claimed = found.into_iter().map(|(run, path)| LiveRun::claim(run, Some(path), missing));
    let (dead, live): (Vec<LiveRun>, Vec<LiveRun>) = claimed.partition(LiveRun::is_dead);
    let cache = cache.clone();
    off_thread(move || dead.iter().filter_map(|run| run.path.as_ref()).for_each(|path| cache.remove(path))).await?;
    Ok(live)
}

async fn load_missing(
    repository: &Repository,
    missing: BTreeSet<Id>,
    cache: Option<&Cache>,
    limits: Limits,
    runs: &mut Vec<LiveRun>,
) -> Result<(), RepositoryError> {
    let load = |file| async move { Ok::<_, RepositoryError>((file, load_index(repository, &file).await?)) };
    let mut loaded = stream::iter(missing).map(load).buffered(LOADED_AT_ONCE);
    let mut draft = Draft::default();
    while let Some((file, packs)) = loaded.try_next().await? {
        draft.add(&file, &packs);
        if draft.is_full(limits.draft_blobs) {
            runs.push(finish(std::mem::take(&mut draft), repository.id(), cache).await?);
        }
    }
    if !draft.is_empty() {
        runs.push(finish(draft, repository.id(), cache).await?);
    }
    Ok(())
}

async fn load_index(repository: &Repository, file: &Id) -> Result<Vec<IndexedPack>, RepositoryError> {
    let json = repository.load_file(FileKind::Index, file).await?;
    let decode = move || -> Result<_, IndexError> {
        let mut packs = Vec::new();
        decode_index(&json, |pack| packs.push(pack))?;
        Ok(packs)
    };
    off_thread(decode).await?.map_err(|damage| repository.damaged(FileKind::Index.name(file), damage))
}

async fn finish(draft: Draft, repository: Id, cache: Option<&Cache>) -> Result<LiveRun, RepositoryError> {
    let cache = cache.cloned();
    off_thread(move || {
        let run = draft.finish(&repository);
        match cache {
            Some(cache) => cache.keep(run),
            None => LiveRun::whole(run, None),
        }
    })
    .await
}

/// Merges small and mostly dead runs.
fn consolidate(mut runs: Vec<LiveRun>, cache: Option<&Cache>, runs_max: usize, repository: &Id) -> Vec<LiveRun> {
    let chosen = choose(&runs, runs_max);
    if chosen.is_empty() {
        return runs;
    }
    let sources: Vec<&LiveRun> = chosen.iter().map(|number| &runs[*number]).collect();
    let merged = match cache {
        Some(cache) => {
            let merged = cache.merge(&sources);
            merged.inspect_err(|error| tracing::debug!(error = error as &dyn std::error::Error, "not merged")).ok()
        }
        None => merge_in_memory(&sources, repository),
    };
    // Where that is not possible the runs do as they are, only slower.
    if let Some(merged) = merged {
        let mut number = 0..;
        runs.retain(|_| number.next().is_some_and(|number| !chosen.contains(&number)));
        runs.push(merged);
    }
    runs
}

fn merge_in_memory(sources: &[&LiveRun], repository: &Id) -> Option<LiveRun> {
    let mut bytes = Vec::new();
    merge(&mut bytes, sources, repository).expect("writing to a vector does not fail")?;
    Some(LiveRun::whole(Run::verify(RunBytes::Held(bytes), repository)?, None))
}
