//! The task path of Celery, see `bench/peers/noop.py`.

use serde::Deserialize;
use tests::services::rabbitmq::Vhosts;
use tests::services::redis::PrivateRedis;

use super::cost::{Servers, ms_a_task};
use super::{Settings, Turn};
use crate::peers::Peers;
use crate::spread::sorted;

/// How Celery is set, as `bench/peers/application.py` has it.
pub(super) const SETTINGS: [&str; 3] = ["defaults", "late", "durable"];

/// Databases of the private Redis; longshore has the first.
const DATABASE: usize = 1;

/// Celery on virtual hosts of its own, one for each of [`SETTINGS`]: their queues have the same name and other properties.
pub(super) struct Celery {
    peers: Peers,
    vhosts: Vhosts,
    backend: String,
    folder: tempfile::TempDir,
}

/// What `noop.py` prints.
#[derive(Deserialize)]
struct Done {
    seconds: f64,
    cpu_seconds: f64,
    latencies_ms: Vec<f64>,
}

impl Celery {
    /// Without a worker yet.
    pub(super) fn new(redis: &PrivateRedis) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for Celery: {error}"))?;
        let backend = format!("{}/{DATABASE}", redis.url(""));
        Ok(Self { peers: Peers::find()?, vhosts: Vhosts::new("bench-celery", SETTINGS.len()), backend, folder })
    }

    /// One turn with one of [`SETTINGS`], on workers that are started for it.
    pub(super) fn turn(
        &self,
        number: usize,
        name: &str,
        settings: Settings,
        servers: &Servers,
    ) -> Result<Turn, String> {
        let peers = self.peers.celery(&self.vhosts.url(number), &self.backend, name);
        let workers = peers.start_workers("noop", settings.slots, self.folder.path())?;
        let run = |words: &[&str]| {
            let done = peers.run::<Done>("noop.py", words);
            done.map_err(|error| format!("{error}\nCelery's workers said:\n{}", workers.said()))
        };
        // They need seconds to start: the first program warms them up.
        run(&["flood", "10"])?;
        let before = servers.read(workers.id(), 0.0);
        let flood = run(&["flood", &settings.tasks.to_string()])?;
        let after = servers.read(workers.id(), flood.cpu_seconds);
        let paced = run(&["paced", &settings.paced.to_string(), &settings.rate.to_string()])?;
        Ok(Turn {
            tasks_per_second: settings.tasks as f64 / flood.seconds,
            latencies_ms: sorted(paced.latencies_ms),
            cpu_ms: ms_a_task(before, after, settings.tasks),
        })
    }
}
