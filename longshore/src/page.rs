//! The page of a process of the fleet: `--listen`.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use fleet::metrics::{MeteredState, Role};
use fleet::page::Page;

use crate::exit::CommandError;
use crate::fleet_doors::FleetDoors;
use crate::session::Session;

/// Whether and where there is a page.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PageFlags {
    /// Serve /metrics, /healthz and /readyz here, such as 0.0.0.0:9464; without it they are not served.
    ///
    /// The page asks for no password: open it to those only who watch over the fleet.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl PageFlags {
    /// Opens the page, if one is wanted. The process is not ready before its doors are watched.
    ///
    /// # Errors
    /// Somebody else listens there.
    pub(crate) fn open(&self, session: &Session, role: Role, pools: &[String]) -> Result<DaemonPage, CommandError> {
        let Some(address) = self.listen else { return Ok(DaemonPage(None)) };
        let page = Page::open(address, role, pools, session.clock.clone())?;
        tracing::info!(address = %page.address(), "serves its page");
        Ok(DaemonPage(Some(page)))
    }
}

/// A page, if there is one.
pub(crate) struct DaemonPage(Option<Page>);

impl DaemonPage {
    /// Watches the doors and the repository, which is open; returns the doors with what must be counted at them.
    pub(crate) fn watch(&self, session: &Session, doors: FleetDoors) -> FleetDoors {
        let Some(page) = &self.0 else { return doors };
        page.watch_queue(&doors.rabbit);
        // Not through what is counted: looking is no work.
        page.watch_state(doors.state.clone());
        page.watch_repository(session.storage_counters.clone());
        let state = Arc::new(MeteredState::new(doors.state, session.clock.clone()));
        FleetDoors { state, ..doors }
    }

    /// Not ready once it leaves.
    pub(crate) fn until_it_leaves(&self, is_leaving: impl Fn() -> bool + Send + Sync + 'static) {
        if let Some(page) = &self.0 {
            page.ready_unless_leaving(is_leaving);
        }
    }

    /// Asks for figures before each page.
    pub(crate) fn ask(&self, figures: impl Fn() + Send + 'static) {
        if let Some(page) = &self.0 {
            page.exporter().ask(figures);
        }
    }

    /// Whether somebody may look.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }
}
