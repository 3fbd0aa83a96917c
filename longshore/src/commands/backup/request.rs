//! From the arguments of `backup` to a request that a coordinator can carry out.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use proto::handles::UnixTime;
use proto::job::{BackupRequest, ParentChoice, TargetNode, TargetPlace};
use proto::name::RawName;
use proto::report::{Problem, ProblemKind};
use repository::format::node_time::{NodeTime, Zone};
use repository::repository::Repository;
use sources::files::exclude::{ExcludeRules, Excludes, TagFile, parse_size};
use sources::files::targets::{self, TargetRoot};
use sources::paths;
use sources::source::{Source, SourceError};

use super::{Arguments, ExcludeFlags};
use crate::config::RepositoryPlace;
use crate::exit::{CommandError, reason};
use crate::output::printable;
use crate::patterns;
use crate::select::{self, SnapshotFilter};
use crate::session::Session;

/// A request, and what is wrong with its targets.
pub(super) struct Draft {
    pub(super) request: BackupRequest,
    pub(super) problems: Vec<Problem>,
}

/// Everything but the parent, for which the repository must be open.
pub(super) fn draft(arguments: &Arguments, session: &Session, source: &dyn Source) -> Result<Draft, CommandError> {
    let mut rules = exclude_rules(&arguments.excludes)?;
    Excludes::compile(&rules, Vec::new())?;
    let words: Vec<Vec<u8>> = words(arguments);
    let found = targets::resolve(source, &words, &session.current_directory()?)?;
    rules.patterns.extend(own_files(session, &found.roots));
    let problems: Vec<Problem> = found.problems.iter().map(target_problem).collect();
    let request = BackupRequest {
        targets: found.tree.entries.into_iter().map(target_node).collect(),
        missing_targets: problems.iter().map(|problem| problem.path.clone()).collect(),
        ..bare(arguments, session, &rules, found.snapshot_paths)?
    };
    Ok(Draft { request, problems })
}

/// The request for a fleet, whose coordinator makes the targets of the paths.
pub(super) fn for_fleet(arguments: &Arguments, session: &Session) -> Result<BackupRequest, CommandError> {
    let rules = exclude_rules(&arguments.excludes)?;
    Excludes::compile(&rules, Vec::new())?;
    let mut places = Vec::new();
    for word in words(arguments) {
        let place = paths::clean(&word);
        if !paths::is_absolute(&place) || place == b"/" {
            let word = printable(&word);
            let why =
                "its workers may have another current directory and other links: give absolute paths below the root";
            return Err(CommandError::Usage(format!("a fleet cannot back up {word}: {why}")));
        }
        places.push(place);
    }
    let parent = match &arguments.reading.parent {
        _ if arguments.reading.force => ParentChoice::None,
        None => ParentChoice::Newest,
        Some(text) => text.parse().map_or_else(|_| ParentChoice::Named(text.clone()), ParentChoice::Snapshot),
    };
    Ok(BackupRequest { parent, ..bare(arguments, session, &rules, places)? })
}

fn words(arguments: &Arguments) -> Vec<Vec<u8>> {
    arguments.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect()
}

/// Everything but targets and parent.
fn bare(
    arguments: &Arguments,
    session: &Session,
    rules: &ExcludeRules,
    paths: Vec<Vec<u8>>,
) -> Result<BackupRequest, CommandError> {
    let zone = &session.configuration.zone;
    let (snapshot, reading) = (&arguments.snapshot, &arguments.reading);
    let host = snapshot.host.clone().or_else(|| session.configuration.host.clone());
    Ok(BackupRequest {
        targets: Vec::new(),
        paths: paths.into_iter().map(RawName).collect(),
        hostname: host.unwrap_or_else(|| session.identity.hostname.clone()),
        username: session.identity.username.clone(),
        uid: session.identity.uid,
        gid: session.identity.gid,
        tags: snapshot.tag.clone(),
        time: snapshot.time.as_deref().map(|text| parse_time(text, zone)).transpose()?,
        zone: zone_name(zone)?,
        source_options: serde_json::to_value(rules)
            .map_err(|error| CommandError::Usage(format!("the excludes cannot be used: {error}")))?,
        excludes: arguments.excludes.exclude.clone(),
        parent: ParentChoice::default(),
        allow_empty: snapshot.allow_empty,
        budget: session.configuration.budget.clone(),
        compression: arguments.storing.compression.clone(),
        with_atime: reading.with_atime,
        ignore_ctime: reading.ignore_ctime,
        ignore_inode: reading.ignore_inode,
        pack_size: arguments.storing.pack_size << 20,
        missing_targets: Vec::new(),
    })
}

