//! Where a walk begins: the scope of a task, looked at before anything is believed (DESIGN 3.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::job::TargetNode;
use proto::name::RawName;
use proto::report::NotMyView;
use proto::task::{ArchiveWork, Names as NamesOnWire, Scope, View};
use sources::names::Names;
use sources::paths;
use sources::source::{Metadata, Mount, SourceError};

use super::ahead::{Ahead, Looked, Looker, Seen};
use super::frame::{Frame, decode_listing};
use super::{Batch, Spending, Walker, not_mounted, view_of};
use crate::devices::Devices;
use crate::error::WorkerError;
use crate::job::JobContext;
use crate::stop::Stop;

/// A file system that a walk entered.
pub(crate) struct FileSystem {
    /// Where it begins.
    pub(crate) place: RawName,
    /// Its `st_dev` on this host.
    pub(crate) device: u64,
}

impl Walker {
    /// A walk through the scope of `work`.
    ///
    /// # Errors
    /// `NotMyView` when the scope, or the data set, does not look as it did to who split it off.
    pub(crate) async fn begin(
        context: Arc<JobContext>,
        work: &ArchiveWork,
        stop: Stop,
        devices: Devices,
    ) -> Result<Self, WorkerError> {
        check_targets(&context, &work.expected_targets).await?;
        check_around(&context, &work.scope).await?;
        let spending = Spending { budget: work.budget.clone(), entries: 0, changed_entries: 0, bytes: 0 };
        let unmounted = context.facts.host.as_ref().map(|host| host.unmounted.clone()).unwrap_or_default();
        let agreed = work.expected_targets.iter().map(|(place, _)| place.clone());
        let mut walker = Self {
            believed: unmounted.into_iter().chain(agreed).collect(),
            spending,
            stop,
            frames: Vec::new(),
            devices,
            last_word: work.last_word,
            stopping: false,
            batch: Batch::default(),
            looker: Looker::of(&context, work.budget.entries),
            context,
        };
        let parents = walker.context.open_parents(&work.parents).await;
        let frame = match &work.scope {
            Scope::Root { targets } => Frame::root(parents, targets.clone()),
            Scope::Names { dir, names } => {
                let (names, stored) = load_names(&walker.context, names).await?;
                let metadata = match check_scope(&walker.context, dir, work.view).await? {
                    Ok(metadata) => metadata,
                    Err(error) => {
                        walker.note_unreadable(error); // every worker says so: it is believed
                        return Ok(walker);
                    }
                };
                let looked = Looked {
                    names,
                    tags: walker.looker.tags(&dir.0).await?,
                    first: Seen::new(),
                    below: Ahead::default(),
                };
                let device = walker.devices.of(&dir.0).unwrap_or(metadata.device);
                let path = walker.context.path_of(&dir.0);
                Frame::listed(dir.0.clone(), path, metadata.device, device, parents, looked)
                    .on_parent_device(work.parent_device)
                    .scope(stored)
            }
        };
        walker.frames.push(frame);
        Ok(walker)
    }

    /// Whether the data set still looks as it did before, with all file systems that the walk entered; and the scope, if
    /// something was `lost` in it.
    ///
    /// # Errors
    /// `NotMounted` or `NotMyView` if not.
    pub(crate) async fn check_again(
        context: &JobContext,
        work: &ArchiveWork,
        entered: &[FileSystem],
        lost: bool,
    ) -> Result<(), WorkerError> {
        check_around(context, &work.scope).await?;
        if let (Scope::Names { dir, .. }, true) = (&work.scope, lost) {
            let _gone = check_scope(context, dir, work.view).await?; // what is gone and believed was so before
        }
        for FileSystem { place, device } in entered {
            let now = metadata_of(context, place).await?.ok();
            if now.as_ref().is_none_or(|now| now.device != *device) {
                let message = format!("the file system at {place} went away while it was read");
                let refusal = refusal(place, false, now.as_ref().map(view_of), Vec::new(), message);
                return Err(WorkerError::NotMounted(Box::new(NotMyView { mount: true, ..*refusal })));
            }
        }
        Ok(())
    }
}

