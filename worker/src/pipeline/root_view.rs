//! What the worker of the root task tells of its host (DESIGN 3.6).

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet::objects::ObjectsExt;
use proto::facts::HostFacts;
use proto::name::RawName;
use proto::report::{NotMyView, RootView};
use proto::task::View;
use sources::files::users::UserTable;

use crate::error::WorkerError;
use crate::job::JobContext;
use crate::walk::{mount_points, view_of};

/// The file type of directories in `st_mode`.
const S_IFDIR: u32 = 0o040_000;

/// The same context with this host's own tables of users and groups.
pub(super) async fn with_own_host(context: &Arc<JobContext>) -> Result<Arc<JobContext>, WorkerError> {
    let source = context.source.clone();
    let table = context.cpu.read(move || source.users()).await?;
    let UserTable { users, groups } = table?;
    let host = HostFacts { users, groups, ..HostFacts::default() };
    Ok(Arc::new(context.with_host(host)))
}

/// What the accepted root report puts in force for all other tasks.
///
/// # Errors
/// `NotMounted` if a target is not any more what it was before the walk, as `targets` has it. It may be a mount that went
/// away: nothing is said of the targets that could be believed.
pub(super) async fn root_view(
    context: &JobContext,
    devices: BTreeMap<RawName, u64>,
    targets: Vec<(RawName, View)>,
) -> Result<RootView, WorkerError> {
    check_unmoved(context, &targets).await?;
    let places: Vec<Vec<u8>> = targets.iter().map(|(place, _)| place.0.clone()).collect();
    let source = context.source.clone();
    let mounts = context.cpu.read(move || source.mounts(&places)).await??;
    let own = context.facts.host.clone().unwrap_or_default();
    let host = HostFacts { devices, mounts: mount_points(&mounts), ..own };
    let encoded = rmp_serde::to_vec_named(&host)
        .map_err(|error| WorkerError::Malformed { what: format!("host facts cannot be encoded: {error}") })?;
    Ok(RootView { host: context.objects.payload(&context.job, encoded).await?, targets })
}

/// How the targets look here; those that are not there are left out.
pub(super) async fn target_views(context: &JobContext) -> Result<Vec<(RawName, View)>, WorkerError> {
    let mut targets = Vec::new();
    for (_, place) in &context.facts.targets {
        let (source, at) = (context.source.clone(), place.0.clone());
        if let Ok(metadata) = context.cpu.read(move || source.metadata(&at)).await? {
            targets.push((place.clone(), view_of(&metadata)));
        }
    }
    Ok(targets)
}

/// What was not found below a directory counts only if it is still the same one. A file may be replaced meanwhile.
async fn check_unmoved(context: &JobContext, before: &[(RawName, View)]) -> Result<(), WorkerError> {
    let after = target_views(context).await?;
    let moved = before.iter().find(|view| view.1.file_type == S_IFDIR && !after.contains(view));
    let Some((path, _)) = moved else { return Ok(()) };
    let seen = after.iter().find(|(place, _)| place == path).map(|(_, view)| *view);
    let became = if seen.is_some() { "became another directory" } else { "went away" };
    Err(WorkerError::NotMounted(Box::new(NotMyView {
        path: path.clone(),
        target_root: true,
        seen,
        mount: false,
        outside: false,
        targets_seen: Vec::new(),
        message: format!("{path} {became} while it was read"),
    })))
}
