//! The project's own commands: everything that a fresh clone, a developer and the CI run.
#![allow(clippy::disallowed_macros, reason = "a command line tool prints")]

mod bench;
mod command;
mod failure;
mod licences;
mod lint;
mod plants;
mod printable;
mod report;
mod services;
mod simulation;
mod tables;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use crate::failure::Failure;

const USAGE: &str = "\
cargo xtask COMMAND

  test                    the gate: lint, unit tests, simulation seeds, black box tests
  test unit [ARGS]        unit tests only; no services; ARGS go to the test runner
  test e2e [ARGS]         black box tests; ARGS go to the test runner (LONGSHORE_TEST_FULL=1: large data)
  test sim [--seed N | --seeds COUNT]
                          the simulation: one seed, or COUNT of them
  test full               the same on the release build, with the large data sets and 10,000 seeds
  plants [--only NAME]    plant bugs that lose data, one by one: 500 seeds of the simulation have to find each
  services                find or install what the tests need
  lint                    format, clippy, tidy, licences
  tidy                    the house rules alone
  bench [ARGS]            paired timing against restic
  bench tasks | pipeline | scaling [ARGS]
                          Celery's task path, a home-made pipeline, more and more workers: docs/benchmarks.md
  printable [--check]     ask stock restic which code points it writes as they are; write the table, or compare it";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            let mut source = std::error::Error::source(&failure);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            match failure {
                Failure::Usage { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test"] => test::gate(test::Extent::Gate),
        ["test", "full"] => test::gate(test::Extent::Full),
        ["test", "unit", rest @ ..] => test::unit_alone(rest),
        ["test", "e2e", rest @ ..] => test::e2e_alone(rest),
        ["test", "sim", rest @ ..] => simulation::run_alone(rest),
        ["plants"] => plants::run(None),
        ["plants", "--only", name] => plants::run(Some(name)),
        ["services"] => services::provide_all().map(|_| ()),
        ["lint"] => lint::run_alone(),
        ["tidy"] => tidy::run(&workspace::Workspace::load()?),
        ["bench", rest @ ..] => bench::run(rest),
        ["printable"] => tables::run(tables::Mode::Write),
        ["printable", "--check"] => tables::run(tables::Mode::Check),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure::Usage { usage: USAGE }),
    }
}
