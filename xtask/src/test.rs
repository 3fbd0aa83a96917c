//! `test`: the gate and its parts.

use std::path::{Path, PathBuf};

use cargo_metadata::Metadata;

use crate::command::{cargo, on_path, run};
use crate::failure::Failure;
use crate::report::Report;
use crate::services::{self, Tools};
use crate::{lint, simulation, tables, workspace};

/// How much is run, and of which build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What every change has to pass. All of it runs what one build of the workspace made, with every assertion on: what
    /// has to be built is half of a gate.
    Gate,
    /// The same with the large data sets and many seeds, on the release build.
    Full,
}

impl Extent {
    fn of_environment() -> Self {
        if std::env::var_os("LONGSHORE_TEST_FULL").is_some() { Self::Full } else { Self::Gate }
    }
}

/// Which of the workspace's tests are meant.
#[derive(Clone, Copy)]
enum Suite {
    /// Beside the code, without services.
    Unit,
    /// The package `tests`: the built program on real services.
    BlackBox,
}

/// The program that runs tests.
#[derive(Clone, Copy)]
enum Runner {
    Nextest,
    Cargo,
}

impl Runner {
    fn find() -> Self {
        let runner = if on_path("cargo-nextest") { Self::Nextest } else { Self::Cargo };
        eprintln!("test runner: {}", runner.name());
        runner
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nextest => "cargo nextest",
            Self::Cargo => "cargo test (cargo-nextest is not installed)",
        }
    }

    /// The words that start it. Both suites name the whole workspace: another choice of packages has other features, and
    /// everything is built again.
    fn words(self, suite: Suite) -> Vec<&'static str> {
        match (self, suite) {
            (Self::Nextest, Suite::Unit) => {
                vec!["nextest", "run", "--profile", "unit", "--workspace", "--filterset", "not package(tests)"]
            }
            (Self::Nextest, Suite::BlackBox) => {
                vec!["nextest", "run", "--profile", "e2e", "--workspace", "--filterset", "package(tests)"]
            }
            (Self::Cargo, Suite::Unit) => vec!["test", "--workspace", "--exclude", "tests"],
            (Self::Cargo, Suite::BlackBox) => vec!["test", "--package", "tests"],
        }
    }
}

/// Lint, unit tests, services, simulation, black box tests.
pub(crate) fn gate(extent: Extent) -> Result<(), Failure> {
    let mut report = Report::default();
    let result = gate_phases(&mut report, extent);
    report.print();
    println!("{}", if result.is_ok() { "gate passed" } else { "gate FAILED" });
    result
}

fn gate_phases(report: &mut Report, extent: Extent) -> Result<(), Failure> {
    let runner = Runner::find();
    let metadata = workspace::metadata()?;
    lint::run_all(report)?;
    report.phase("unit tests", || unit(runner, &metadata, &[]))?;
    let tools = report.phase("services", services::provide_all)?;
    let binary = report.phase("build", || build(&metadata, extent))?;
    match extent {
        Extent::Gate => simulation::run_gate(report)?,
        Extent::Full => {
            report.phase("printable names", || tables::run(tables::Mode::Check))?;
            simulation::run_in(report, &["--seeds", simulation::FULL_SEEDS])?;
        }
    }
    report.phase("black box tests", || e2e(runner, &metadata, &tools, &binary, extent, &[]))
}

/// Unit tests as a command of their own.
pub(crate) fn unit_alone(arguments: &[&str]) -> Result<(), Failure> {
    let mut report = Report::default();
    let metadata = workspace::metadata()?;
    let runner = Runner::find();
    let result = report.phase("unit tests", || unit(runner, &metadata, arguments));
    report.print();
    result
}

/// Black box tests as a command of their own; `LONGSHORE_TEST_FULL=1` for the large data sets.
pub(crate) fn e2e_alone(arguments: &[&str]) -> Result<(), Failure> {
    let mut report = Report::default();
    let metadata = workspace::metadata()?;
    let runner = Runner::find();
    let result = e2e_phases(&mut report, runner, &metadata, Extent::of_environment(), arguments);
    report.print();
    result
}

fn e2e_phases(
    report: &mut Report,
    runner: Runner,
    metadata: &Metadata,
    extent: Extent,
    arguments: &[&str],
) -> Result<(), Failure> {
    let tools = report.phase("services", services::provide_all)?;
    let binary = report.phase("build", || build(metadata, extent))?;
    report.phase("black box tests", || e2e(runner, metadata, &tools, &binary, extent, arguments))
}

fn unit(runner: Runner, metadata: &Metadata, arguments: &[&str]) -> Result<(), Failure> {
    let mut words = runner.words(Suite::Unit);
    words.extend(arguments);
    let tools = services::provide_for_unit_tests()?;
    run(cargo(metadata.workspace_root.as_std_path(), &words).env("LONGSHORE_RESTIC", &tools.restic))
}

fn e2e(
    runner: Runner,
    metadata: &Metadata,
    tools: &Tools,
    binary: &Path,
    extent: Extent,
    arguments: &[&str],
) -> Result<(), Failure> {
    let mut words = runner.words(Suite::BlackBox);
    words.extend(arguments);
    let mut command = cargo(metadata.workspace_root.as_std_path(), &words);
    command.env("LONGSHORE_BIN", binary).env("LONGSHORE_RESTIC", &tools.restic);
    command.envs(tools.azurite.as_ref().map(|azurite| ("LONGSHORE_AZURITE", azurite)));
    if extent == Extent::Full {
        command.env("LONGSHORE_TEST_FULL", "1");
    }
    run(&mut command)
}

/// Builds what an extent tests and returns where the program is.
fn build(metadata: &Metadata, extent: Extent) -> Result<PathBuf, Failure> {
    match extent {
        Extent::Gate => build_program(metadata, "longshore"),
        Extent::Full => build_release(metadata),
    }
}

/// Builds a program as the tests were built and returns where it is.
pub(crate) fn build_program(metadata: &Metadata, name: &str) -> Result<PathBuf, Failure> {
    let root = metadata.workspace_root.as_std_path();
    run(&mut cargo(root, &["build", "--quiet", "--workspace", "--bin", name]))?;
    Ok(metadata.target_directory.join("debug").join(name).into_std_path_buf())
}

/// Builds the release binary and returns where it is.
pub(crate) fn build_release(metadata: &Metadata) -> Result<PathBuf, Failure> {
    let root = metadata.workspace_root.as_std_path();
    run(&mut cargo(root, &["build", "--release", "--quiet", "--package", "longshore"]))?;
    Ok(metadata.target_directory.join("release").join("longshore").into_std_path_buf())
}
