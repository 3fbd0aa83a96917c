//! Patterns that are given on the command line and in files.

use std::path::PathBuf;

use sources::files::pattern_file;

use crate::exit::CommandError;

/// The patterns that were given, then those in the files.
pub(crate) fn all(given: &[String], files: &[PathBuf]) -> Result<Vec<Vec<u8>>, CommandError> {
    let mut patterns: Vec<Vec<u8>> = given.iter().map(|pattern| pattern.clone().into_bytes()).collect();
    for path in files {
        let contents = std::fs::read(path).map_err(|source| CommandError::File {
            action: "read the patterns in",
            path: path.display().to_string(),
            source,
        })?;
        patterns.extend(pattern_file::parse(&contents, pattern_file::process_variable));
    }
    Ok(patterns)
}
