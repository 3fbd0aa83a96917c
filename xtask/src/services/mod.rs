//! `services`: what the black box tests need beside the toolchain, found or installed. Nothing is skipped: what is
//! missing is installed, or the run fails and says what to do.
//!
//! Brokers and stores that later tests need become further entries of [`SERVICES`].

mod azurite;
mod packages;
mod restic;

use std::path::PathBuf;

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
    Service { name: "azurite", purpose: "the emulator of Azure Blob Storage", provide: azurite::provide },
];

/// Where the tools are that tests are told about.
pub(crate) struct Tools {
    pub(crate) restic: PathBuf,
    /// Only the black box tests have it.
    pub(crate) azurite: Option<PathBuf>,
}

/// Stock restic alone: some unit tests ask it.
pub(crate) fn provide_restic() -> Result<Tools, Failure> {
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
