//! `services`: what the black box tests need beside the toolchain, found or installed. Nothing is skipped: what is
//! missing is installed, or the run fails and says what to do.
//!
//! Stores that later tests need become further entries of [`SERVICES`].

mod azurite;
mod packages;
mod rabbitmq;
mod redis;
mod restic;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Failure;

/// One thing that tests need.
struct Service {
    name: &'static str,
    /// What it is for, shown beside the name.
    purpose: &'static str,
    /// Finds or installs it; returns version and place for the reader.
    provide: fn() -> Result<String, Failure>,
}

const SERVICES: &[Service] = &[
    Service {
        name: "packages",
        purpose: "oracles and file system tools of the distribution",
        provide: packages::provide,
    },
    Service { name: "restic", purpose: "stock restic, the judge of every repository", provide: restic::provide },
    Service { name: "rabbitmq", purpose: "the task queue of a fleet", provide: rabbitmq::provide },
    Service { name: "redis", purpose: "the job state of a fleet", provide: redis::provide },
    Service { name: "azurite", purpose: "the emulator of Azure Blob Storage", provide: azurite::provide },
];

/// A service that does not listen by then does not start.
const START_SECONDS_MAX: u32 = 120;

/// Where the tools are that tests are told about.
pub(crate) struct Tools {
    pub(crate) restic: PathBuf,
    /// Only the black box tests have it.
    pub(crate) azurite: Option<PathBuf>,
}

/// What unit tests need: some ask stock restic, some set attributes with the file system's own tools.
pub(crate) fn provide_for_unit_tests() -> Result<Tools, Failure> {
    packages::provide_for_unit_tests()?;
    restic::provide()?;
    let restic = restic::find().ok_or_else(restic::missing)?;
    Ok(Tools { restic: restic.path, azurite: None })
}

/// Provides every service, in order.
pub(crate) fn provide_all() -> Result<Tools, Failure> {
    for service in SERVICES {
        let found = (service.provide)()?;
        println!("{}: {found} ({})", service.name, service.purpose);
    }
    let restic = restic::find().ok_or_else(restic::missing)?;
    let azurite = azurite::find().ok_or_else(azurite::missing)?;
    Ok(Tools { restic: restic.path, azurite: Some(azurite) })
}

/// Whether somebody listens on this port of this machine.
fn is_listening(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Waits until `name` listens.
#[allow(clippy::disallowed_methods, reason = "a service of another process is waited for")]
fn wait_for(name: &str, port: u16) -> Result<(), Failure> {
    for _ in 0..START_SECONDS_MAX {
        if is_listening(port) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Err(Failure::Missing {
        what: name.to_owned(),
        remedy: format!("it was started and does not listen on port {port}"),
    })
}
