//! Dashboards and rules ask for metrics that the code counts, and every metric is shown somewhere.

use std::collections::BTreeSet;

use super::Finding;
use crate::workspace::{TextFile, Workspace};

/// Where every metric stands.
const TABLE: &str = "fleet/src/metrics/table.rs";
/// Where they are asked for.
const SHOWN_IN: &str = "grafana/";
const PREFIX: &str = "longshore_";
/// What Prometheus makes of a histogram.
const PARTS_OF_HISTOGRAMS: &[&str] = &["_bucket", "_sum", "_count"];

/// Judges everything below `grafana/`.
pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    match workspace.text(TABLE) {
        Some(table) => compare(table, &workspace.files),
        None => vec![Finding::new(TABLE, 0, "it is not there: dashboards cannot be judged")],
    }
}

fn compare(table: &str, files: &[TextFile]) -> Vec<Finding> {
    let known: BTreeSet<&str> = table.split('"').filter(|word| is_name(word)).collect();
    let mut findings = Vec::new();
    let mut shown = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.starts_with(SHOWN_IN)) {
        for (index, line) in file.text.lines().enumerate() {
            for name in names_in(line) {
                match known.get(name).or_else(|| known.get(whole_of(name))) {
                    Some(known) => drop(shown.insert(*known)),
                    None => {
                        findings.push(Finding::new(&file.path, index + 1, format!("nobody counts `{name}`")));
                    }
                }
            }
        }
    }
    let hidden = known.difference(&shown);
    findings.extend(hidden.map(|name| Finding::new(TABLE, 0, format!("`{name}` is in no dashboard"))));
    findings
}

fn is_name(word: &str) -> bool {
    word.len() > PREFIX.len() && word.starts_with(PREFIX) && word.bytes().all(is_part)
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

fn names_in(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !u8::try_from(letter).is_ok_and(is_part)).filter(|word| is_name(word))
}

/// The histogram that a series is a part of.
fn whole_of(name: &str) -> &str {
    PARTS_OF_HISTOGRAMS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_names_are_found() {
        let table = "gauge(\"longshore_a\", &[\"pool\"], \"Of longshore_x.\"); histogram(\"longshore_b_seconds\")";
        let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
        let query = "rate(longshore_b_seconds_bucket{pool=\\\"x\\\"}[5m])\nsum(longshore_c_total) / longshore_a\n";
        let files = [file("grafana/dashboards/fleet.json", query), file("docs/x.md", "longshore_d")];
        let reasons = |files: &[TextFile]| -> Vec<String> {
            compare(table, files).into_iter().map(|finding| finding.reason).collect()
        };
        assert_eq!(reasons(&files), ["nobody counts `longshore_c_total`"]);
        assert_eq!(reasons(&files[1..]).len(), 2, "both are shown nowhere");
    }
}
