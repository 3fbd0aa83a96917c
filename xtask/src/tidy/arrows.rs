//! Dependency arrows: crates point down only, and two of them may use a part of the one below only.

use cargo_metadata::Metadata;

use super::lexemes::paths_below;
use super::{Finding, SourceFile};

/// What each package of the workspace may depend on, of the workspace.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("chunker", &["proto"]),
    ("crypto", &["proto"]),
    ("repository", &["chunker", "crypto", "proto"]),
    ("sources", &["repository", "proto"]),
    ("fleet", &["repository", "proto"]),
    ("worker", &["fleet", "sources", "repository", "proto"]),
    ("coordinator", &["fleet", "sources", "repository", "proto"]),
    ("longshore", &["coordinator", "worker", "fleet", "sources", "repository", "proto"]),
    ("tests", &["coordinator", "worker", "fleet", "sources", "repository", "proto"]),
    ("simulation", &["coordinator", "worker", "fleet", "sources", "repository", "proto"]),
    ("bench", &["tests", "fleet", "repository", "proto"]),
    ("xtask", &[]),
];

/// `user` may use of `used` the modules `only`.
struct Narrow {
    user: &'static str,
    used: &'static str,
    only: &'static [&'static [&'static str]],
    why: &'static str,
}

const NARROW: &[Narrow] = &[
    Narrow {
        user: "repository",
        used: "proto",
        only: &[&["id"], &["handles"]],
        why: "the storage engine stands alone: of proto it may use proto::id and proto::handles",
    },
    Narrow {
        user: "sources",
        used: "repository",
        only: &[&["format", "node"]],
        why: "a source knows nodes, not repositories: of repository it may use repository::format::node",
    },
];

/// A dependency between two packages of the workspace.
pub(super) struct Dependency {
    pub(super) user: String,
    pub(super) used: String,
}

/// All dependencies between members, of every kind (development and build ones too).
pub(super) fn dependencies(metadata: &Metadata) -> Vec<Dependency> {
    let members = metadata.workspace_packages();
    let is_member = |name: &str| members.iter().any(|member| member.name.as_str() == name);
    members
        .iter()
        .flat_map(|member| member.dependencies.iter().map(move |used| (member.name.to_string(), used.name.clone())))
        .filter(|(_, used)| is_member(used))
        .map(|(user, used)| Dependency { user, used })
        .collect()
}

/// Judges the manifests.
pub(super) fn check_manifests(dependencies: &[Dependency]) -> Vec<Finding> {
    let verdict = |dependency: &Dependency| {
        let Dependency { user, used } = dependency;
        let manifest = format!("{user}/Cargo.toml");
        let Some((_, may_use)) = ARROWS.iter().find(|(name, _)| name == user) else {
            return Some(Finding::new(
                &manifest,
                0,
                format!("package {user} has no entry in xtask/src/tidy/arrows.rs"),
            ));
        };
        let reason =
            || format!("{user} may not depend on {used} (allowed: {}); dependencies point down", may_use.join(", "));
        (!may_use.contains(&used.as_str())).then(|| Finding::new(&manifest, 0, reason()))
    };
    dependencies.iter().filter_map(verdict).collect()
}

/// Judges the paths of one file.
pub(super) fn check_paths(file: &SourceFile) -> Vec<Finding> {
    let rules = NARROW.iter().filter(|rule| rule.user == file.package_folder());
    let mut findings = Vec::new();
    for rule in rules {
        for path in paths_below(&file.lexemes, rule.used) {
            let is_allowed = |only: &&[&str]| {
                path.segments.len() >= only.len() && only.iter().zip(&path.segments).all(|(left, right)| left == right)
            };
            if !rule.only.iter().any(is_allowed) {
                let full = [&[rule.used.to_owned()], path.segments.as_slice()].concat().join("::");
                findings.push(Finding::new(file.path, path.line, format!("`{full}`: {}", rule.why)));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::planted;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check_paths(&planted(path, text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_planted_import_of_the_repository_is_found() {
        let text = "//! x\nuse proto::id::JobId;\nuse proto::{handles::Clock, job::Job};\nfn f() {\n    proto::task::go();\n}\n";
        assert_eq!(lines("repository/src/format/tree.rs", text), [3, 5]);
        assert_eq!(lines("worker/src/pull.rs", text), Vec::<usize>::new());
    }

    #[test]
    fn a_planted_import_of_the_sources_is_found() {
        let text = "use repository::format::node::Node;\nuse repository::format::{node, tree};\nuse repository::storage;\nuse repository as r;\n";
        assert_eq!(lines("sources/src/files/walk.rs", text), [2, 3, 4]);
    }

    #[test]
    fn a_planted_dependency_that_points_up_is_found() {
        let arrow = |user: &str, used: &str| Dependency { user: user.to_owned(), used: used.to_owned() };
        let findings = check_manifests(&[arrow("worker", "fleet"), arrow("proto", "worker"), arrow("new", "proto")]);
        let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["proto/Cargo.toml", "new/Cargo.toml"]);
    }
}
