//! `pipeline`: a backup by a fleet, beside archives that Celery's workers make and upload to the same emulator.
//!
//! Each turn begins with an empty emulator and makes two runs over the same files. What each program does stands in
//! docs/benchmarks.md.

use std::path::Path;

use serde::Deserialize;
use tests::azurite::{ACCOUNT, Azurite, key_text};
use tests::services::rabbitmq::Vhosts;
use tests::services::redis::PrivateRedis;

use crate::arguments::Arguments;
use crate::harbour::{Budget, Harbour};
use crate::peers::Peers;
use crate::spread::shown;
use crate::usage::Usage;
use crate::{data, interrupted};

/// As the batches of `bench/peers/archive.py`; a file of twice that length is read in ranges.
const BUDGET: Budget = Budget { entries: 1000, bytes: 64 << 20, threshold: 128 << 20, range: 64 << 20 };
/// How the home-made pipeline compresses.
const COMPRESSIONS: [&str; 2] = ["gzip", "zstd"];
/// The container of the fleet's repository.
const FLEET_CONTAINER: &str = "box";
const MIB: f64 = 1048576.0;

/// How much is done.
struct Settings {
    pairs: u64,
    workers: u64,
}

/// What one program did in one turn: two runs.
#[derive(Default)]
struct Turn {
    mib_per_second: [f64; 2],
    stored_mib: [f64; 2],
    cpu_seconds: [f64; 2],
    /// The peaks of all workers together, and that of the largest process.
    peak_mib: [f64; 2],
}

/// What `archive.py` prints.
#[derive(Deserialize)]
struct Done {
    seconds: f64,
    stored_bytes: u64,
}

/// Measures and prints.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::parse(words)?;
    let settings = Settings { pairs: arguments.number("--pairs", 3)?, workers: arguments.number("--workers", 2)? };
    let (files, mib) = (arguments.number("--files", 10_000)?, arguments.number("--mib", 256)?);
    arguments.end()?;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for the data: {error}"))?;
    data::small_files(&folder.path().join("small"), files)?;
    data::large_file(&folder.path().join("large"), mib)?;
    let data_mib = data::bytes_below(folder.path())? as f64 / MIB;
    let peers = Peers::find()?;
    let mut ours = Vec::new();
    let mut theirs = COMPRESSIONS.map(|_| Vec::new());
    for _ in 0..settings.pairs {
        ours.push(fleet_turn(&peers, &settings, folder.path(), data_mib)?.figures());
        for (turns, compression) in theirs.iter_mut().zip(COMPRESSIONS) {
            interrupted::check()?;
            let turn = home_made_turn(&peers, &settings, folder.path(), data_mib, compression)?;
            turns.push(turn.figures());
        }
    }
    let Settings { pairs, workers } = settings;
    println!("{pairs} pairs, {workers} workers, {files} small files and one of {mib} MiB: {data_mib:.0} MiB");
    print("longshore", 1, &ours);
    for (turns, compression) in theirs.iter().zip(COMPRESSIONS) {
        print(&format!("tar and {compression}"), 1, turns);
        let ratios: Vec<_> = ours.iter().zip(turns).map(|(ours, theirs)| ratios(ours, theirs)).collect();
        print(&format!("longshore/{compression}"), 3, &ratios);
    }
    Ok(())
}

fn fleet_turn(peers: &Peers, settings: &Settings, data: &Path, data_mib: f64) -> Result<Turn, String> {
    let azurite = Azurite::start();
    let peers = with_azure(peers, &azurite);
    let endpoints: Vec<String> = (0..settings.workers).map(|_| azurite.endpoint()).collect();
    let harbour = Harbour::start("bench-pipeline", azurite, data, BUDGET, &endpoints, &[])?;
    let mut turn = Turn::default();
    for run in 0..2 {
        let job = harbour.back_up(data, &[])?;
        let stored_bytes = peers.run("stored.py", &[FLEET_CONTAINER])?;
        turn.note(run, data_mib / job.seconds, stored_bytes, job.cpu_seconds);
    }
    turn.peak_mib = peaks(&harbour.workers());
    Ok(turn)
}

fn home_made_turn(
    peers: &Peers,
    settings: &Settings,
    data: &Path,
    data_mib: f64,
    compression: &str,
) -> Result<Turn, String> {
    let (azurite, vhosts) = (Azurite::start(), Vhosts::new("bench-pipeline", 1));
    let redis = PrivateRedis::start("bench-pipeline", &[]);
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for Celery: {error}"))?;
    let peers = with_azure(peers, &azurite).celery(&vhosts.url(0), &redis.url(""), "late");
    let workers = peers.start_workers("archive", settings.workers, folder.path())?;
    let data = data.display().to_string();
    let cpu = || Usage::of([workers.id()]).cpu_seconds + Usage::of_one(std::process::id()).cpu_seconds;
    let mut turn = Turn::default();
    for (run, name) in ["first", "second"].into_iter().enumerate() {
        let before = cpu();
        let done = peers.run::<Done>("archive.py", &[&data, name, compression]);
        let done = done.map_err(|error| format!("{error}\nCelery's workers said:\n{}", workers.said()))?;
        turn.note(run, data_mib / done.seconds, done.stored_bytes, cpu() - before);
    }
    turn.peak_mib = peaks(&[workers.id()]);
    Ok(turn)
}

/// The emulator's account, as the Azure SDK wants it.
fn with_azure(peers: &Peers, azurite: &Azurite) -> Peers {
    let (key, endpoint) = (key_text(), azurite.endpoint());
    let text = format!("DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};");
    peers.clone().variable("BENCH_AZURE", &text)
}

/// Of all these processes and everything below them, and of the largest one.
fn peaks(workers: &[u32]) -> [f64; 2] {
    [Usage::of(workers.iter().copied()).peak_mib, Usage::largest_mib(workers.iter().copied())]
}

impl Turn {
    fn note(&mut self, run: usize, mib_per_second: f64, stored_bytes: u64, cpu_seconds: f64) {
        self.mib_per_second[run] = mib_per_second;
        self.stored_mib[run] = stored_bytes as f64 / MIB;
        self.cpu_seconds[run] = cpu_seconds;
    }

    /// Every figure, in the order of [`COLUMNS`].
    fn figures(&self) -> [f64; COLUMNS.len()] {
        let ([a, b], [c, d]) = (self.mib_per_second, self.stored_mib);
        let ([e, f], [g, h]) = (self.cpu_seconds, self.peak_mib);
        [a, b, c, d, e, f, g, h]
    }
}

/// The heads of the figures.
const COLUMNS: [&str; 8] = [
    "first run MiB/s",
    "second run MiB/s",
    "stored after first MiB",
    "stored after second MiB",
    "CPU s first",
    "CPU s second",
    "peak MiB all workers",
    "peak MiB largest process",
];

/// A line for each of [`COLUMNS`], over all turns.
fn print(name: &str, places: usize, turns: &[[f64; COLUMNS.len()]]) {
    for (column, head) in COLUMNS.iter().enumerate() {
        println!("{name:<20} {head:<26} {:>26}", shown(turns.iter().map(|figures| figures[column]), places));
    }
}

fn ratios(ours: &[f64; COLUMNS.len()], theirs: &[f64; COLUMNS.len()]) -> [f64; COLUMNS.len()] {
    std::array::from_fn(|column| ours[column] / theirs[column])
}