/// With what to compare.
pub(super) async fn parent(
    arguments: &Arguments,
    session: &Session,
    repository: &Repository,
) -> Result<ParentChoice, CommandError> {
    match &arguments.reading.parent {
        _ if arguments.reading.force => Ok(ParentChoice::None),
        None => Ok(ParentChoice::Newest),
        Some(text) => {
            let named = select::one(repository, text, &SnapshotFilter::default(), &session.output).await?;
            Ok(ParentChoice::Snapshot(named.id))
        }
    }
}

/// Path and `st_dev` of every target, for `--one-file-system`.
pub(super) fn target_devices(source: &dyn Source, request: &BackupRequest) -> Vec<(Vec<u8>, u64)> {
    let mut found = Vec::new();
    TargetNode::targets(&request.targets, &mut found);
    let device = |(path, place): (&RawName, &RawName)| Some((path.0.clone(), source.metadata(&place.0).ok()?.device));
    found.into_iter().filter_map(device).collect()
}

fn target_node(node: targets::TargetNode) -> TargetNode {
    let name = RawName(node.name);
    match node.place {
        targets::TargetPlace::Above { real_path, entries } => {
            let below = entries.into_iter().map(target_node).collect();
            TargetNode { name, source: RawName(real_path), place: TargetPlace::Above(below) }
        }
        targets::TargetPlace::Target { path, real_path, is_explicit } => {
            let place = TargetPlace::Target { path: RawName(path), explicit: is_explicit };
            TargetNode { name, source: RawName(real_path), place }
        }
    }
}

fn target_problem(error: &SourceError) -> Problem {
    Problem { kind: ProblemKind::Unreadable, path: RawName(error.path.clone()), message: reason(error) }
}

fn exclude_rules(flags: &ExcludeFlags) -> Result<ExcludeRules, CommandError> {
    let mut tag_files = Vec::new();
    for argument in &flags.exclude_if_present {
        tag_files.push(TagFile::parse(argument.as_bytes())?);
    }
    if flags.exclude_caches {
        tag_files.push(TagFile::cache());
    }
    Ok(ExcludeRules {
        patterns: patterns::all(&flags.exclude, &flags.exclude_file)?,
        insensitive_patterns: patterns::all(&flags.iexclude, &flags.iexclude_file)?,
        tag_files,
        larger_than: flags.exclude_larger_than.as_deref().map(parse_size).transpose()?,
        one_file_system: flags.one_file_system,
    })
}

/// Patterns that leave out what this program has made itself: its caches, the default repository, its password.
///
/// Patterns match the paths of targets as they were given, so each is written as seen from the targets that hold it. A
/// target that lies in the repository itself was meant.
fn own_files(session: &Session, roots: &[TargetRoot]) -> Vec<Vec<u8>> {
    let repository = match &session.configuration.repository {
        RepositoryPlace::Default(path) => Some(path),
        RepositoryPlace::Named(_) | RepositoryPlace::InFile(_) => None,
    };
    let own = repository.into_iter().chain(session.made_password_file()).chain(&session.configuration.cache);
    let own: Vec<PathBuf> = own.map(|path| real(path)).collect();
    let seen_from = |root: &TargetRoot| {
        let below = |path: &PathBuf| {
            let rest = paths::below(&root.real_path, path.as_os_str().as_bytes()).filter(|rest| !rest.is_empty())?;
            Some(literal_pattern(&paths::child(&root.path, rest)))
        };
        own.iter().filter_map(below).collect::<Vec<_>>()
    };
    roots.iter().flat_map(seen_from).collect()
}

/// The path without symbolic links; as far as it exists, for it may not have been made yet.
fn real(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    let rest = existing.as_ref().and_then(|(ancestor, _)| path.strip_prefix(ancestor).ok());
    match (&existing, rest) {
        (Some((_, real)), Some(rest)) if !rest.as_os_str().is_empty() => real.join(rest),
        (Some((_, real)), _) => real.clone(),
        (None, _) => path.to_path_buf(),
    }
}

