//! `scaling`: the throughput of a fleet with more and more workers, each of which may upload so many bytes a second.
//!
//! On a machine with few cores more workers cannot do more work; what can be seen is whether the fleet itself (broker, job
//! state, coordinator, and how work is split) holds them up. So each worker reaches the storage through a line of its own
//! that passes bodies of requests at a fixed rate, as a network of that speed would.

use tests::azurite::{ACCOUNT, Azurite};
use tests::proxy::Proxy;

use crate::arguments::Arguments;
use crate::harbour::{Budget, Harbour};
use crate::{data, interrupted};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// How much is done.
#[derive(Clone, Copy)]
struct Settings {
    /// Up to so many workers.
    most: u64,
    /// What each may upload a second.
    kib_per_second: u64,
    /// So long each has work to do.
    seconds: u64,
    /// What one task reads.
    task_kib: u64,
}

/// What a fleet of one size did.
struct Row {
    workers: u64,
    mib: f64,
    seconds: f64,
    cpu_seconds: f64,
    coordinator_cpu_seconds: f64,
}

/// Measures and prints.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::parse(words)?;
    let settings = Settings {
        most: arguments.number("--most", 32)?,
        kib_per_second: arguments.number("--kib-per-second", 1024)?,
        seconds: arguments.number("--seconds", 40)?,
        task_kib: arguments.number("--task-kib", 1024)?,
    };
    arguments.end()?;
    let Settings { kib_per_second, seconds, task_kib, .. } = settings;
    println!("{kib_per_second} KiB/s a worker, {seconds} s of work for each, in tasks of {task_kib} KiB");
    println!(
        "{:>7} {:>8} {:>9} {:>10} {:>10} {:>12} {:>9} {:>18} {:>10}",
        "workers", "MiB", "seconds", "MiB/s", "ideal", "efficiency", "CPU s", "coordinator CPU s", "share"
    );
    let sizes = std::iter::successors(Some(1), |workers| Some(workers * 2)).take_while(|size| *size <= settings.most);
    for workers in sizes {
        interrupted::check()?;
        print(&measure(workers, settings)?, settings);
    }
    Ok(())
}

/// One backup of data that no fleet stored before.
fn measure(workers: u64, settings: Settings) -> Result<Row, String> {
    let Settings { kib_per_second, seconds, task_kib, .. } = settings;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for the data: {error}"))?;
    let files = workers * seconds * kib_per_second / task_kib;
    data::equal_files(folder.path(), files, task_kib * KIB)?;
    let azurite = Azurite::start();
    let lines: Vec<Proxy> = (0..workers).map(|_| Proxy::before(azurite.port())).collect();
    let mut endpoints = Vec::new();
    for line in &lines {
        line.limit(kib_per_second * KIB);
        endpoints.push(format!("http://127.0.0.1:{}/{ACCOUNT}", line.port()));
    }
    // One file a task; packs of the least size, so that a worker's last pack is a small part of its work.
    let budget = Budget { entries: 1_000_000, bytes: task_kib * KIB, threshold: 1 << 40, range: 1 << 40 };
    let harbour = Harbour::start("bench-scaling", azurite, folder.path(), budget, &endpoints, &["--slots", "4"])?;
    let job = harbour.back_up(folder.path(), &["--pack-size", "4", "--compression", "off"])?;
    Ok(Row {
        workers,
        mib: (files * task_kib * KIB) as f64 / MIB as f64,
        seconds: job.seconds,
        cpu_seconds: job.cpu_seconds,
        coordinator_cpu_seconds: job.coordinator_cpu_seconds,
    })
}

fn print(row: &Row, settings: Settings) {
    let Row { workers, mib, seconds, cpu_seconds, coordinator_cpu_seconds } = row;
    let (rate, ideal) = (mib / seconds, (workers * settings.kib_per_second) as f64 / 1024.0);
    println!(
        "{workers:>7} {mib:>8.0} {seconds:>9.1} {rate:>10.2} {ideal:>10.2} {:>10.0} % {cpu_seconds:>9.1} \
         {coordinator_cpu_seconds:>18.2} {:>8.1} %",
        100.0 * rate / ideal,
        100.0 * coordinator_cpu_seconds / seconds
    );
}