/// Whether this worker may read everything of the scope.
///
/// # Errors
/// `NotMounted` if not: the task is for others.
pub(crate) fn check_roots(context: &JobContext, scope: &Scope) -> Result<(), WorkerError> {
    match scope {
        Scope::Names { dir, .. } => check_root(context, dir),
        Scope::Root { targets } => {
            let mut found = Vec::new();
            TargetNode::targets(targets, &mut found);
            found.into_iter().try_for_each(|(_, place)| check_root(context, place))
        }
    }
}

/// The same for one path.
///
/// # Errors
/// `NotMounted` if not.
pub(crate) fn check_root(context: &JobContext, place: &RawName) -> Result<(), WorkerError> {
    if context.source.serves(&place.0) {
        return Ok(());
    }
    let message = "it is outside the roots of this worker".to_owned();
    let refusal = NotMyView { outside: true, ..*refusal(place, true, None, Vec::new(), message) };
    Err(WorkerError::NotMounted(Box::new(refusal)))
}

/// The root task: whether any target is there.
///
/// # Errors
/// `NotMounted` if not: a snapshot of nothing was not asked for.
pub(crate) async fn check_any(context: &JobContext, views: &[(RawName, View)]) -> Result<(), WorkerError> {
    let Some((_, place)) = context.facts.targets.first().filter(|_| views.is_empty()) else { return Ok(()) };
    let message = "none of the paths to back up is there".to_owned();
    Err(WorkerError::NotMounted(refusal(place, true, None, see_data_set(context).await?, message)))
}

async fn load_names(
    context: &JobContext,
    names: &NamesOnWire,
) -> Result<(Names, Option<(proto::id::Id, u64)>), WorkerError> {
    match names {
        NamesOnWire::Listed(names) => Ok((names.iter().map(RawName::as_bytes).collect(), None)),
        NamesOnWire::Slice { listing, from, to } => {
            let stored = context.objects.get(&context.job, listing).await?;
            Ok((decode_listing(&stored, *from, *to), Some((*listing, *from))))
        }
    }
}

async fn metadata_of(
    context: &JobContext,
    place: &RawName,
) -> Result<Result<Metadata, sources::source::SourceError>, WorkerError> {
    let (source, place) = (context.source.clone(), place.0.clone());
    Ok(context.cpu.read(move || source.metadata(&place)).await?)
}

/// The root task: whether the targets are what the parent snapshot, or another worker, says.
async fn check_targets(context: &JobContext, expected: &[(RawName, View)]) -> Result<(), WorkerError> {
    let mut differs = None;
    for (place, view) in expected {
        let seen = metadata_of(context, place).await?.ok().map(|metadata| view_of(&metadata));
        if seen != Some(*view) {
            differs = Some((place, seen));
            break;
        }
    }
    let Some((place, view)) = differs else { return Ok(()) };
    let message = match view {
        Some(view) => format!("{place} has inode {} here", view.inode),
        None => format!("{place} is not there"),
    };
    Err(WorkerError::NotMyView(refusal(place, true, view, see_data_set(context).await?, message)))
}

/// Every target and every file system that is mounted below one, as this worker sees them.
///
/// # Errors
/// A thread panicked.
async fn see_data_set(context: &JobContext) -> Result<Vec<(RawName, Option<View>)>, WorkerError> {
    let mut places: Vec<RawName> = context.facts.targets.iter().map(|(_, place)| place.clone()).collect();
    let mut there = Vec::new();
    for place in &places {
        if metadata_of(context, place).await?.is_ok() {
            there.push(place.0.clone());
        }
    }
    let source = context.source.clone();
    if let Ok(mounts) = context.cpu.read(move || source.mounts(&there)).await? {
        places.extend(mount_points(&mounts));
    }
    places.sort_unstable();
    places.dedup();
    let mut seen = Vec::with_capacity(places.len());
    for place in places {
        let view = metadata_of(context, &place).await?.ok().map(|metadata| view_of(&metadata));
        seen.push((place, view));
    }
    Ok(seen)
}

