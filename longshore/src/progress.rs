//! How far a job is, for people and programs: redrawn in place on a terminal, a plain line now and then otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coordinator::job::Progress;
use proto::handles::Clock;
use serde_json::{Value, json};
use tokio::sync::watch;
use worker::meter::Meter;

use crate::output::{Output, bytes_text, duration_text};

/// What the rate is taken over.
const RATE_OVER: Duration = Duration::from_secs(10);

/// Figures of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) elapsed: Duration,
    pub(crate) entries: u64,
    pub(crate) bytes_done: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) partitions_done: u64,
    pub(crate) partitions_open: u64,
}

/// Shows samples, each with the rate of the last seconds.
pub(crate) struct Display {
    output: Output,
    samples: Vec<Sample>,
}

impl Display {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, samples: vec![Sample::default()] }
    }

    /// Shows one more. `total` are the bytes that there are to do, if that is known.
    pub(crate) fn show(&mut self, sample: Sample, total: Option<u64>) {
        self.samples.push(sample);
        // The oldest one that is kept is at least as old as the rate wants.
        let old = self.samples.iter().take_while(|old| old.elapsed + RATE_OVER <= sample.elapsed).count();
        self.samples.drain(..old.saturating_sub(1));
        let rate = rate(&self.samples[0], &sample);
        if !self.output.is_json() {
            return self.output.progress(&line(&sample, rate, total));
        }
        // A reader that is gone is told of at the end.
        let _ = self.output.message(&status(&sample, rate, total));
    }
}

/// What `--json` says of one moment; the total and what is left are null until somebody knows.
fn status(sample: &Sample, rate: u64, total: Option<u64>) -> Value {
    json!({
        "message_type": "status",
        "seconds_elapsed": sample.elapsed.as_secs(),
        "seconds_remaining": seconds_left(sample, rate, total),
        "entries_done": sample.entries,
        "bytes_total": total,
        "bytes_done": sample.bytes_done,
        "bytes_read": sample.bytes_read,
        "bytes_stored": sample.bytes_stored,
        "bytes_per_second": rate,
        "partitions_done": sample.partitions_done,
        "partitions_open": sample.partitions_open,
    })
}
/// Shows the progress of one job.
pub(crate) struct Watcher {
    output: Output,
    clock: Arc<dyn Clock>,
    meters: Vec<Arc<Meter>>,
    job: watch::Receiver<Progress>,
    /// Bytes that there are to do, once somebody knows.
    total: watch::Receiver<Option<u64>>,
}

impl Watcher {
    /// Watches what the workers measure and what the coordinator has accepted.
    pub(crate) fn new(
        output: Output,
        clock: Arc<dyn Clock>,
        meters: Vec<Arc<Meter>>,
        job: watch::Receiver<Progress>,
        total: watch::Receiver<Option<u64>>,
    ) -> Self {
        Self { output, clock, meters, job, total }
    }

    /// Shows it until dropped.
    pub(crate) async fn run(&self) {
        let Some(interval) = self.output.progress_interval() else { return std::future::pending().await };
        let start = self.clock.monotonic();
        let mut display = Display::new(self.output.clone());
        loop {
            self.clock.sleep(interval).await;
            let sample = self.sample(self.clock.monotonic().saturating_sub(start));
            let total = *self.total.borrow();
            display.show(sample, total);
        }
    }

    fn sample(&self, elapsed: Duration) -> Sample {
        let sum = |counter: fn(&Meter) -> &std::sync::atomic::AtomicU64| {
            self.meters.iter().map(|meter| counter(meter).load(Ordering::Relaxed)).sum::<u64>()
        };
        let job = self.job.borrow();
        let bytes_stored = sum(|meter| &meter.bytes_stored);
        Sample {
            elapsed,
            entries: sum(|meter| &meter.entries),
            // A file counts when it is done; what was stored of a long one was done before.
            bytes_done: sum(|meter| &meter.bytes_done).max(bytes_stored),
            bytes_read: sum(|meter| &meter.bytes_read),
            bytes_stored,
            partitions_done: job.tasks_done,
            partitions_open: job.tasks_open,
        }
    }
}

/// Bytes a second between two samples.
fn rate(earlier: &Sample, later: &Sample) -> u64 {
    let millis = u64::try_from((later.elapsed.saturating_sub(earlier.elapsed)).as_millis()).unwrap_or(u64::MAX);
    let bytes = later.bytes_done.saturating_sub(earlier.bytes_done);
    bytes.saturating_mul(1000).checked_div(millis).unwrap_or(0)
}

/// Seconds to the end at this rate, once total and rate are known.
fn seconds_left(sample: &Sample, rate: u64, total: Option<u64>) -> Option<u64> {
    total?.saturating_sub(sample.bytes_done).checked_div(rate)
}

fn line(sample: &Sample, rate: u64, total: Option<u64>) -> String {
    let mut text = format!("[{}] ", duration_text(sample.elapsed));
    if let Some(total) = total.filter(|total| *total > 0) {
        let percent = (sample.bytes_done.min(total) as f64) * 100.0 / total as f64;
        text.push_str(&format!("{percent:.1}%  "));
    }
    text.push_str(&format!("{} entries, {}", sample.entries, bytes_text(sample.bytes_done)));
    if let Some(total) = total {
        text.push_str(&format!(" of {}", bytes_text(total)));
    }
    text.push_str(&format!(", {}/s", bytes_text(rate)));
    if sample.bytes_stored > 0 {
        text.push_str(&format!(", {} stored", bytes_text(sample.bytes_stored)));
    }
    let partitions = sample.partitions_done + sample.partitions_open;
    if partitions > 1 {
        text.push_str(&format!(", {} of {partitions} partitions", sample.partitions_done));
    }
    if let Some(left) = seconds_left(sample, rate, total) {
        text.push_str(&format!(", {} left", duration_text(Duration::from_secs(left))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_and_how_fast() {
        let sample = Sample {
            elapsed: Duration::from_secs(12),
            entries: 345,
            bytes_done: 3 << 20,
            bytes_stored: 1 << 20,
            partitions_done: 2,
            partitions_open: 3,
            ..Sample::default()
        };
        let expected = "[0:12] 345 entries, 3.000 MiB, 1.000 MiB/s, 1.000 MiB stored, 2 of 5 partitions";
        assert_eq!(line(&sample, 1 << 20, None), expected);
        let expected = "[0:12] 25.0%  345 entries, 3.000 MiB of 12.000 MiB, 1.000 MiB/s, 1.000 MiB stored, \
                        2 of 5 partitions, 0:09 left";
        assert_eq!(line(&sample, 1 << 20, Some(12 << 20)), expected);
        let alone = Sample { partitions_done: 0, partitions_open: 1, ..sample };
        assert!(!line(&alone, 0, Some(0)).contains("partitions"));
    }

    #[test]
    fn programs_are_told_the_same() {
        let sample = Sample { bytes_done: 3 << 20, ..Sample::default() };
        let told = status(&sample, 1 << 20, Some(12 << 20));
        assert_eq!((told["bytes_total"].as_u64(), told["seconds_remaining"].as_u64()), (Some(12 << 20), Some(9)));
        let early = status(&sample, 0, Some(12 << 20));
        assert!(early["seconds_remaining"].is_null());
        assert!(status(&sample, 1, None)["bytes_total"].is_null());
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let at =
            |seconds, bytes_done| Sample { elapsed: Duration::from_secs(seconds), bytes_done, ..Sample::default() };
        assert_eq!(rate(&at(2, 1000), &at(12, 21_000)), 2000);
        assert_eq!(rate(&at(2, 1000), &at(2, 2000)), 0);
    }
}
