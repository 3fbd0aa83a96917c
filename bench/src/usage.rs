//! CPU time and memory of processes that run, as `/proc` has them.

use std::collections::BTreeSet;
use std::fs;

/// USER_HZ of proc(5): 100 wherever we run, whatever the kernel's own clock does.
const TICKS_A_SECOND: f64 = 100.0;

/// What processes have cost since their start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    /// The sum of what each had at its peak.
    pub(crate) peak_mib: f64,
}

impl Usage {
    /// Of these processes and everything below them.
    pub(crate) fn of(roots: impl IntoIterator<Item = u32>) -> Self {
        let mut sum = Self::default();
        for pid in with_children(roots) {
            let one = Self::of_one(pid);
            sum.cpu_seconds += one.cpu_seconds;
            sum.peak_mib += one.peak_mib;
        }
        sum
    }

    /// Of one process; nothing once it is gone.
    pub(crate) fn of_one(pid: u32) -> Self {
        Self { cpu_seconds: cpu_seconds(pid).unwrap_or(0.0), peak_mib: peak_mib(pid).unwrap_or(0.0) }
    }

    /// The largest peak of one process among these and everything below them.
    pub(crate) fn largest_mib(roots: impl IntoIterator<Item = u32>) -> f64 {
        with_children(roots).into_iter().filter_map(peak_mib).fold(0.0, f64::max)
    }
}

/// User and system time, with that of children that have ended.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let fields = fields(pid)?;
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), 12 of them behind the name.
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / TICKS_A_SECOND)
}

fn peak_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// What stands in `/proc/PID/stat` behind the name, which may hold anything.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn with_children(roots: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, fields(pid)?.get(1)?.parse().ok()?))).collect();
    let mut found: BTreeSet<u32> = roots.into_iter().collect();
    loop {
        let before = found.len();
        let below = parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid);
        let below: Vec<u32> = below.collect();
        found.extend(below);
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        // The peak only grows: what is read first is not above what is read next.
        let largest = Usage::largest_mib([std::process::id()]);
        let own = Usage::of([std::process::id()]);
        assert!(largest > 0.1 && own.cpu_seconds >= 0.0);
        assert!(largest <= own.peak_mib, "{largest} {}", own.peak_mib);
    }
}