/// Mount points on another file system than what is above them: a worker can tell whether it has these.
pub(crate) fn mount_points(mounts: &[Mount]) -> BTreeSet<RawName> {
    let devices: BTreeMap<&[u8], u64> = mounts.iter().map(|mount| (mount.path.as_slice(), mount.device)).collect();
    let device_above = |path: &[u8]| {
        let mut at = path;
        while let Some((above, _)) = paths::split_last(at) {
            if let Some(device) = devices.get(above) {
                return Some(*device);
            }
            at = above;
        }
        None
    };
    let differs = |mount: &&Mount| device_above(&mount.path).is_some_and(|device| device != mount.device);
    mounts.iter().filter(|mount| mount.is_mount_point).filter(differs).map(|mount| mount.path.clone().into()).collect()
}

/// Whether the targets of the scope, or those that it lies in, look as they did to the root task.
async fn check_around(context: &JobContext, scope: &Scope) -> Result<(), WorkerError> {
    match scope {
        Scope::Names { dir, .. } => check_near(context, dir).await,
        Scope::Root { targets } => {
            let mut places = Vec::new();
            TargetNode::targets(targets, &mut places);
            check_views(context, |target| places.iter().any(|(_, place)| *place == target)).await
        }
    }
}

/// Whether the targets that `place` lies in look as they did to the root task, and every file system on the way is
/// mounted.
///
/// # Errors
/// `NotMounted` if not.
pub(crate) async fn check_near(context: &JobContext, place: &RawName) -> Result<(), WorkerError> {
    let is_above = |target: &RawName| paths::below(&target.0, &place.0).is_some();
    check_views(context, is_above).await?;
    let Some(host) = &context.facts.host else { return Ok(()) };
    // Where a target itself is mounted is this worker's own matter.
    let is_inside = |mount: &RawName| {
        let targets = context.facts.targets.iter();
        targets.filter_map(|(_, target)| paths::below(&target.0, &mount.0)).any(|rest| !rest.is_empty())
    };
    for mount in host.mounts.iter().filter(|mount| is_above(mount) && is_inside(mount)) {
        let Some((above, _)) = paths::split_last(&mount.0) else { continue };
        let (here, above) = (metadata_of(context, mount).await?, metadata_of(context, &above.into()).await?);
        if let (Ok(here), Ok(above)) = (here, above)
            && here.device == above.device
        {
            return Err(not_mounted(&mount.0, &here));
        }
    }
    Ok(())
}

async fn check_views(context: &JobContext, concerns: impl Fn(&RawName) -> bool) -> Result<(), WorkerError> {
    for (place, expected) in context.facts.target_views.iter().filter(|(place, _)| concerns(place)) {
        let seen = metadata_of(context, place).await?.ok().map(|metadata| view_of(&metadata));
        if seen != Some(*expected) {
            let message = format!("the data set's root {place} is not what the first worker saw");
            return Err(WorkerError::NotMounted(refusal(place, true, seen, Vec::new(), message)));
        }
    }
    Ok(())
}

/// The scope's directory, if it looks as it did to who split it off; why it cannot be looked at, if that is believed.
async fn check_scope(
    context: &JobContext,
    dir: &RawName,
    view: Option<View>,
) -> Result<Result<Metadata, SourceError>, WorkerError> {
    match metadata_of(context, dir).await? {
        Ok(metadata) if view.is_none_or(|view| view == view_of(&metadata)) => Ok(Ok(metadata)),
        Ok(metadata) => {
            let message = format!("{dir} is another directory than the one that was split off");
            Err(WorkerError::NotMyView(refusal(dir, false, Some(view_of(&metadata)), Vec::new(), message)))
        }
        Err(error) if view.is_some() => {
            let message = format!("{error}: {}", error.source);
            Err(WorkerError::NotMyView(refusal(dir, false, None, Vec::new(), message)))
        }
        Err(error) => Ok(Err(error)),
    }
}

fn refusal(
    path: &RawName,
    target_root: bool,
    seen: Option<View>,
    targets_seen: Vec<(RawName, Option<View>)>,
    message: String,
) -> Box<NotMyView> {
    Box::new(NotMyView { path: path.clone(), target_root, seen, mount: false, outside: false, targets_seen, message })
}