/// A pattern that matches nothing but `path` and what is below.
fn literal_pattern(path: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(path.len());
    for byte in path {
        if b"\\[]*?".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

/// Where time zones are found by name.
const ZONE_FOLDER: &str = "/usr/share/zoneinfo";
/// Copies of zones under other names, and zones with other leap seconds.
const ZONE_FOLDERS_LEFT_OUT: [&str; 2] = ["posix", "right"];

/// A name by which the coordinator finds `zone` too. Where `/etc/localtime` is a copy it has none of its own.
fn zone_name(zone: &Zone) -> Result<String, CommandError> {
    if Zone::named(zone.name()).is_ok_and(|found| found.tzif() == zone.tzif()) {
        return Ok(zone.name().to_owned());
    }
    find_zone(Path::new(ZONE_FOLDER), Path::new(""), zone.tzif()).ok_or_else(|| {
        CommandError::Usage(
            "the time zone of this machine has no name; set TZ to one, such as Europe/Berlin".to_owned(),
        )
    })
}

/// The name of a file in `folder` that holds `rules`; one of a region before one of the top.
fn find_zone(folder: &Path, below: &Path, rules: &[u8]) -> Option<String> {
    let mut entries: Vec<_> = std::fs::read_dir(folder.join(below)).ok()?.flatten().collect();
    entries.sort_by_key(|entry| (!entry.path().is_dir(), entry.file_name()));
    for entry in entries {
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        let is_left_out = ZONE_FOLDERS_LEFT_OUT.iter().any(|left_out| name == Path::new(left_out));
        if path.is_dir() && !is_left_out {
            if let Some(found) = find_zone(folder, &name, rules) {
                return Some(found);
            }
        } else if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == rules.len() as u64)
            && std::fs::read(&path).is_ok_and(|contents| contents == rules)
        {
            return name.to_str().map(str::to_owned);
        }
    }
    None
}

/// `2026-11-24 09:30:00` in `zone`, or RFC 3339 with an offset.
fn parse_time(text: &str, zone: &Zone) -> Result<UnixTime, CommandError> {
    let with_offset = NodeTime::parse(text.as_bytes());
    if let Ok(time) = with_offset {
        return Ok(time.instant());
    }
    let as_utc = NodeTime::parse(format!("{}Z", text.replacen(' ', "T", 1)).as_bytes());
    let local = as_utc.map_err(|_| {
        CommandError::Usage(format!(
            "{text:?} is no time; write it like 2026-11-24 09:30:00 or 2026-11-24T09:30:00+01:00"
        ))
    })?;
    let local = local.instant();
    // The offset at the instant that would be right if the offset were; once more for the hour around a change.
    let first = local.seconds - i64::from(zone.offset_seconds(local.seconds));
    let seconds = local.seconds - i64::from(zone.offset_seconds(first));
    Ok(UnixTime { seconds, nanos: local.nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_unless_they_say_otherwise() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let parse = |text: &str| parse_time(text, &berlin).unwrap();
        assert_eq!(parse("2026-11-24 09:30:00"), parse("2026-11-24T08:30:00Z"));
        assert_eq!(parse("2026-07-24T09:30:00"), parse("2026-07-24T09:30:00+02:00"));
        // In the hour that is there twice, the later one; restic takes Go's choice, which is not promised.
        assert_eq!(parse("2026-10-25 01:59:59"), parse("2026-10-24T23:59:59Z"));
        assert_eq!(parse("2026-10-25 03:00:00"), parse("2026-10-25T02:00:00Z"));
        assert!(parse_time("yesterday", &berlin).is_err());
    }

    #[test]
    fn a_copied_zone_gets_its_name_back() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let copy = Zone::from_tzif("Local", berlin.tzif()).unwrap();
        let name = zone_name(&copy).unwrap();
        assert_eq!(Zone::named(&name).unwrap().tzif(), berlin.tzif());
        assert_eq!(zone_name(&berlin).unwrap(), "Europe/Berlin");
        assert_eq!(zone_name(&Zone::utc()).unwrap(), "UTC");
    }

    #[test]
    fn a_literal_pattern_matches_its_path_only() {
        let rules = ExcludeRules { patterns: vec![literal_pattern(b"/a/[x]*\\?")], ..ExcludeRules::default() };
        let excludes = Excludes::compile(&rules, Vec::new()).unwrap();
        assert!(excludes.rejects_path(b"/a/[x]*\\?") && excludes.rejects_path(b"/a/[x]*\\?/below"));
        assert!(!excludes.rejects_path(b"/a/xy\\z") && !excludes.rejects_path(b"/a"));
    }

    #[test]
    fn real_paths_end_with_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&there, there.join("link")).unwrap();
        assert_eq!(real(&there.join("link/new/repository")), there.join("new/repository"));
        assert_eq!(real(&there.join("link")), there);
    }
}
