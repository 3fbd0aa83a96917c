//! Everything that judges the text of the project without running it.

use crate::command::{cargo, run};
use crate::failure::Failure;
use crate::report::Report;
use crate::workspace::Workspace;
use crate::{licences, plants, tidy};

/// Lint as a command of its own.
pub(crate) fn run_alone() -> Result<(), Failure> {
    let mut report = Report::default();
    let result = run_all(&mut report);
    report.print();
    result
}

/// Format, house rules, planted bugs, licences, clippy: the cheap ones first.
pub(crate) fn run_all(report: &mut Report) -> Result<(), Failure> {
    let workspace = Workspace::load()?;
    let root = workspace.root.clone();
    report.phase("format", || run(&mut cargo(&root, &["fmt", "--all", "--", "--check"])))?;
    report.phase("tidy", || tidy::run(&workspace))?;
    report.phase("plants", || plants::check(&root))?;
    report.phase("licences", || licences::run(&workspace.metadata))?;
    report.phase("clippy", || {
        run(&mut cargo(&root, &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
    })
}
