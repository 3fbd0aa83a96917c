//! `services`: what the black box tests need beside the toolchain, found or installed. Nothing is skipped: what is
//! missing is installed, or the run fails and says what to do.
//!
//! Brokers and stores that later tests need become further entries of [`SERVICES`].

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
];

/// Where the tools are that tests are told about.
pub(crate) struct Tools {
    pub(crate) restic: PathBuf,
}

/// What unit tests need: some ask stock restic, some set attributes with the file system's own tools.
pub(crate) fn provide_for_unit_tests() -> Result<Tools, Failure> {
    packages::provide()?;
    restic::provide()?;
    restic::find().map(|restic| Tools { restic: restic.path }).ok_or_else(restic::missing)
}

/// Provides every service, in order.
pub(crate) fn provide_all() -> Result<Tools, Failure> {
    for service in SERVICES {
        let found = (service.provide)()?;
        println!("{}: {found} ({})", service.name, service.purpose);
    }
    restic::find().map(|restic| Tools { restic: restic.path }).ok_or_else(restic::missing)
}
