//! `test sim`: builds the simulation and runs seeds.
//!
//! By hand it is optimised, with every assertion on. The gate runs what the unit tests built already: fewer seeds a second,
//! and no second build of everything.

use std::path::PathBuf;
use std::process::Command;

use cargo_metadata::Metadata;

use crate::command::{cargo, run};
use crate::failure::Failure;
use crate::report::Report;
use crate::{test, workspace};

/// Seeds of the gate.
pub(crate) const GATE_SEEDS: &str = "200";
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
    let metadata = workspace::metadata()?;
    let program = report.phase("build simulation", || build_optimised(&metadata))?;
    report.phase("simulation", || run(Command::new(program).args(arguments)))
}

/// The gate's seeds.
pub(crate) fn run_gate(report: &mut Report) -> Result<(), Failure> {
    let metadata = workspace::metadata()?;
    let program = report.phase("build simulation", || test::build_program(&metadata, "simulation"))?;
    report.phase("simulation", || run(Command::new(program).args(["--seeds", GATE_SEEDS])))
}

fn build_optimised(metadata: &Metadata) -> Result<PathBuf, Failure> {
    let root = metadata.workspace_root.as_std_path();
    run(&mut cargo(root, &["build", "--profile", "sim", "--quiet", "--package", "simulation"]))?;
    Ok(metadata.target_directory.join("sim").join("simulation").into_std_path_buf())
}
