//! Names that tell a newcomer nothing.

use super::{Finding, SourceFile};

const BANNED: &[&str] = &["utils", "util", "common", "helpers", "helper", "core", "misc", "shared", "stuff", "base"];

/// Judges folders and file names.
pub(super) fn check(folders: &[String], files: &[SourceFile]) -> Vec<Finding> {
    let paths = folders.iter().map(String::as_str).chain(files.iter().map(|file| file.path));
    paths.filter_map(judge).collect()
}

fn judge(path: &str) -> Option<Finding> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    BANNED
        .contains(&stem)
        .then(|| Finding::new(path, 0, format!("`{stem}` tells nothing: name it after what is in it")))
}

#[cfg(test)]
mod tests {
    use super::super::planted;
    use super::*;

    #[test]
    fn planted_names_are_found() {
        let folders = ["worker/src".to_owned(), "worker/src/utils".to_owned()];
        let files = [planted("fleet/src/helpers.rs", "//! x\n"), planted("fleet/src/clock.rs", "//! x\n")];
        let findings = check(&folders, &files);
        let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["worker/src/utils", "fleet/src/helpers.rs"]);
    }
}
