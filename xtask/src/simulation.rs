//! `test sim`: builds the simulation and runs seeds.
//!
//! By hand it is optimised, with every assertion on. The gate runs what the unit tests built already: fewer seeds a second,
//! and no second build of everything.

use crate::command::{cargo, run};
use crate::failure::Failure;
use crate::report::Report;
use crate::workspace;

/// Seeds of the gate.
pub(crate) const GATE_SEEDS: &str = "300";
/// Seeds of `test full`.
pub(crate) const FULL_SEEDS: &str = "10000";

/// The simulation as a command of its own; without arguments the gate's seeds.
pub(crate) fn run_alone(arguments: &[&str]) -> Result<(), Failure> {
    let mut report = Report::default();
    let result = run_in(&mut report, if arguments.is_empty() { &["--seeds", GATE_SEEDS] } else { arguments });
    report.print();
    result
}

/// Builds and runs with the simulation's own arguments: `--seed N` or `--seeds COUNT`.
pub(crate) fn run_in(report: &mut Report, arguments: &[&str]) -> Result<(), Failure> {
    build_and_run(report, "sim", arguments)
}

/// The gate's seeds.
pub(crate) fn run_gate(report: &mut Report) -> Result<(), Failure> {
    build_and_run(report, "dev", &["--seeds", GATE_SEEDS])
}

fn build_and_run(report: &mut Report, profile: &str, arguments: &[&str]) -> Result<(), Failure> {
    let root = workspace::metadata()?.workspace_root.into_std_path_buf();
    let package = ["--profile", profile, "--quiet", "--package", "simulation"];
    report.phase("build simulation", || run(&mut cargo(&root, &[&["build"], &package[..]].concat())))?;
    report.phase("simulation", || run(&mut cargo(&root, &[&["run"], &package[..], &["--"], arguments].concat())))
}
