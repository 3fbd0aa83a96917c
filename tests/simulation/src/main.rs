//! `--seeds COUNT [--from N]`: each seed in a process of its own, as many at once as there are cores.
//! `--seed N [--trace]`: one seed in this process.

use std::process::ExitCode;

mod command;

fn main() -> ExitCode {
    command::obey()
}
