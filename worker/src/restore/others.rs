//! Everything but content: symbolic links, fifos, devices, empty files, further names, and the ends of directories.

use std::sync::Arc;

use proto::report::ProblemKind;
use proto::restore::{NamedNode, Overwrite};
use sources::restore_target::{Effect, RestoreError, RestoreErrorKind, RestoreTarget, WantedMetadata};
use sources::source::FileKind;

use super::file::{FileJob, is_kept};
use super::marker::is_marker;
use super::tools::{Full, Halt, Tools, join, named_node, wanted_metadata};
use super::walk::{Clear, Leaf, Leave};
use super::window::Link;

/// Makes the entries of a window that have no content, and prepares its large files.
pub(super) async fn make_others(
    tools: &Arc<Tools>,
    others: Vec<Leaf>,
    empty: Vec<Arc<FileJob>>,
    large: Vec<(Arc<FileJob>, NamedNode)>,
) -> Result<(), Halt> {
    if others.is_empty() && empty.is_empty() && large.is_empty() {
        return Ok(());
    }
    let at_work = tools.clone();
    let make = move || {
        others.iter().try_for_each(|leaf| make_other(&at_work, leaf))?;
        empty.iter().try_for_each(|file| file.make_empty(&at_work))?;
        for (file, named) in large {
            if let Some(was_there) = file.prepare_for_ranges(&at_work)? {
                at_work.tally().large.push((file, named, was_there));
            }
        }
        Ok::<(), Full>(())
    };
    tools.site.cpu.read(make).await??;
    Ok(())
}

fn make_other(tools: &Tools, leaf: &Leaf) -> Result<(), Full> {
    let path = leaf.directory.child(&leaf.node.name);
    let wanted = wanted_metadata(&leaf.node);
    tools.show_progress(1, 0);
    if !leaf.directory.is_fresh() && is_left_alone(tools, &path, &wanted)? {
        return Ok(());
    }
    tools.tally().counts.others += 1;
    let Some(target) = tools.target().filter(|_| !tools.request().dry_run) else { return Ok(()) };
    let options = tools.replace_options();
    let made = match wanted.kind {
        FileKind::Symlink => target.make_symlink(&path, &leaf.node.link_target, options),
        kind => target.make_special(&path, kind, leaf.node.device, options),
    };
    match made {
        Ok(_) => tools.set_metadata(&path, &wanted),
        Err(error) => tools.refused(error),
    }
}

/// Whether `--overwrite` says to leave what is there, if anything is.
fn is_left_alone(tools: &Tools, path: &[u8], wanted: &WantedMetadata) -> Result<bool, Full> {
    let overwrite = tools.request().overwrite;
    let Some(target) = tools.target() else { return Ok(false) };
    if matches!(overwrite, Overwrite::Always | Overwrite::IfChanged) {
        return Ok(false);
    }
    match target.metadata(path) {
        Ok(there) => Ok(is_kept(overwrite, &there, wanted)),
        Err(error) if error.kind == RestoreErrorKind::Vanished => Ok(false),
        Err(error) => {
            tools.refused(error)?;
            Ok(true)
        }
    }
}

/// Makes further names, then ends directories, in order.
pub(super) async fn finish_in_order(tools: &Arc<Tools>, links: Vec<Link>, leaves: Vec<Leave>) -> Result<(), Halt> {
    if links.is_empty() && leaves.is_empty() {
        return Ok(());
    }
    let at_work = tools.clone();
    let finish = move || {
        links.iter().try_for_each(|link| make_link(&at_work, link))?;
        leaves.into_iter().try_for_each(|leave| finish_directory(&at_work, leave))
    };
    tools.site.cpu.read(finish).await??;
    Ok(())
}

/// Makes a further name.
pub(super) fn make_link(tools: &Tools, link: &Link) -> Result<(), Full> {
    tools.show_progress(1, 0);
    if is_left_alone(tools, &link.path, &link.wanted)? {
        return Ok(());
    }
    tools.tally().counts.hard_links += 1;
    let Some(target) = tools.target().filter(|_| !tools.request().dry_run) else { return Ok(()) };
    match target.make_hard_link(&link.existing, &link.path, tools.replace_options()) {
        Ok(Effect::Created | Effect::Replaced | Effect::Unchanged) => Ok(()),
        Err(error) => tools.refused(error),
    }
}

fn finish_directory(tools: &Tools, leave: Leave) -> Result<(), Full> {
    let path = &leave.directory.path;
    if let Some(clear) = &leave.clear
        && !leave.directory.is_fresh()
        && let Some(target) = tools.target()
    {
        clear_directory(tools, target, path, clear)?;
    }
    match &leave.node {
        Some(node) if leave.is_late => tools.tally().directories.push(named_node(path, node)),
        Some(node) => tools.set_metadata(path, &wanted_metadata(node))?,
        None => {}
    }
    Ok(())
}

/// Removes what the snapshot has not.
fn clear_directory(tools: &Tools, target: &dyn RestoreTarget, path: &[u8], clear: &Clear) -> Result<(), Full> {
    let there = match target.list(path) {
        Ok(there) => there,
        Err(error) if error.kind == RestoreErrorKind::Vanished => return Ok(()),
        Err(error) => return tools.refused(error),
    };
    for name in there.iter() {
        let is_outside = clear.after.as_deref().is_some_and(|after| name <= after)
            || clear.until.as_deref().is_some_and(|until| name > until);
        if is_outside || clear.names.position(name).is_ok() || path.is_empty() && is_marker(name) {
            continue;
        }
        let extra = join(path, name);
        if tools.site.selection.select(&extra, false).itself {
            remove(tools, target, &extra)?;
        }
    }
    Ok(())
}

fn remove(tools: &Tools, target: &dyn RestoreTarget, path: &[u8]) -> Result<(), Full> {
    let mut deleted = 0;
    let removed = if tools.request().dry_run {
        count_tree(target, path, &mut deleted)
    } else {
        target.remove_tree(path, &mut |_| deleted += 1)
    };
    tools.tally().counts.deleted += deleted;
    match removed {
        Err(error) if error.kind == RestoreErrorKind::InTheWay => {
            let message = format!("{}: {}", error.action, error.source);
            tools.problem(ProblemKind::NotRestored, path, message);
            Ok(())
        }
        Err(error) => tools.refused(error),
        Ok(()) => Ok(()),
    }
}

/// Counts what removing `path` would remove.
fn count_tree(target: &dyn RestoreTarget, path: &[u8], found: &mut u64) -> Result<(), RestoreError> {
    let mut waiting = vec![path.to_vec()];
    while let Some(path) = waiting.pop() {
        *found += 1;
        if target.metadata(&path)?.kind == FileKind::Directory {
            waiting.extend(target.list(&path)?.iter().map(|name| join(&path, name)));
        }
    }
    Ok(())
}
