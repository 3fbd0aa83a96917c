//! Seconds per phase, printed at the end of a run.

use std::time::{Duration, Instant};

use crate::failure::Failure;

/// The phases of one run, in order.
#[derive(Default)]
pub(crate) struct Report {
    phases: Vec<(&'static str, Duration, bool)>,
}

impl Report {
    /// Runs a phase and notes how long it took and how it ended.
    #[allow(clippy::disallowed_methods, reason = "wall time is what the summary shows; no decision hangs on it")]
    pub(crate) fn phase<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        eprintln!("== {name}");
        let start = Instant::now();
        let result = work();
        self.phases.push((name, start.elapsed(), result.is_ok()));
        result
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!();
        for (name, took, passed) in &self.phases {
            println!("{:>8.1} s  {}  {name}", took.as_secs_f64(), if *passed { "ok    " } else { "FAILED" });
        }
        let total: Duration = self.phases.iter().map(|(_, took, _)| *took).sum();
        println!("{:>8.1} s  total", total.as_secs_f64());
    }
}
